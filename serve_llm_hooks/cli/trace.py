"""``trace``: what the hooks of a start did, saved or of a running deployment; two starts side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from serve_llm_hooks import ServeLLMHooksError, TraceFormatError, advise, dump_traces, load_traces

from .compared import compared, write_compared
from .options import AsJson
from .output import Screen, write_json
from .refused import Refused, exit_if_refused
from .timeline import write_timeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from serve_llm_hooks import Trace

    from .compared import Row

SHORT_HELP = "Show what a start did, as a timeline; two starts; advice."
HELP = """Show what the hooks of a start did, as a timeline: of a file that was saved before, or of an application that
runs (which needs Ray, and RAY_ADDRESS where this is no node of the cluster). With --json, it writes what it reads, so
that `trace APP --json > FILE` saves a start. Exit code 2: it cannot be read, or is not there."""

EXAMPLES = """\b
Examples:
  serve-llm-hooks trace llm
  serve-llm-hooks trace llm --json > monday.json
  serve-llm-hooks trace monday.json
  serve-llm-hooks trace --diff monday.json llm
  serve-llm-hooks trace llm --advice"""

Sources = Annotated[
    list[str], typer.Argument(metavar="FILE|APP...", help="A file of traces, or the name of an application.")
]
Diff = Annotated[
    bool,
    typer.Option("--diff", help="Show two starts side by side, hooks and other steps: give two files or applications."),
]
Advised = Annotated[bool, typer.Option("--advice", help="Say what in a start could be shorter, and how.")]


class Saved(NamedTuple):
    """The traces of a source.

    Attributes:
        traces: each start's trace, by its name.
        starts: what ``dry-run --json`` has saved of the starts besides.
    """

    traces: dict[str, Trace]
    starts: tuple[dict[str, Any], ...] = ()

    def problem(self, name: str) -> str | None:
        """Return why a start failed, if it did and that was saved."""
        found = [start.get("problem") for start in self.starts if start.get("trace") == name]
        return next((problem for problem in found if isinstance(problem, str) and problem), None)


def trace(sources: Sources, diff: Diff = False, advice: Advised = False, as_json: AsJson = False) -> None:
    """Show traces, or compare two, or say what could be shorter."""
    with exit_if_refused():
        if diff and advice:
            raise Refused("--advice is of one file or application, and --diff compares two: leave one of them out")
        if len(sources) != (2 if diff else 1):
            raise Refused(f"give {'two files or applications after --diff' if diff else 'one file or application'}")
        found = [_saved(source) for source in sources]
        if diff:
            _compare(sources, found, as_json)
            return
    if advice:
        _write_advice(found[0].traces, as_json)
        return
    if as_json:
        document: dict[str, Any] = json.loads(dump_traces(found[0].traces))
        write_json({**document, "starts": found[0].starts} if found[0].starts else document)
        return
    screen = Screen()
    for name, each in found[0].traces.items():
        screen.line((name, "bold"), f", {len([event for event in each if event.ran])} hook calls")
        write_timeline(screen, each)
        if problem := found[0].problem(name):
            screen.line(("problem: ", "bold red"), problem, indent=2)


def _write_advice(traces: dict[str, Trace], as_json: bool) -> None:
    """Write what in each start could be shorter; the longest first."""
    if as_json:
        starts = [{"trace": name, "advice": [row._asdict() for row in advise(each)]} for name, each in traces.items()]
        write_json({"version": 1, "starts": starts})
        return
    screen = Screen()
    for name, each in traces.items():
        screen.line((name, "bold"))
        for row in (given := advise(each)):
            screen.line((f"about {row.saves_s:.1f} s", "bold green"), f": {row.why}", indent=2)
            if row.change:
                screen.line("write ", (row.change, "cyan"), indent=4)
        if not given and not any(step.name == "engine" for step in each.steps):
            screen.line("no advice: there is no start of an engine in its trace", indent=2)
        elif not given and any(step.failed for step in each.steps):
            screen.line("no advice: the start has failed", indent=2)
        elif not given:
            screen.line("nothing that would make it a second and 5 % shorter was found in its trace", indent=2)


def _saved(source: str) -> Saved:
    """Return the traces of a file, or of an application."""
    if not _is_file(source):
        return Saved(_running(source))
    try:
        text = Path(source).read_text(encoding="utf-8")
        found = load_traces(text)
    except TraceFormatError as error:
        raise Refused(f"{source}: {error}") from None
    except UnicodeDecodeError:
        raise Refused(f"{source}: it is no text, and so no file of traces") from None
    except IsADirectoryError:
        raise Refused(_is_a_folder(source)) from None
    except OSError as error:
        raise Refused(f"{source} cannot be read: {error.strerror or type(error).__name__} (in {Path.cwd()})") from None
    if not found:
        raise Refused(f"{source}: there is no trace in it")
    starts = json.loads(text).get("starts") if text.lstrip().startswith("{") else None  # else a page
    return Saved(found, tuple(each for each in starts if isinstance(each, dict)) if isinstance(starts, list) else ())


def _is_file(source: str) -> bool:
    return "/" in source or source.endswith(".json") or Path(source).is_file()


def _is_a_folder(source: str) -> str:
    """Return what to give in its place: the newest start that is saved in it."""
    saved = [file for file in Path(source).glob("[!.]*") if file.suffix in (".html", ".json") and file.is_file()]
    if not saved:
        return f"{source} is a folder, and no start is saved in it: give a page or JSON file of one"
    newest = max(saved, key=lambda file: (file.stat().st_mtime, file.name))
    return f"{source} is a folder: give a file in it; the newest there is {newest}"


def _running(app_name: str) -> dict[str, Trace]:
    no_file = _is_a_folder(app_name) if Path(app_name).is_dir() else f"there is no file {app_name!r}"
    try:
        from serve_llm_hooks.ray import hook_trace
    except ImportError as error:
        raise Refused(f"{no_file}, and to ask an application of that name, Ray is needed: {error}") from None
    try:
        return hook_trace(app_name)
    except ServeLLMHooksError as error:
        raise Refused(f"{no_file}, and {error}") from None


def _compare(sources: list[str], found: list[Saved], as_json: bool) -> None:
    """Compare two starts; of several, those of one name.

    Raises:
        Refused: it is not clear which with which.
    """
    first, second = (each.traces for each in found)
    pairs = _pairs(first, second)
    if not pairs:
        raise Refused(f"no name is in both: {sources[0]} has {', '.join(first)}; {sources[1]} has {', '.join(second)}")
    starts = [
        (
            name if name == other else f"{name} and {other}",
            compared(first[name], second[other]),
            {"a": found[0].problem(name), "b": found[1].problem(other)},
        )
        for name, other in pairs
    ]
    only_in = {
        "a": [name for name in first if name not in {mine for mine, _ in pairs}],
        "b": [name for name in second if name not in {other for _, other in pairs}],
    }
    if as_json:
        said = [
            {"trace": name, "rows": [row.as_json() for row in rows], "problems": problems}
            for name, rows, problems in starts
        ]
        write_json({"version": 1, "a": sources[0], "b": sources[1], "starts": said, "only_in": only_in})
        return
    _write_two(sources, starts)
    for source, alone in zip(sources, only_in.values(), strict=True):
        if alone:
            Screen().line(f"only in {source}: {', '.join(alone)}")


def _pairs(first: Iterable[str], second: Iterable[str]) -> list[tuple[str, str]]:
    """Pair the starts of two files: those of one name, or the only one of each."""
    mine, others = list(first), list(second)
    if len(mine) == len(others) == 1:
        return [(mine[0], others[0])]
    return [(name, name) for name in mine if name in others]


def _write_two(sources: list[str], starts: list[tuple[str, list[Row], dict[str, str | None]]]) -> None:
    """Write what each start was in A and in B, and why one failed."""
    screen = Screen()
    screen.line("A is ", (sources[0], "bold"), ", B is ", (sources[1], "bold"))
    for name, rows, problems in starts:
        screen.line((name, "bold"))
        write_compared(screen, rows)
        for side, problem in problems.items():
            if problem:
                screen.line((f"problem of {side.upper()}: ", "bold red"), problem, indent=2)
