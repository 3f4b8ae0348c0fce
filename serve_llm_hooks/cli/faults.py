"""``--fail``: what breaks in a dry run, in a word and its place."""

from __future__ import annotations

import difflib
import math
import re
from typing import TYPE_CHECKING, NamedTuple, cast

from serve_llm_hooks import HOOK_POINTS, ServeLLMHooksError
from serve_llm_hooks_testing import (
    different_path,
    engine_answers_error,
    engine_fails,
    engine_process_dies,
    failing_download,
    hook_fails,
    lost_node,
    missing_module,
    missing_plugin,
    node_process_dies,
    replica_dies,
    slow_download,
    unschedulable,
)

from .refused import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from serve_llm_hooks import Hook, HookName, HookPlan
    from serve_llm_hooks_testing import Fault

REPLICAS_NODE = "node-0"
_ASKED = "(--fail)"  # in each error that is made up here, so that its reader knows where it comes from

# Each word with the parts that follow it, of which those in brackets may be left out, and the fault of them.
FAULTS: dict[str, Callable[..., Fault]] = {
    "download:NODE": lambda node: failing_download(node, f"An error occurred (403): Forbidden {_ASKED}"),
    "slow-download:NODE:SECONDS": lambda node, seconds: slow_download(node, _seconds(seconds)),
    "other-path:NODE:PATH": different_path,
    "hook:HOOK[:NODE]": lambda hook, node: hook_fails(_hook(hook), f"it fails {_ASKED}", node=node),
    "node:NODE[:POINT]": lambda node, point: _lost(node, point),
    "node-process:NODE:HOOK": lambda node, hook: node_process_dies(node, in_hook=_hook(hook)),
    "module:NODE:MODULE": missing_module,
    "placement-group": unschedulable,
    "engine": lambda: engine_fails(f"CUDA out of memory {_ASKED}"),
    "engine-process:PROCESS[:HOOK]": lambda process, hook: engine_process_dies(process, in_hook=hook and _hook(hook)),
    "plugin:PROCESS": missing_plugin,
    "answers": lambda: engine_answers_error(f"the prompt is longer than the model's context {_ASKED}"),
    "replica:POINT": lambda point: _dies_at(point),
}
WRITTEN = ", ".join(FAULTS)
# What a part looks like, if it may hold a colon, or be told from one that does.
_PARTS = {"HOOK": "(.+?)", "PATH": "(.+)"}
_ENDINGS = {"NODE": r"(node-\d+)", "HOOK": "(.+)"}
# Where a hook runs in which a process dies.
_DIES = {"node-process": ("node",), "engine-process": ("process",)}
_SHOWN = 10


class Given(NamedTuple):
    """A fault as ``--fail`` writes it.

    Attributes:
        fault: the fault.
        hook: the hook that it names; ``None`` if it names none.
        where: where that hook runs, as a hook point says it.
    """

    fault: Fault
    hook: str | None
    where: tuple[str, ...] = ()

    def why_not(self, plan: HookPlan) -> str:
        """Return why it cannot happen in a start of a plan; an empty text if it can, or names no hook."""
        if self.hook is None:
            return ""
        found = plan.called(self.hook)
        if not found:
            return _no_such_hook(self.hook, [plan])
        there = [hook for hook in found if HOOK_POINTS[hook.point].where in self.where]
        if not there:
            return _not_there(found[0], self)
        # Where a process dies, hooks that run elsewhere are not looked at.
        paths = list(dict.fromkeys(hook.path for hook in (found if len(self.where) > 1 else there)))
        return "" if len(paths) == 1 else f"{self.hook!r} is ambiguous; write one of {', '.join(paths)}"


def fault_of(text: str) -> Given:
    """Return the fault that is meant, as in ``download:node-2``.

    Raises:
        Refused: none is.
    """
    for form, make in FAULTS.items():
        if (found := re.fullmatch(_pattern(form), text)) is None:
            continue
        try:
            fault = make(*found.groups())
        except (Refused, ServeLLMHooksError) as error:
            raise Refused(f"--fail {text}: {error}") from None
        hook, node = getattr(fault, "hook", None), getattr(fault, "node_id", None)
        where = ("node", "process") if node not in (None, REPLICAS_NODE) else ("replica", "node", "process")
        return Given(fault, hook, _DIES.get(form.partition(":")[0], where) if hook else ())
    raise Refused(
        f"--fail {text}: it is one of {WRITTEN} (what is in brackets may be left out); nodes are {REPLICAS_NODE} (the "
        "replica's), node-1, ..."
    )


def check_hooks(faults: Mapping[str, Given], plans: Sequence[HookPlan]) -> None:
    """Check before anything runs that there are the hooks which faults name, and that they can fail so.

    Raises:
        Refused: no model has one, or it is ambiguous, or runs elsewhere; the message says what can be written.
    """
    for text, given in faults.items():
        whys = [given.why_not(plan) for plan in plans]
        if given.hook is not None and all(whys):
            has_it = [why for why, plan in zip(whys, plans, strict=True) if plan.called(given.hook)]
            raise Refused(f"--fail {text}: {has_it[0] if has_it else _no_such_hook(given.hook, plans)}")


def _no_such_hook(name: str, plans: Sequence[HookPlan]) -> str:
    hooks = [hook for plan in plans for hook in (*plan.hooks, *(other for other, _ in plan.not_run))]
    near = difflib.get_close_matches(name, [known for plan in plans for known in plan.names], n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    if re.search(r":node\W?\w*$", name):
        hint = f" (nodes are written {REPLICAS_NODE}, node-1, ...)"
    paths = list(dict.fromkeys(hook.path for hook in hooks))
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"no hook is called {name!r}{hint}; there are {', '.join(paths[:_SHOWN]) or 'none'}{more}"


def _not_there(hook: Hook, given: Given) -> str:
    """Return where a hook runs, and what to write of it."""
    where = HOOK_POINTS[hook.point].where
    runs = f"{hook.path} runs {HOOK_POINTS[hook.point].runs}"
    if given.where == ("node",):
        return f"{runs}, and not on nodes; its failure is --fail hook:{given.hook}"
    if given.where == ("process",):
        on_node = f", the end of its process --fail node-process:NODE:{given.hook}" if where == "node" else ""
        return f"{runs}, and not in the engine's processes; its failure is --fail hook:{given.hook}{on_node}"
    return f"{runs}, and on no other node: write --fail hook:{given.hook}"


def _hook(name: str) -> str:
    if name in HOOK_POINTS or re.fullmatch(r":?node-\d+", name):
        what = "a hook point" if name in HOOK_POINTS else "a node"
        raise Refused(
            f"{name.lstrip(':')} is {what}; a hook is named as `serve-llm-hooks plan` shows it, or in short, and the "
            "node stands behind it, as in hook:check_disk, hook:check_disk:node-1"
        )
    return name


def _pattern(form: str) -> str:
    """Return the regular expression of a form."""
    required, bracket, rest = form.partition("[:")
    word, *parts = required.split(":")
    pattern = "".join([re.escape(word), *(":" + _PARTS.get(part, "([^:]+)") for part in parts)])
    return pattern + (f"(?::{_ENDINGS.get(rest[:-1], '([^:]+)')})?" if bracket else "")


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise Refused(f"SECONDS is a number, 0 or more, as in slow-download:node-1:300, and not {text!r}")
    return found


def _lost(node: str, name: str | None) -> Fault:
    if node == REPLICAS_NODE:
        raise Refused(f"the replica itself is on {node}; its end is --fail replica:POINT")
    point = None if name is None else HOOK_POINTS.get(name)
    if point is not None and not point.on_node:
        on_nodes = ", ".join(other for other, row in HOOK_POINTS.items() if row.on_node)
        raise Refused(f"that point does not run on nodes; those that do are {on_nodes}")
    return lost_node(node, cast("HookName | None", name))  # which says what is no point


def _dies_at(name: str) -> Fault:
    point = HOOK_POINTS.get(name)
    if point is not None and point.on_node:
        raise Refused("that point runs on nodes; the end of a node is --fail node:NODE")
    if point is not None and point.in_process:
        raise Refused("that point runs in the engine's processes; the end of one is --fail engine-process:PROCESS")
    if point is not None and point.during == "shutdown":
        raise Refused("the start is over by then, and nothing starts the replica again")
    return replica_dies(cast("HookName", name))  # which says what is no point
