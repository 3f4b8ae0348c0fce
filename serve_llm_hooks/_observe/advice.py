"""``advise``: what in a start could be shorter, by how many seconds, and what to write for that."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from .._core.bars import size
from .._core.messages import counted
from .._core.named_tuple import NamedTuple
from .._core.node import Node
from .._core.points import HOOK_POINTS
from .facts import RECIPES, Facts, facts_of, short_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .._core.event import HookEvent, StartStep
    from .._core.trace import Trace

LEAST_S = 1.0
LEAST_SHARE = 0.05
"""The least that is worth a line: seconds, and the share of all of the start."""

_SLOW_READ = 1.5e9  # bytes a second; what is in the page cache is read faster
_BY_PREFETCH = 0.75  # of the loading of weights; measured: 3.06 s and 0.68 s
_BY_FEWER_GRAPHS = 0.5


class Advice(NamedTuple):
    """One thing that would make a start like this one shorter.

    Attributes:
        rule: the name of the rule that gives it.
        why: what was seen in the trace, and what to mind.
        saves_s: by how many seconds; what several advise does not add up.
        change: the line to write, in the YAML of the model or where the hook is; empty where no line does it.

    Example:
        >>> print(Advice("late-weights", "The download was over before.", 9.8, "weights: late"))
        about 9.8 s less with: weights: late
          The download was over before.
    """

    rule: str
    why: str
    saves_s: float
    change: str

    def __str__(self) -> str:
        return f"{self.head}\n  {self.why}" if self.change else self.head

    @property
    def head(self) -> str:
        """The seconds with the line to write; where there is none, with what was seen."""
        about = f"about {self.saves_s:.1f} s"
        return f"{about} less with: {self.change}" if self.change else f"{about}: {self.why}"


def advise(trace: Trace) -> tuple[Advice, ...]:
    """Return what could be shorter in the start of a trace, the longest first.

    Each is for itself: two of them may be about the same seconds. A start that has failed gets none.

    Example:
        >>> from serve_llm_hooks import Trace
        >>> advise(Trace())
        ()
    """
    facts = facts_of(trace)
    if facts is None:
        return ()
    least_s = max(LEAST_S, LEAST_SHARE * facts.took_s)
    given = [each for rule in RULES for each in rule(facts) if each.saves_s >= least_s]
    return tuple(sorted(given, key=lambda each: -each.saves_s))


def late_weights(facts: Facts) -> Iterator[Advice]:
    """Advise that weights arrive while the engine's processes import vLLM."""
    imported_s = facts.workers_imported_s
    downloads = [step for step in facts.named("download") if facts.is_before_engine(step)]
    if imported_s is None or len(downloads) < len(facts.named("download")):
        return  # nothing is known of the engine's processes, or the weights are late already
    saves_s = min(facts.nodes_without(_seconds_on_node(downloads)), imported_s - facts.engine.start_s)
    if downloads and saves_s > 0:
        slowest = max(downloads, key=lambda step: step.duration_s)
        mind = ""
        if any(event.point == "on_after_node_download" for event in facts.events):
            mind = " Hooks at on_after_node_download would find no weights."
        yield Advice(
            "late-weights",
            f"The download took {slowest.duration_s:.1f} s, and the engine began after it; it read no weights in its "
            f"first {imported_s - facts.engine.start_s:.1f} s, in which its processes began.{mind}",
            saves_s,
            "weights: late",
        )


def late_weights_of_recipe(facts: Facts) -> Iterator[Advice]:
    """Advise the same where ``FetchModel`` brings the model."""
    imported_s = facts.workers_imported_s
    calls = [event for event in facts.recipe("FetchModel") if facts.is_before_engine(event)]
    if imported_s is None or not calls:
        return
    slowest = max(calls, key=lambda event: event.duration_s)
    yield Advice(
        "late-weights-instead-of-fetch-model",
        f"FetchModel took {slowest.duration_s:.1f} s, and the engine began after it. Without FetchModel, and with the "
        "bucket as the config's model_source, the weights arrive while the engine's processes begin.",
        min(facts.nodes_without(_seconds_on_node(calls)), imported_s - facts.engine.start_s),
        "weights: late",
    )


def compile_cache(facts: Facts) -> Iterator[Advice]:
    """Advise to keep what is compiled, unless it came out of a cache already."""
    compiled = facts.longest("compile")
    if compiled is None or facts.named("load compiled") or facts.recipe("CompileCache"):
        return
    yield Advice(
        "compile-cache",
        f"torch.compile took {compiled.duration_s:.1f} s. What it makes can be kept for all later starts, by an entry "
        "of hooks:.",
        compiled.duration_s,
        "- {hook: serve_llm_hooks.recipes:CompileCache, kwargs: {uri: s3://my-bucket/compile-cache}}",
    )


def cuda_graphs(facts: Facts) -> Iterator[Advice]:
    """Advise fewer sizes of CUDA graphs."""
    captured = facts.longest("capture graphs")
    if captured is not None:
        yield Advice(
            "cuda-graphs",
            f"Capturing CUDA graphs took {captured.duration_s:.1f} s, for each batch size a part. With half as many "
            "sizes or fewer it takes half as long at most. End the list with the largest batch that you serve: larger "
            "ones then run without a graph.",
            captured.duration_s * _BY_FEWER_GRAPHS,
            "engine_kwargs: { cudagraph_capture_sizes: [1, 2, 4, 8, 16, 32] }",
        )


def prefetch_weights(facts: Facts) -> Iterator[Advice]:
    """Advise to read weights ahead, where they were read more slowly than out of the page cache."""
    loaded = facts.longest("load weights")
    weights = sum(step.size_bytes or 0 for step in facts.named("load model"))
    if loaded is None or not weights or facts.recipe("PrefetchWeights"):
        return
    rate = weights / loaded.duration_s if loaded.duration_s > 0 else _SLOW_READ
    if rate < _SLOW_READ:
        yield Advice(
            "prefetch-weights",
            f"{size(weights)} of weights were read at {size(rate)}/s. From a local disk, they can be read while vLLM "
            "is imported, by an entry of hooks:.",
            min(loaded.duration_s * _BY_PREFETCH, max(0.0, loaded.start_s - facts.engine.start_s)),
            "- serve_llm_hooks.recipes:PrefetchWeights",
        )


def slow_node(facts: Facts) -> Iterator[Advice]:
    """Name the node for which the others waited."""
    nodes = sorted(facts.nodes, key=lambda step: step.end_s)
    if len(nodes) < 2 or len(nodes) > len({node.node_id for node in nodes}):  # a replaced group has added some
        return
    *_, second, last = nodes
    on_it = [("the download", step.duration_s) for step in facts.named("download") if step.node_id == last.node_id]
    on_it += [(short_name(event), event.duration_s) for event in facts.events if _is_on(event, last.node_id)]
    what, took_s = max(on_it, key=lambda each: each[1], default=("its work", last.duration_s))
    where = Node(last.node_id, last.address, last.hostname)
    waited_s = last.end_s - second.end_s
    yield Advice(
        "slow-node",
        f"{counted(len(nodes) - 1, 'node')} waited {waited_s:.1f} s for {where}, where {what} took {took_s:.1f} s. "
        "Look at that node's disk and network.",
        waited_s,
        "",
    )


def blocking_hooks(facts: Facts) -> Iterator[Advice]:
    """Advise the background for hooks beside which nothing else went on."""
    for calls in facts.calls():
        slowest = max(calls, key=lambda event: event.duration_s)
        until = "on_after_init" if HOOK_POINTS[slowest.point].after_engine else "on_after_engine_init"
        if slowest.duration_s < LEAST_S or not _may_work_beside(facts, calls, until):
            continue
        point = HOOK_POINTS[slowest.point]
        is_before = point.on_node and not point.after_engine
        blocked_s = facts.nodes_without(_seconds_on_node(calls)) if is_before else facts.alone_s(slowest)
        due_s = _begin_s(facts, until)
        written = f'@hook("{slowest.point}", until="{until}")'
        if short_name(slowest).endswith(f".{slowest.point}"):
            written = f'@hook_options(until="{until}")'
        yield Advice(
            "blocking-hook",
            f"{short_name(slowest)} at {slowest.point} took {slowest.duration_s:.1f} s, and the start waited for it. "
            f"If nothing before {until} needs what it does, it can work in the background.",
            min(blocked_s, due_s - slowest.end_s),
            written,
        )


def node_process(facts: Facts) -> Iterator[Advice]:
    """Advise the replica for the hooks of the only node, where its process took longer than they."""
    nodes = [step for step in facts.named("nodes") if facts.is_before_engine(step)]
    calls = [event for event in facts.events if _is_on(event, event.node_id) and facts.is_before_engine(event)]
    if len(nodes) != 1 or len(facts.nodes) != 1 or facts.named("download") or not calls:
        return
    if not _are_the_users_to_move(calls):  # in the replica, a veto would leave out more
        return
    worked_s = sum(event.duration_s for event in calls)
    names = ", ".join(dict.fromkeys(short_name(event) for event in calls))
    yield Advice(
        "node-process",
        f"A process began on the only node for {names}, which took {worked_s:.1f} s of the step's "
        f"{nodes[0].duration_s:.1f} s. In the replica, which is on that node, they need none; what they put into "
        "ctx.custom_data is then the replica's.",
        nodes[0].duration_s - worked_s,
        '@hook("on_before_download")',
    )


RULES: tuple[Callable[[Facts], Iterator[Advice]], ...] = (
    late_weights,
    late_weights_of_recipe,
    compile_cache,
    cuda_graphs,
    prefetch_weights,
    slow_node,
    blocking_hooks,
    node_process,
)
"""The rules. Each reads the facts of a good start, and gives no advice without seconds."""


def _may_work_beside(facts: Facts, calls: Sequence[HookEvent], until: str) -> bool:
    """Return True for a hook of the foreground that gives no veto, and is neither a span nor one of our recipes."""
    point = HOOK_POINTS[calls[0].point]
    if point.during != "start" or point.in_process or point.name == until:
        return False
    if not _are_the_users_to_move(calls):
        return False
    before = point.after_engine or all(facts.is_before_engine(event) for event in calls)
    return before and all(facts.alone_s(event) >= event.duration_s / 2 for event in calls)


def _begin_s(facts: Facts, point: str) -> float:
    """Return when the start came to a point after the engine."""
    if point == "on_after_engine_init":
        return facts.engine.end_s
    return facts.first_s.get(point, facts.end_s)


def _is_on(event: HookEvent, node_id: str) -> bool:
    point = HOOK_POINTS[event.point]
    return event.node_id == node_id and point.on_node and not point.after_engine


def _seconds_on_node(parts: Sequence[HookEvent | StartStep]) -> Callable[[str], float]:
    on_node: dict[str, list[float]] = defaultdict(list)
    for each in parts:
        on_node[each.node_id].append(each.duration_s)
    seconds = {node_id: sum(durations) for node_id, durations in on_node.items()}
    return lambda node_id: seconds.get(node_id, 0.0)


def _are_the_users_to_move(calls: Sequence[HookEvent]) -> bool:
    """Return True for hooks that give no veto, and are neither spans nor our recipes, whose points are fixed."""
    return not any(
        event.is_finish or event.outcome not in ("ok", "warned") or event.hook.startswith(RECIPES) for event in calls
    )
