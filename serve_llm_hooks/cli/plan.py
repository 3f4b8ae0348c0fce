"""``plan``: the hooks that would run, point by point, and those that would not and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from serve_llm_hooks import HOOK_POINTS, plan_hooks

from .options import AppDir, AsJson, ModelIds, Targets
from .output import Screen, write_json
from .refused import BAD_ANSWER, CONFIG_ERRORS, exit_if_refused
from .targets import models_of
from .values import shown

if TYPE_CHECKING:
    from serve_llm_hooks import Hook, HookPlan

    from .model import Model

SHORT_HELP = "Show which hooks would run, in their order. Nothing runs."
HELP = """Show which hooks would run, in their order, and which would not and why. Nothing runs; hooks' modules are
imported. Exit code 1: a model would not start."""

EXAMPLES = """\b
Examples:
  serve-llm-hooks plan config.yaml
  serve-llm-hooks plan my_company.llm_hooks --model llama-3-8b
  serve-llm-hooks plan hooks/disk.py:check_disk --json"""

# Options that have a place of their own; others, of later versions, are shown by their names.
_PLACED = ("point", "model_ids", "order", "before", "after", "timeout_s", "on_error")


def plan(targets: Targets, model: ModelIds = None, app_dir: AppDir = ".", as_json: AsJson = False) -> None:
    """Show the plan of each model."""
    with exit_if_refused():
        plans = [_planned(each) for each in models_of(targets, model or [], app_dir)]
    if as_json:
        write_json({"version": 1, "models": plans})
    else:
        screen = Screen()
        for number, each in enumerate(plans):
            if number:
                screen.blank()
            _write(screen, each)
    if any(each["problem"] for each in plans):
        raise typer.Exit(BAD_ANSWER)


def _planned(model: Model) -> dict[str, Any]:
    """Return the plan of a model as JSON has it."""
    found: HookPlan | None = None
    problem: str | None = None
    with model.its_process() as warned:
        try:
            found = plan_hooks(model.config())
        except CONFIG_ERRORS as error:
            problem = model.text_of(error)
    hooks = [] if found is None else [_described(hook, found.on_error) for hook in found.hooks]
    refused = [hook for hook in (() if found is None else found.hooks) if model.refuses(hook)]
    if refused:
        names = ", ".join(f"{hook.path} at {hook.point}" for hook in refused)
        problem = (
            f"Ray's own builder reaches no point in the engine's processes, or after its start: {names}. Write "
            "import_path: serve_llm_hooks.ray:build_openai_app"
        )
    return {
        **model.as_json(),
        "problem": problem,
        "hooks": hooks,
        "not_run": []
        if found is None
        else [{**_described(hook, found.on_error), "why": why} for hook, why in found.not_run],
        "warnings": warned,
    }


def _described(hook: Hook, on_error: str) -> dict[str, Any]:
    options = hook.options
    file, line = hook.location or (None, None)
    others = {name: value for name, value in options._asdict().items() if name not in _PLACED and value}
    return {
        "point": hook.point,
        "where": HOOK_POINTS[hook.point].where,
        "hook": hook.path,
        "phase": hook.phase or None,
        "models": list(options.model_ids),
        "order": options.order,
        "before": list(options.before),
        "after": list(options.after),
        "timeout_s": options.timeout_s,
        "on_error": options.on_error or on_error,
        "is_span": hook.is_span,
        **{name: shown("", value) for name, value in others.items()},
        "parameters": {name: shown(name, value) for name, value in hook.parameters.items()},
        "file": file,
        "line": line,
    }


def _write(screen: Screen, planned: dict[str, Any]) -> None:
    said = ", ".join(filter(None, [planned["application"], planned["config"]]))
    screen.line((f"model {planned['model_id']}", "bold"), f" ({said})" if said else "")
    if planned["problem"]:
        screen.line(("would not start: ", "bold red"), planned["problem"], indent=2)
    elif not planned["hooks"]:
        screen.line("no hook would run", indent=2)
    point = ""
    for number, hook in enumerate(planned["hooks"], 1):
        if hook["point"] != point:
            point = hook["point"]
            screen.line((point, "bold cyan"), f", {HOOK_POINTS[point].runs}", indent=2)
        _write_hook(screen, f"{number}. ", hook)
    if planned["not_run"]:
        screen.line(("will not run", "bold yellow"), indent=2)
        for hook in planned["not_run"]:
            screen.line((hook["hook"], "bold"), f" at {hook['point']}: {hook['why']}", indent=4)
            screen.line((_place(hook), "dim"), indent=6)
    for text in planned["warnings"]:
        screen.line(("warning: ", "yellow"), text, indent=2)


def _write_hook(screen: Screen, number: str, hook: dict[str, Any]) -> None:
    screen.line(number, (hook["hook"], "bold"), indent=4)
    screen.line((_place(hook), "dim"), indent=7)
    during = HOOK_POINTS[hook["point"]].during
    warns = during == "start" and hook["on_error"] == "warn"
    said = [_lasts(hook)] if hook["is_span"] or hook.get("until") else []
    said += [f"phase {hook['phase']}"] if hook["phase"] else []
    said += [f"order {hook['order']}"] if hook["order"] else []
    said += [f"{side} {', '.join(hook[side])}" for side in ("before", "after") if hook[side]]
    said += [f"timeout {hook['timeout_s']:g} s" if hook["timeout_s"] else _NO_TIMEOUT[during]]
    if once := hook.get("once_per_node"):
        said += ["once per node and rollout" if once is True else f"once per node for {once!r}"]
    said += ["a failure is a warning" if warns else _FAILURE[during]]
    said += [f"{name} {value}" for name, value in hook.items() if name not in _WRITTEN and value]
    screen.line("; ".join(said), indent=7)
    for name, value in hook["parameters"].items():
        screen.line(f"{name} = {value!r}" if isinstance(value, str) else f"{name} = {value}", indent=7)


# What comes of a hook by when its point runs, where its own options say nothing else.
_NO_TIMEOUT = {
    "start": "no timeout",
    "shutdown": "no timeout but the time that Serve leaves a replica for its end",
    "failure": "no timeout",
}
_FAILURE = {"start": "a failure ends the start", "shutdown": "a failure is logged", "failure": "a failure is logged"}

_WRITTEN = (
    *_PLACED,
    "is_span",
    "until",
    "once_per_node",
    "where",
    "hook",
    "phase",
    "models",
    "parameters",
    "file",
    "line",
)


def _lasts(hook: dict[str, Any]) -> str:
    """Return how long a hook lasts, in words."""
    if not hook["is_span"]:
        return f"in the background until {hook['until']}"
    end = "the work on the node" if hook["where"] == "node" else "the start"
    return f"has a `yield`; what follows it runs at {hook.get('until') or f'the end of {end}'}"


def _place(hook: dict[str, Any]) -> str:
    """Return the file and line of a hook, from this folder where it is in it."""
    if hook["file"] is None:
        return "(no file)"
    file = Path(hook["file"])
    inside = file.is_relative_to(Path.cwd())
    return f"{os.path.relpath(file) if inside else file}:{hook['line']}"
