"""``check``: what would fail in production, found on a fake cluster, for a step of CI."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from serve_llm_hooks_testing import FakeCluster, HarnessError, check_hooks

from .model import Model
from .options import NAMES_HOOKS, AppDir, AsJson, ModelIds, Targets
from .output import Screen, write_json
from .refused import BAD_ANSWER, CONFIG_ERRORS, exit_if_refused
from .store import FakeStoreFolder, fake_store, store_hints
from .targets import models_of

SHORT_HELP = "Run hooks through standard scenarios, and list what would fail."
HELP = """Run hooks through standard scenarios on a fake cluster (several nodes, vetoes, failures, a restart), and list
what would fail in production. The hooks really run, here. Exit code 1: there are problems."""

EXAMPLES = """\b
Examples:
  serve-llm-hooks check my_company.llm_hooks
  serve-llm-hooks check config.yaml
  serve-llm-hooks check hooks/disk.py --model llama-3-8b --json"""


def _a_limit(limit_s: float) -> float:
    """Return the limit.

    Raises:
        typer.BadParameter: the harness takes no such limit.
    """
    try:
        FakeCluster(real_sleep_limit_s=limit_s)
    except HarnessError as error:
        raise typer.BadParameter(str(error).replace("real_sleep_limit_s", "--real-sleep-limit")) from None
    return limit_s


Limit = Annotated[
    float,
    typer.Option(
        "--real-sleep-limit",
        callback=_a_limit,
        metavar="SECONDS",
        help="A hook that blocks for longer, in real time, is a problem. To import much, such as vLLM, is no blocking.",
    ),
]


def check(
    targets: Targets,
    model: ModelIds = None,
    app_dir: AppDir = ".",
    limit: Limit = 0.25,
    store: FakeStoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Check the hooks of each model."""
    with exit_if_refused(), fake_store(store):
        checked = [_checked(each, limit) for each in models_of(targets, model or [], app_dir)]
    for each in checked:
        each["warnings"] += store_hints(store, [*each["problems"], *each["warnings"]])
    if as_json:
        write_json({"version": 1, "models": checked})
    else:
        screen = Screen()
        for each in checked:
            _write(screen, each)
    if any(each["problems"] for each in checked):
        raise typer.Exit(BAD_ANSWER)


def _checked(model: Model, limit_s: float) -> dict[str, Any]:
    problems: list[str] = []
    notes: list[str] = []
    runs = 0
    with model.its_process() as warned:
        try:
            fields = model.hooks_fields()
            found = None
            if not model.where:
                hooks = fields.get("hooks") or ()
                found = check_hooks(*hooks, model_id=model.model_id, check=False, real_sleep_limit_s=limit_s)
            elif model.needs_ray or any(fields.get(name) for name in NAMES_HOOKS):
                found = check_hooks(model.config(), check=False, real_sleep_limit_s=limit_s)
            if found is not None:
                problems, notes, runs = found.problems, found.notes, len(found.runs)
        except CONFIG_ERRORS as error:
            problems = [model.text_of(error)]
    return {
        **model.as_json(),
        "runs": runs,
        "problems": problems,
        "notes": notes,
        "warnings": warned,
    }


def _write(screen: Screen, checked: dict[str, Any]) -> None:
    said = ", ".join(filter(None, [checked["application"], checked["config"]]))
    screen.line((f"model {checked['model_id']}", "bold"), f" ({said})" if said else "")
    if not checked["problems"]:
        result = f"no problem found in {checked['runs']} runs" if checked["runs"] else "no hooks, so nothing is checked"
        screen.line((result, "green"), indent=2)
    for number, problem in enumerate(checked["problems"], 1):
        screen.line((f"{number}. ", "bold red"), problem, indent=2)
    for text in checked["notes"]:
        screen.line("note: ", text, indent=2)
    for text in checked["warnings"]:
        screen.line(("warning: ", "yellow"), text, indent=2)
