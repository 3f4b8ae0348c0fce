"""Log at the beginning of a start which hooks run, and which do not and why."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._core.messages import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._core.hook import Hook
    from .._core.selection import Selection


logger: logging.Logger = logging.getLogger("serve_llm_hooks")

LEFT_OUT_BY = "hooks_left_out_by"  # an attribute of the record of such a warning: the veto, for who filters the log


def warn_of_left_out(model_id: str, hooks: Sequence[Hook], why: str) -> None:
    """Warn of hooks that a veto leaves out: whoever wrote them may believe that they run.

    A phase callback is called at every phase, and has not chosen those that are left out.
    """
    names = [f"{hook.ref} at {hook.point}" for hook in hooks if hook.instance is None or hook.method]
    if names:
        logger.warning(
            "model %r: %s. Hooks that therefore do not run: %s. To skip the downloads and keep the hooks, set "
            'ctx.worker_node_download_model = "NONE" and veto nothing.',
            model_id,
            why,
            ", ".join(names),
            extra={LEFT_OUT_BY: why},
        )


def tell_files(model_id: str, modes: str, bucket: str, where: str) -> None:
    """Log which files nodes download, where a hook has chosen them.

    Args:
        model_id: the model.
        modes: the download modes.
        bucket: what they are downloaded from.
        where: the nodes, in words.
    """
    logger.info("model %r: a hook chose what %s from %s: %s", model_id, where, bucket, modes)


def warn_of_files(model_id: str, modes: str, source: str, where: str) -> None:
    """Warn of a choice of files that comes to nothing, because nothing is downloaded before the engine starts."""
    logger.warning(
        "model %r: a hook chose what %s (%s), which does nothing: %s is no bucket, so the engine itself loads all of "
        "the model from there. To load it from elsewhere, set ctx.model_path.",
        model_id,
        where,
        modes,
        source,
    )


def announce(model_id: str, selection: Selection, not_named: Iterable[Hook]) -> None:
    """Log the hooks of a start.

    Args:
        model_id: the model.
        selection: the hooks that run, and those that are turned off.
        not_named: hooks that are registered for the model here, but that its config does not name.
    """
    names = [hook.ref for hook in selection.hooks]
    logger.info("model %r: %s: %s", model_id, counted(len(names), "hook"), ", ".join(names) or "none")
    others = [hook.ref for hook in not_named]
    if others:
        logger.info(
            "model %r: registered for it, but not named in its config's hooks=[...], so not run: %s",
            model_id,
            ", ".join(others),
        )
    off = [f"{hook.ref} at {hook.point}" for hooks in selection.disabled.values() for hook, _ in hooks]
    if off:
        logger.warning(
            "model %r: SERVE_LLM_HOOKS_DISABLE=%r turns off %d of its hooks, which do not run: %s",
            model_id,
            selection.disable_variable,
            len(off),
            ", ".join(off),
        )
    for entry, suggestion in selection.unmatched:  # perhaps another model's: the environment may serve several
        level = logging.WARNING if suggestion else logging.INFO
        text = "model %r: %r in SERVE_LLM_HOOKS_DISABLE is no hook of this model%s"
        logger.log(level, text, model_id, entry, suggestion)
