"""``trace``: what the hooks of a start did, saved or of a running deployment; two starts side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_llm_hooks import ServeLLMHooksError, TraceFormatError, dump_traces, load_traces

from .compared import compared, write_compared
from .options import AsJson
from .output import Screen, write_json
from .refused import Refused, told
from .timeline import write_timeline

if TYPE_CHECKING:
    from serve_llm_hooks import Trace

HELP = """Show what the hooks of a start did, as a timeline: of a file that was saved before, or of an application that
runs (which needs Ray, and RAY_ADDRESS where this is no node of the cluster). With --json, it writes what it reads, so
that `trace APP --json > FILE` saves a start. Exit code 2: it cannot be read, or is not there."""

EXAMPLES = """\b
Examples:
  serve-llm-hooks trace llm
  serve-llm-hooks trace llm --json > monday.json
  serve-llm-hooks trace monday.json
  serve-llm-hooks trace --diff monday.json llm"""

Sources = Annotated[
    list[str], typer.Argument(metavar="FILE|APP...", help="A file of traces, or the name of an application.")
]
Diff = Annotated[bool, typer.Option("--diff", help="Show two starts side by side: give two files or applications.")]


def trace(sources: Sources, diff: Diff = False, as_json: AsJson = False) -> None:
    """Show traces, or compare two."""
    with told():
        if len(sources) != (2 if diff else 1):
            raise Refused(f"give {'two files or applications after --diff' if diff else 'one file or application'}")
        found = [_traces(source) for source in sources]
        if diff:
            _compare(sources, found, as_json)
            return
    if as_json:
        document: dict[str, Any] = json.loads(dump_traces(found[0]))
        write_json(document)
        return
    screen = Screen()
    for name, each in found[0].items():
        screen.line((name, "bold"), f", {len([event for event in each if event.ran])} hook calls")
        write_timeline(screen, each)


def _traces(source: str) -> dict[str, Trace]:
    """Return the traces of a file, or of an application."""
    if not _is_file(source):
        return _running(source)
    try:
        found = load_traces(Path(source).read_text(encoding="utf-8"))
    except TraceFormatError as error:
        raise Refused(f"{source}: {error}") from None
    except UnicodeDecodeError:
        raise Refused(f"{source}: it is no text, and so no file of traces") from None
    except OSError as error:
        raise Refused(f"{source} cannot be read: {error.strerror or type(error).__name__} (in {Path.cwd()})") from None
    if not found:
        raise Refused(f"{source}: there is no trace in it")
    return found


def _is_file(source: str) -> bool:
    return "/" in source or source.endswith(".json") or Path(source).is_file()


def _running(app_name: str) -> dict[str, Trace]:
    try:
        from serve_llm_hooks.ray import hook_trace
    except ImportError as error:
        raise Refused(
            f"there is no file {app_name!r}, and to ask an application of that name, Ray is needed: {error}"
        ) from None
    try:
        return hook_trace(app_name)
    except ServeLLMHooksError as error:
        raise Refused(f"there is no file {app_name!r}, and {error}") from None


def _compare(sources: list[str], found: list[dict[str, Trace]], as_json: bool) -> None:
    """Compare two starts; of several, those of one name.

    Raises:
        Refused: it is not clear which with which.
    """
    first, second = found
    pairs = [(name, each, second[name]) for name, each in first.items() if name in second]
    if len(first) == len(second) == 1:
        [(name, a)], [(other, b)] = first.items(), second.items()
        pairs = [(name if name == other else f"{name} and {other}", a, b)]
    if not pairs:
        raise Refused(f"no name is in both: {sources[0]} has {', '.join(first)}; {sources[1]} has {', '.join(second)}")
    if as_json:
        starts = [{"trace": name, "rows": [row.as_json() for row in compared(a, b)]} for name, a, b in pairs]
        write_json({"version": 1, "a": sources[0], "b": sources[1], "starts": starts})
        return
    screen = Screen()
    screen.line("A is ", (sources[0], "bold"), ", B is ", (sources[1], "bold"))
    for name, a, b in pairs:
        screen.line((name, "bold"))
        write_compared(screen, compared(a, b))
    for source, mine, others in ((sources[0], first, second), (sources[1], second, first)):
        alone = [name for name in mine if len(pairs) > 1 and name not in others]
        if alone:
            screen.line(f"only in {source}: {', '.join(alone)}")
