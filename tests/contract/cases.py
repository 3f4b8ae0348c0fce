"""Random cases for both wings: hypothesis draws sets of hooks, configs and faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from serve_llm_hooks import HOOK_POINTS
from serve_llm_hooks._core.points import PHASES
from serve_llm_hooks_testing import (
    different_path,
    engine_answers_error,
    engine_fails,
    failing_download,
    hook_fails,
    lost_node,
    replica_dies,
    unschedulable,
)

from .drawn import RAISES, RETURNS, VALUES, Drawn, DrawnClass, DrawnPhases, made, made_class, made_phases
from .scenario import BUCKET, EXTRA_FILES, FOLDER, Model, Scenario
from .strikes import replica_dies as deaths_of_the_replica

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy

    from serve_llm_hooks import HookName
    from serve_llm_hooks_testing.faults import Fault

__all__ = ["Case", "cases", "scenario_of"]

ON_NODES = [row.name for row in HOOK_POINTS.values() if row.on_node]
IN_REPLICA = [row.name for row in HOOK_POINTS.values() if row.where == "replica"]
# Hooks in the engine's processes are not drawn: what they find does not come back.
KEYS = ["a", "b"]
# Where nodes only work if a hook is for them, a fault of theirs needs one.
WITNESSES = tuple(Drawn(f"witness_{number}", point) for number, point in enumerate(ON_NODES[:3]))


@dataclass(frozen=True)
class Case:
    """A case that is drawn. Its ``repr`` makes it again.

    Attributes:
        hooks: the entries of ``hooks=[...]``.
        callback, callbacks: the config's fields.
        source, engine_kwargs, runtime_env, on_error: as of a :class:`Model`.
        group, own_bundles, faults, shut_down_s, times: as of a :class:`Scenario`.
        disable: ``SERVE_LLM_HOOKS_DISABLE`` in every process.
    """

    hooks: tuple[Drawn | DrawnClass, ...] = ()
    callback: DrawnClass | None = None
    callbacks: tuple[DrawnPhases, ...] = ()
    source: Any = FOLDER
    engine_kwargs: Mapping[str, Any] = field(default_factory=dict)
    runtime_env: Mapping[str, Any] | None = None
    on_error: Any = "raise"
    group: int = 1
    own_bundles: Sequence[int] | None = None
    faults: tuple[Fault, ...] = ()
    shut_down_s: float | None = None
    times: int = 1
    disable: str = ""


def scenario_of(case: Case) -> Scenario:
    """A case as a scenario, with hooks that are made for it: a wing that runs it leaves nothing for the next."""
    fields: dict[str, Any] = {}
    if case.callback is not None:
        fields["callback"] = made_class(case.callback)
    if case.callbacks:
        fields["callbacks"] = [made_phases(each) for each in case.callbacks]
    hooks = [made(each) if isinstance(each, Drawn) else made_class(each) for each in case.hooks]
    model = Model(
        hooks,
        source=case.source,
        engine_kwargs=case.engine_kwargs,
        runtime_env=case.runtime_env,
        on_error=case.on_error,
        fields=fields,
    )
    return Scenario(
        "drawn",
        [model],
        group=case.group,
        own_bundles=case.own_bundles,
        environ={"SERVE_LLM_HOOKS_DISABLE": case.disable} if case.disable else {},
        faults=case.faults,
        shut_down_s=case.shut_down_s,
        times=case.times,
    )


# -- how they are drawn -----------------------------------------------------------------------------------------------


def _rarely(draw: DrawFn, one_in: int) -> bool:
    """Return True in one case out of so many. It shrinks to no."""
    return draw(st.integers(0, one_in - 1)) == one_in - 1


_MODES = st.sampled_from(["NONE", "TOKENIZER_ONLY", "MODEL_AND_TOKENIZER", "EXCLUDE_SAFETENSORS", "TOKENISER", None, 3])
_ARGUMENTS = st.sampled_from(
    [
        ("max_model_len", 128), ("dtype", "bfloat16"), ("seed", 0), ("tool_call_parser", "hermes"),
        ("tensor_parallel_size", 1), ("tensor_parallel_size", 2), ("max_modle_len", 1), ("model", "/m"),
        ("distributed_executor_backend", "mp"), ("load_format", "runai_streamer"), ("compilation_config", {"mode": 0}),
        ("compilation_config", {"levle": 3}), ("enable_log_requests", True), (3, 4),
    ]
)  # fmt: skip
_JSON = st.sampled_from([None, 1, "a text", [1, "two"], {"one": [2]}, "/a/folder", 1.5, True])


def _changes() -> SearchStrategy[tuple[Any, ...]]:
    """The actions that any hook may be drawn to do."""
    key = st.sampled_from(KEYS)
    return st.one_of(
        st.just(("see",)),
        st.tuples(st.just("note"), key, _JSON),
        st.tuples(st.just("append"), key, _JSON),
        st.tuples(st.just("drop"), key),
        st.just(("replace",)),
        st.just(("sleep", 0)),
        st.just(("sleep", 0.02)),
        st.tuples(st.just("put"), key, st.sampled_from(sorted(VALUES))),
        st.tuples(st.just("assign"), st.sampled_from(["model_path"]), st.sampled_from(["/own/path", None, 5])),
        st.tuples(st.just("assign"), st.sampled_from(["model_paht", "model_id", "nodes"]), _JSON),
    )


def _in_replica() -> SearchStrategy[tuple[Any, ...]]:
    numbers = st.lists(st.integers(0, 2), min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("assign"), st.just("worker_node_download_model"), _MODES),
        st.tuples(st.just("assign"), st.just("local_node_download_model"), _MODES),
        st.tuples(st.just("assign"), st.just("run_init_node"), st.sampled_from([False, True, "no"])),
        st.tuples(st.just("assign"), st.just("placement_group"), st.just(None)),
        _ARGUMENTS.map(lambda argument: ("argument", *argument)),
        st.tuples(st.just("group"), numbers),
        st.sampled_from([("config", "seed"), ("config's model",), ("config's model",)]),
    )


def _on_node() -> SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just("assign"), st.just("download_model"), _MODES)


@st.composite
def _drawn(draw: DrawFn, name: str, points: Sequence[HookName], others: Sequence[str] = ()) -> Drawn:
    """A hook at one of these points, which may say that it comes before or after others."""
    point = draw(st.sampled_from(points))
    row = HOOK_POINTS[point]
    is_async = draw(st.booleans())
    acts = draw(st.lists(st.one_of(_changes(), _on_node() if row.on_node else _in_replica()), max_size=3))
    if is_async and _rarely(draw, 8):
        acts.append(("spawn",))
    if is_async and row.after_engine and not row.on_node and _rarely(draw, 3):
        acts.append(("ask",))
    options: dict[str, Any] = {}
    if _rarely(draw, 3):
        options["order"] = draw(st.integers(-2, 2))
    if others and _rarely(draw, 6):
        options[draw(st.sampled_from(["before", "after"]))] = draw(st.sampled_from(others))
    if _rarely(draw, 4):
        options["on_error"] = draw(st.sampled_from(["raise", "warn"]))
    if _rarely(draw, 8):
        options["model_id"] = draw(st.sampled_from(["m", "m*", ["other", "?"], "other"]))
    if _rarely(draw, 6):
        options["timeout_s"] = 60
    ends = draw(st.integers(0, 9))
    if ends >= 8:
        acts.append(("raise", draw(st.sampled_from(sorted(RAISES)))))
    elif ends >= (5 if row.may_veto else 7):
        acts.append(("return", draw(st.sampled_from(sorted(RETURNS)))))
    elif ends == 4 and is_async and _rarely(draw, 2):
        options["timeout_s"] = 0.3
        acts.append(("sleep", 60))
    elif ends == 4 and not is_async and _rarely(draw, 4):
        options["timeout_s"] = 0.3
        acts.append(("sleep", 1.0))
    slots = tuple(draw(st.lists(st.integers(0, 2), max_size=2, unique=True))) if row.on_node else ()
    kwargs = {"folder": draw(_JSON)} if _rarely(draw, 8) else {}
    return Drawn(name, point, tuple(acts), is_async, slots, options, kwargs)


@st.composite
def _drawn_class(draw: DrawFn, name: str, points: Sequence[HookName]) -> DrawnClass:
    at = draw(st.lists(st.sampled_from(points), min_size=1, max_size=4, unique=True))
    methods = [draw(_drawn(point, [point])) for point in at]
    plain = tuple(Drawn(each.name, each.point, each.acts, each.is_async, each.slots) for each in methods)
    return DrawnClass(name, plain, draw(st.booleans()))


@st.composite
def _drawn_phases(draw: DrawFn, name: str) -> DrawnPhases:
    values: SearchStrategy[Any] = st.sampled_from(
        [
            {"a": 1}, {"model_path": "/own/path"}, {"extra_init_kwargs": {"max_model_len": 32}}, {"skip_default": True},
            {"worker_node_download_model": "NONE"}, {"b": [1]}, {"run_init_node": False}, {"download_result": 1},
            {"model_path": 5}, {"engine": "mine"},
        ]
    )  # fmt: skip
    phases = st.sampled_from(PHASES)
    returns: SearchStrategy[Any] = st.one_of(values, st.sampled_from([None, {}, ["a list"], False]))
    raises = draw(st.dictionaries(phases, st.sampled_from(sorted(RAISES)), max_size=1)) if _rarely(draw, 4) else {}
    return DrawnPhases(
        name,
        draw(st.dictionaries(phases, values, max_size=2)),
        draw(st.dictionaries(phases, returns, max_size=2)),
        raises,
    )


@st.composite
def _faults(draw: DrawFn, case: dict[str, Any], names: Sequence[str]) -> list[Fault]:
    """At most one, of a kind that can happen to what is drawn so far."""
    group = case["group"]
    kinds = ["none"] * 10 + ["engine fails"] * 2 + ["answers error"] + ["unschedulable"] + ["hook fails"] * 2
    if case["touches nodes"]:
        kinds += ["lost"] * (2 if group > 1 else 0)
    if case["source"] == BUCKET:
        kinds += ["download"] * 6
    kind = draw(st.sampled_from(kinds))
    node = f"node-{draw(st.integers(0, group - 1))}"
    if kind == "engine fails":
        return [engine_fails(draw(st.sampled_from(["CUDA out of memory", "several\nlines"])))]
    if kind == "answers error":
        return [engine_answers_error("no room", code=503)]
    if kind == "unschedulable":
        return [unschedulable()]
    if kind == "hook fails":
        error = draw(st.sampled_from([OSError(5, "Input/output error"), RuntimeError("it fails"), KeyError("k")]))
        return [hook_fails(draw(st.sampled_from(names)), error)] if names else []
    if kind == "lost":
        at = draw(st.sampled_from([each.point for each in WITNESSES]))
        return [lost_node(f"node-{group - 1}", at=at)]
    if kind == "download":
        return [
            draw(
                st.sampled_from(
                    [failing_download(node), failing_download(node, quietly=True), different_path(node, "/elsewhere/m")]
                )
            )
        ]
    return []


@st.composite
def cases(draw: DrawFn, *, dying: int = 200) -> Case:
    """A case.

    Args:
        draw: hypothesis's.
        dying: in one of so many cases the replica dies, and is started again.
    """
    case: dict[str, Any] = {"touches nodes": draw(st.integers(0, 9)) >= 4}
    points = [*ON_NODES, *IN_REPLICA, *IN_REPLICA] if case["touches nodes"] else IN_REPLICA
    case["group"] = draw(st.sampled_from([1, 1, 2, 2, 3])) if case["touches nodes"] else draw(st.integers(1, 3))
    case["source"] = FOLDER
    if case["touches nodes"]:
        sources = [FOLDER] * 36 + [None] * 6 + [BUCKET] * 2 + [EXTRA_FILES]  # a real download imports torch first
        case["source"] = draw(st.sampled_from(sources))
    names = [f"h{number}" for number in range(draw(st.integers(0, 7)))]
    hooks: list[Any] = [
        draw(_drawn(name, points, [other for other in [*names, "nobody"] if other != name])) for name in names
    ]
    if _rarely(draw, 6):
        hooks.insert(draw(st.integers(0, len(hooks))), draw(_drawn_class("C", points)))
    callback = draw(_drawn_class("Callback", points)) if _rarely(draw, 6) else None
    callbacks = [draw(_drawn_phases("phases"))] if _rarely(draw, 6) else []
    faults = draw(_faults(case, [each.name for each in hooks if isinstance(each, Drawn)]))
    # An object that the test made keeps what it holds from start to start, but for those in processes of their own.
    starts_anew = not any(isinstance(each, DrawnClass) and each.is_made for each in [*hooks, callback])
    times = 2 if starts_anew and not case["touches nodes"] and not faults and _rarely(draw, 6) else 1
    if starts_anew and times == 1 and _rarely(draw, dying):
        faults = [replica_dies(draw(st.sampled_from(sorted(deaths_of_the_replica))))]
    if case["touches nodes"]:
        hooks = [*WITNESSES, *hooks]
    if _rarely(draw, 8):
        hooks.append(Drawn("skips", "on_before_init", (("return", "a reason"),)))
        hooks.append(draw(_drawn("custom", ["on_custom_init"])))
    shut_down_s = 30.0 if _rarely(draw, 5) else None
    if shut_down_s is not None:
        hooks += [draw(_drawn(f"end_{number}", ["on_shutdown"])) for number in range(2)]
    engine_kwargs: dict[Any, Any] = dict(
        [draw(_ARGUMENTS.filter(lambda each: each[0] != 3))] if _rarely(draw, 6) else []
    )
    own_bundles = None
    if case["group"] > 1 and _rarely(draw, 12):
        own_bundles = draw(st.lists(st.integers(0, case["group"] - 1), min_size=1, max_size=2, unique=True))
    return Case(
        hooks=tuple(hooks),
        callback=callback,
        callbacks=tuple(callbacks),
        source=case["source"],
        engine_kwargs=engine_kwargs,
        on_error=draw(st.sampled_from(["raise", "raise", "raise", "warn"])),
        group=case["group"],
        own_bundles=own_bundles,
        faults=tuple(faults),
        shut_down_s=shut_down_s,
        times=times,
        disable=draw(st.sampled_from(["h0", "*:h1 h2", "C.*"])) if _rarely(draw, 12) else "",
    )
