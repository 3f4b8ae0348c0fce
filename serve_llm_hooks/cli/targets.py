"""Targets of a command: a ``serve run`` YAML, or hooks by their references and the models to look at."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from serve_llm_hooks import load_hooks
from serve_llm_hooks_testing.serve_yaml import is_yaml

from .model import Model
from .refused import CONFIG_ERRORS, Refused
from .serve_config import read_models

if TYPE_CHECKING:
    from collections.abc import Sequence

ANY_MODEL = "any-model"
SOURCE = "s3://models"  # of hooks without a config: a bucket, so that there is something to download


def models_of(targets: Sequence[str], model_ids: Sequence[str], app_dir: str) -> list[Model]:
    """Return the models that a command is to look at.

    Args:
        targets: one YAML file, or references as ``hooks=[...]`` takes them.
        model_ids: only these models; of references, the models to look at.
        app_dir: the folder that modules of hooks are imported from, as ``serve run --app-dir`` does it.

    Raises:
        Refused: there is none, or no such folder.
    """
    folder = os.path.abspath(app_dir)
    if not os.path.isdir(folder):
        what = "no folder" if os.path.exists(folder) else "not there"
        raise Refused(f"--app-dir {app_dir}: {folder} is {what}; it is the folder that modules are imported from")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    files = [target for target in targets if is_yaml(target)]
    if not files:
        fields = {"hooks": list(targets), "model_loading_config": {"model_source": SOURCE}}
        return [Model(model_id, fields) for model_id in model_ids] or _named_by(targets)
    if len(targets) > 1:
        raise Refused("give one YAML file, or references of hooks, and not both")
    models = read_models(files[0])
    missing = [model_id for model_id in model_ids if model_id not in {model.model_id for model in models}]
    if missing:
        there = ", ".join(model.model_id for model in models)
        raise Refused(f"{files[0]} has no model {missing[0]!r}; it has: {there}")
    return [model for model in models if not model_ids or model.model_id in model_ids]


def _named_by(refs: Sequence[str]) -> list[Model]:
    """Return the models that hooks name, of a pattern the pattern; one that stands for any where they name none."""
    fields = {"hooks": list(refs), "model_loading_config": {"model_source": SOURCE}}
    anyone = Model(ANY_MODEL, fields)
    with anyone.its_process() as warned:
        try:
            hooks = load_hooks(*refs)
        except CONFIG_ERRORS:
            return [anyone]  # the command loads them again, and tells what is wrong
    names = dict.fromkeys(name for hook in hooks for name in hook.options.model_ids) or [ANY_MODEL]
    first, *others = [Model(name, fields) for name in names]
    return [replace(first, warned=tuple(warned)), *others]  # the library warns once
