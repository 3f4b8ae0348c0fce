"""``dry-run``: a start of each model on a fake cluster, as a timeline."""

from __future__ import annotations

import json
from itertools import count, zip_longest
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from serve_llm_hooks import Trace, dump_traces, plan_hooks
from serve_llm_hooks_testing import FakeCluster, HarnessError

from .faults import WRITTEN, check_hooks, fault_of
from .options import AppDir, AsJson, ModelIds, Targets
from .output import Screen, write_json
from .refused import BAD_ANSWER, CONFIG_ERRORS, Refused, exit_if_refused, text_of
from .store import FakeStoreFolder, fake_store, store_hints
from .targets import models_of
from .timeline import seconds, write_timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from serve_llm_hooks import HookPlan
    from serve_llm_hooks_testing import FakeRun

    from .faults import Given
    from .model import Model

SHORT_HELP = "Start each model on a fake cluster, and show what ran when."
HELP = """Start each model on a fake cluster, stop it again, and show when which hook ran where. The hooks really run,
here, in virtual time: a download, an engine, a sleep take none. Exit code 1: a start fails, or what --fail names
happened in none."""

EXAMPLES = """\b
Examples:
  serve-llm-hooks dry-run config.yaml
  serve-llm-hooks dry-run config.yaml --nodes 8 --fail download:node-2
  serve-llm-hooks dry-run config.yaml --processes --fail hook:check_disk:node-1
  serve-llm-hooks dry-run my_company.llm_hooks --model llama-3-8b --json"""

Nodes = Annotated[int, typer.Option("--nodes", min=1, max=1000, metavar="N", help="How many nodes the cluster has.")]
Fails = Annotated[
    list[str] | None, typer.Option("--fail", metavar="WHAT", help=f"What breaks; may be repeated: {WRITTEN}.")
]
Processes = Annotated[
    bool, typer.Option("--processes", help="Replica, nodes and engine in processes of their own. Linux.")
]


class Started(NamedTuple):
    """A start, and its result.

    Attributes:
        model: the model.
        run: the start; ``None`` where there was none.
        problem: why it failed; ``None`` if it did not.
        warnings: what was warned of.
        struck: what has broken as ``--fail`` asked for it, as it was given.
        unstruck: what was to break so and did not.
    """

    model: Model
    run: FakeRun | None
    problem: str | None
    warnings: list[str]
    struck: list[str]
    unstruck: list[str]


def dry_run(
    targets: Targets,
    model: ModelIds = None,
    nodes: Nodes = 4,
    fail: Fails = None,
    processes: Processes = False,
    store: FakeStoreFolder = None,
    app_dir: AppDir = ".",
    as_json: AsJson = False,
) -> None:
    """Start each model, and show how it went."""
    with exit_if_refused():
        faults = {text: fault_of(text) for text in fail or ()}
        try:
            cluster = FakeCluster(nodes=nodes, faults=[each.fault for each in faults.values()], processes=processes)
        except HarnessError as error:
            raise Refused(str(error)) from None
        cluster.stops_replica = True  # in a process of its own, which has ended when the run is here
        with fake_store(store):
            models = models_of(targets, model or [], app_dir)
            plans = [_plan(each) for each in models] if any(each.hook for each in faults.values()) else []
            if None not in plans:  # of a model without one, its start tells why
                check_hooks(faults, [plan for plan in plans if plan is not None])
            starts = [_start(cluster, faults, *each) for each in zip_longest(models, plans)]
        for start in starts:
            start.warnings.extend(store_hints(store, [start.problem or "", *start.warnings]))
    if as_json:
        write_json(_document(starts))
    else:
        screen = Screen()
        for number, start in enumerate(starts):
            if number:
                screen.blank()
            _write(screen, start, nodes)
    struck_nowhere = [text for text in faults if all(text in start.unstruck for start in starts)]
    if struck_nowhere or any(start.problem for start in starts):
        raise typer.Exit(BAD_ANSWER)


def _plan(model: Model) -> HookPlan | None:
    """Return the plan of a model; ``None`` if it has none."""
    with model.its_process():
        try:
            return plan_hooks(model.config())
        except CONFIG_ERRORS:
            return None


def _start(cluster: FakeCluster, faults: Mapping[str, Given], model: Model, plan: HookPlan | None) -> Started:
    run: FakeRun | None = None
    problem: str | None = None
    at_its_end: tuple[Exception, ...] = ()
    unknown = {} if plan is None else {text: why for text, each in faults.items() if (why := each.why_not(plan))}
    with model.its_process() as warned:
        try:
            cluster.faults = tuple(each.fault for text, each in faults.items() if text not in unknown)
            run = cluster.run(model.config(), check=False)
            at_its_end = run.shut_down()  # of a start that failed, nothing
        except CONFIG_ERRORS as error:
            problem = model.text_of(error)
    if run is not None and run.error is not None:
        problem = f"{type(run.error).__name__}: {text_of(run.error)}"
    missed = () if run is None else run.unstruck
    unstruck = [text for text, each in faults.items() if run is None or any(each.fault is other for other in missed)]
    for text in unstruck:  # as it was given, and not as Python has it
        warned = [told.replace(f"{faults[text].fault} never", f"--fail {text} never") for told in warned]
    warned += [f"--fail {text} never struck: {why}" for text, why in unknown.items()]
    warned += [f"at the end of the replica, which Serve only logs: {text_of(error)}" for error in at_its_end]
    unstruck += unknown
    return Started(model, run, problem, warned, [text for text in faults if text not in unstruck], unstruck)


def _document(starts: Iterable[Started]) -> dict[str, Any]:
    """Return the starts as JSON has them: a document of traces, with more in it."""
    traces: dict[str, Trace] = {}
    told: list[dict[str, Any]] = []
    for start in starts:
        name = _unused(start.model.model_id, traces)
        earlier_starts: list[str] = []
        for number, earlier in enumerate(() if start.run is None else start.run.earlier_starts, 1):
            earlier_starts.append(_unused(f"{name} (start {number})", traces))
            traces[earlier_starts[-1]] = earlier.trace
        traces[name] = Trace() if start.run is None else start.run.trace
        told.append(
            {
                "trace": name,
                "model_id": start.model.model_id,
                "application": start.model.application or None,
                "config": start.model.where or None,
                "problem": start.problem,
                "struck": start.struck,
                "elapsed_s": None if start.run is None else start.run.elapsed_s,
                "earlier_starts": earlier_starts,
                "reached": None if start.run is None else start.run.reached,
                "warnings": start.warnings,
            }
        )
    document: dict[str, Any] = json.loads(dump_traces(traces))
    return {**document, "starts": told}


def _unused(name: str, traces: Mapping[str, Trace]) -> str:
    """Return a name that no trace has: this one, or this one with a number."""
    names = (name if number == 1 else f"{name} #{number}" for number in count(1))
    return next(each for each in names if each not in traces)


def _write(screen: Screen, start: Started, nodes: int) -> None:
    model = start.model
    said = ", ".join(filter(None, [model.application, model.where]))
    screen.line((f"model {model.model_id}", "bold"), f" ({said})" if said else "")
    if start.run is not None:
        end = ("failed", "bold red") if start.problem else ("started", "bold green")
        on = "1 node" if nodes == 1 else f"{nodes} nodes"
        screen.line(end, f" after {seconds(start.run.elapsed_s)} on {on} of a fake cluster", indent=2)
        for number, earlier in enumerate(start.run.earlier_starts, 1):
            screen.line(f"start {number}, whose replica died", indent=2)
            write_timeline(screen, earlier.trace, indent=4)
        write_timeline(screen, start.run.trace)
    if start.struck:
        screen.line(("on purpose: ", "yellow"), ", ".join(f"--fail {text}" for text in start.struck), indent=2)
    if start.problem:
        screen.line(("problem: ", "bold red"), start.problem, indent=2)
    for text in start.warnings:
        screen.line(("warning: ", "yellow"), text, indent=2)
