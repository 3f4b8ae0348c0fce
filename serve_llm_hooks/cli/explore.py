"""``explore``: starts that are drawn from seeds, to find what nobody thought of, for a step of CI."""

from __future__ import annotations

import os
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_llm_hooks_testing import explore_hooks

from .model import Model
from .options import NAMES_HOOKS, AppDir, AsJson, ModelIds, Targets
from .output import Screen, write_json
from .refused import BAD_ANSWER, CONFIG_ERRORS, exit_if_refused
from .store import FakeStoreFolder, fake_store, store_hints
from .targets import models_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT_HELP = "Run hooks through drawn starts with faults, and list what breaks."
HELP = """Run hooks through starts that are drawn from seeds, on a fake cluster: nodes of all speeds, faults at any
moment, cancelled starts. List what does not hold, each with the smallest schedule that shows it, as a test to paste.
The hooks really run, here. Exit code 1: there are problems."""

EXAMPLES = """\b
Examples:
  serve-llm-hooks explore my_company.llm_hooks
  serve-llm-hooks explore config.yaml --seeds 1000
  serve-llm-hooks explore my_company.llm_hooks --seed 17 --json"""

Seeds = Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="How many seeds, from 0 on.")]
Seed = Annotated[list[int] | None, typer.Option("--seed", min=0, metavar="N", help="Only this seed; may be repeated.")]
Nodes = Annotated[int, typer.Option("--nodes", min=1, max=1000, metavar="N", help="How many nodes there are at most.")]


def explore(
    targets: Targets,
    model: ModelIds = None,
    seeds: Seeds = 200,
    seed: Seed = None,
    nodes: Nodes = 4,
    store: FakeStoreFolder = None,
    app_dir: AppDir = ".",
    as_json: AsJson = False,
) -> None:
    """Explore the hooks of each model."""
    with exit_if_refused(), fake_store(store):
        explored = [_explored(each, seed or seeds, nodes) for each in models_of(targets, model or [], app_dir)]
    for each in explored:
        each["warnings"] += store_hints(store, [*(found["problem"] for found in each["problems"]), *each["warnings"]])
    if as_json:
        write_json({"version": 1, "models": explored})
    else:
        screen = Screen()
        for each in explored:
            _write(screen, each)
    if any(each["problems"] for each in explored):
        raise typer.Exit(BAD_ANSWER)


def _explored(model: Model, seeds: int | list[int], nodes: int) -> dict[str, Any]:
    problems: list[dict[str, Any]] = []
    starts = 0
    with model.its_process() as warned, _unheard():
        try:
            refs, model_id = _what(model)
            if refs:
                found = explore_hooks(*refs, model_id=model_id, seeds=seeds, nodes=nodes, check=False)
                starts = found.starts
                problems = [
                    {
                        "problem": each.problem,
                        "seeds": each.seeds,
                        "schedule": str(each.schedule),
                        "test": each.test,
                    }
                    for each in found.findings
                ]
        except CONFIG_ERRORS as error:
            problems = [{"problem": model.text_of(error), "seeds": [], "schedule": None, "test": None}]
    return {**model.as_json(), "starts": starts, "problems": problems, "warnings": warned}


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep what hooks print and log in hundreds of starts off the terminal; a test that is shown prints it again."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _what(model: Model) -> tuple[list[Any], str | None]:
    """Return what ``explore_hooks`` is given of a model; nothing if it has no hooks."""
    fields = model.hooks_fields()
    if not model.where:
        return list(fields.get("hooks") or ()), model.model_id
    has_hooks = model.needs_ray or any(fields.get(name) for name in NAMES_HOOKS)
    return ([model.config()] if has_hooks else []), None


def _write(screen: Screen, explored: dict[str, Any]) -> None:
    said = ", ".join(filter(None, [explored["application"], explored["config"]]))
    screen.line((f"model {explored['model_id']}", "bold"), f" ({said})" if said else "")
    if not explored["problems"]:
        starts = explored["starts"]
        result = f"no problem found in {starts} starts" if starts else "no hooks, so nothing is explored"
        screen.line((result, "green"), indent=2)
    for number, each in enumerate(explored["problems"], 1):
        screen.line((f"{number}. ", "bold red"), each["problem"], indent=2)
        if each["seeds"]:
            shown = ", ".join(map(str, each["seeds"][:5])) + (", ..." if len(each["seeds"]) > 5 else "")
            screen.line(f"seeds that show it: {shown}; the smallest schedule that does, as a test:", indent=5)
            screen.code(each["test"].rstrip(), indent=5)
    for text in explored["warnings"]:
        screen.line(("warning: ", "yellow"), text, indent=2)
