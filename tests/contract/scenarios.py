"""The scenarios, each written once. ``test_contract.py`` runs them on both wings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    unschedulable,
)

from . import hooks as h
from .scenario import BUCKET, EXTRA_FILES, Model, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from .told import Told

SCENARIOS: dict[str, Scenario] = {}


def scenario(*models: Model, **settings: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make the decorated function, which says what must hold, a scenario of its name and docstring."""

    def decorate(holds: Callable[..., None]) -> Callable[..., None]:
        def of_all(told: dict[str, Told]) -> None:
            holds(*(told[model.model_id] for model in models))

        name = holds.__name__
        assert name not in SCENARIOS, f"two scenarios are named {name}"
        SCENARIOS[name] = Scenario(name, models, of_all, **settings)
        return holds

    return decorate


def ran(told: Told, where: str = "replica", task: str = "on nodes") -> list[str]:
    """Return the names of the hooks that ran in the replica, or on a node, in order; disabled ones too."""
    lines = told["replica"] if where == "replica" else told.get(task, {}).get(where, {"hooks": []})["hooks"]
    return [line.split()[1] for line in lines if line.split()[2] != "skipped:"]


def left_out(told: Told) -> list[str]:
    """Return the hooks that a veto left out, each with its point and the reason, in order."""
    return [line.replace(" skipped: ", ": ") for line in told["replica"] if line.split()[2] == "skipped:"]


def notes(told: Told, where: str = "replica") -> Any:
    """Return what hooks have noted in ``custom_data``."""
    data = told["ctx"] if where == "replica" else told["nodes"][where]
    return data["custom data"].get("notes", {})


def went_well(told: Told) -> None:
    """The start succeeded."""
    assert told["error"] is None
    assert told["engine"] is not None


def failed(told: Told, kind: str, **about: Any) -> Any:
    """The start failed like that; gives the error."""
    error = told["error"]
    assert error is not None
    assert error["type"] == kind
    assert {name: error.get(name) for name in about} == about
    assert told.get("output") is None
    return error


def node_errors(told: Told, kind: str, *nodes: str) -> list[Any]:
    """The start failed because these nodes did, each with an error of this kind; gives them."""
    error = failed(told, "NodeInitializationError", nodes=list(nodes))
    assert [(each["type"], each["node"]) for each in error["errors"]] == [(kind, node) for node in nodes]
    assert error["lines"] >= 1 + len(nodes)
    errors: list[Any] = error["errors"]
    return errors


NODES = ("node-0", "node-1", "node-2")

# -- every point ------------------------------------------------------------------------------------------------------


@scenario(Model(h.EVERY_POINT))
def every_point_runs_where_and_when_the_table_says(told: Told) -> None:
    went_well(told)
    assert ran(told) == [
        "before_init", "before_download", "after_download", "after_placement_group", "before_engine_init",
        "process_start", "after_engine_init", "after_init",
    ]  # fmt: skip
    for node in NODES:
        assert ran(told, node) == ["before_node_first", "before_node_second", "after_node"]
        assert told["on nodes"][node]["after"] == "before_download"
        assert told["on nodes"][node]["before"] == "after_download"
        assert ran(told, node, "on nodes after the engine") == ["after_node_engine"]
        assert told["on nodes after the engine"][node]["after"] == "after_engine_init"
        assert told["on nodes after the engine"][node]["before"] == "after_init"
    assert told["each in a process of its own"]
    assert told["in order"]
    assert [told["nodes"][node]["is local"] for node in NODES] == [True, False, False]
    assert notes(told)["at the start"] == ["m", None, None, None, True]


@scenario(Model([]))
def without_hooks_no_node_is_touched(told: Told) -> None:
    went_well(told)
    assert ran(told) == []
    assert {node["worked"] for node in told["nodes"].values()} == {False}
    assert told["ctx"]["model path"] == "/contract/model"


@scenario(Model([h.where_it_is, h.where_nodes_are]))
def a_node_is_known_by_its_address_and_hostname(told: Told) -> None:
    went_well(told)
    assert notes(told, "node-2") == {"address and hostname": [True, True]}
    assert notes(told)["known"]
    assert notes(told)["in the trace"]


@scenario(Model([h.skip_defaults, *h.EVERY_POINT]))
def skipped_defaults_run_the_custom_point_and_the_engine_points(told: Told) -> None:
    went_well(told)
    assert ran(told) == [
        "skip_defaults", "before_init", "custom_init", "before_engine_init", "process_start", "after_engine_init",
        "after_init",
    ]  # fmt: skip
    assert told["nodes"] == {}
    assert told["output"]["the default group"]
    assert notes(told)["custom init"] == [False, None]
    why = "vetoed at on_before_init: tests.contract.hooks:skip_defaults returned False"
    assert left_out(told) == [
        f"on_before_download before_download: {why}",
        f"on_before_node_download before_node_first: {why}",
        f"on_before_node_download before_node_second: {why}",
        f"on_after_node_download after_node: {why}",
        f"on_after_download after_download: {why}",
        f"on_after_placement_group after_placement_group: {why}",
        f"on_after_node_engine_init after_node_engine: {why}",
    ]


@scenario(
    Model([h.skip_defaults_with_a_reason, h.own_group_on_second_and_first, *h.EVERY_POINT]),
)
def a_custom_point_brings_its_own_group_and_path(told: Told) -> None:
    went_well(told)
    assert told["output"]["group"] == ["node-1", "node-0"]
    assert not told["output"]["the default group"]
    assert told["engine"]["model path"] == "/own/model"
    assert told["replica"][0].endswith("skip_defaults_with_a_reason vetoed: all is there already")


# -- vetoes -----------------------------------------------------------------------------------------------------------


@scenario(Model([h.no_download, *h.EVERY_POINT], source=BUCKET))
def a_vetoed_download_touches_no_node(told: Told) -> None:
    went_well(told)
    assert told["on nodes"] == {}
    assert told["nodes"] == {}
    assert ran(told)[3:5] == ["after_download", "after_placement_group"]
    assert not told["ctx"]["run_init_node"]
    why = "vetoed at on_before_download: tests.contract.hooks:no_download returned False"
    assert left_out(told) == [
        f"on_before_node_download before_node_first: {why}",
        f"on_before_node_download before_node_second: {why}",
        f"on_after_node_download after_node: {why}",
        f"on_after_node_engine_init after_node_engine: {why}",
    ]


@scenario(Model([h.no_download_with_a_reason, h.go_on, h.no_download, h.before_download], source=BUCKET))
def all_hooks_of_a_point_run_and_one_veto_is_enough(told: Told) -> None:
    went_well(told)
    assert told["replica"] == [
        "on_before_download no_download_with_a_reason vetoed: baked into the image",
        "on_before_download go_on ok",
        "on_before_download no_download vetoed",
        "on_before_download before_download ok",
    ]
    assert told["nodes"] == {}


@scenario(Model([h.no_init_node, h.after_node], source=BUCKET))
def run_init_node_is_the_veto_by_rays_name(told: Told) -> None:
    went_well(told)
    assert told["nodes"] == {}
    assert left_out(told) == ["on_after_node_download after_node: a hook set ctx.run_init_node = False"]


@scenario(Model([h.mode_none, h.before_node_first, h.after_node], source=BUCKET))
def mode_none_skips_the_download_and_keeps_the_hooks(told: Told) -> None:
    went_well(told)
    for node in NODES:
        assert ran(told, node) == ["before_node_first", "after_node"]
        assert not told["nodes"][node]["downloaded"]
    assert left_out(told) == []


@scenario(Model([h.baked_in, h.before_node_first, h.after_node], source=BUCKET))
def a_veto_on_every_node_downloads_nothing_and_runs_the_hooks(told: Told) -> None:
    went_well(told)
    for node in NODES:
        assert ran(told, node) == ["baked_in", "before_node_first", "after_node"]
        assert told["nodes"][node]["skipped"] == "baked into the image"
        assert not told["nodes"][node]["downloaded"]
    assert told["engine"]["model path"] == "/baked/in"


@scenario(Model([h.not_on_second, h.after_node], source=BUCKET), group=2)
def a_veto_on_one_node_is_of_that_node(told: Told) -> None:
    went_well(told)
    assert [told["nodes"][node]["downloaded"] for node in NODES[:2]] == [True, False]
    assert [told["nodes"][node]["path"] for node in NODES[:2]] == ["<downloaded>", None]
    assert told["nodes"]["node-1"]["skipped"] == "tests.contract.hooks:not_on_second returned False"


@scenario(Model([h.veto_where_there_is_none, h.failure]), group=1)
def a_veto_where_there_is_nothing_to_veto_is_an_error(told: Told) -> None:
    failed(told, "HookResultError", point="on_after_download")
    assert "there is nothing to veto here" in told["error"]["message"]


@scenario(Model([h.returns_a_number, h.failure]), group=1)
def a_result_that_means_nothing_is_an_error_even_behind_the_engine(told: Told) -> None:
    failed(told, "HookResultError", point="on_after_init")
    assert notes(told)["failure"] == ["HookResultError", True]


@scenario(Model([h.returns_a_number_on_second]), group=2)
def a_result_that_means_nothing_on_a_node(told: Told) -> None:
    (error,) = node_errors(told, "HookResultError", "node-1")
    assert "it returned an int" in error["message"]


# -- modes ------------------------------------------------------------------------------------------------------------


@scenario(Model([h.local_only, h.after_node], source=BUCKET), group=2)
def the_local_mode_overrides_the_workers(told: Told) -> None:
    went_well(told)
    assert [told["nodes"][node]["mode"] for node in NODES[:2]] == ["TOKENIZER_ONLY", "NONE"]
    assert [told["nodes"][node]["downloaded"] for node in NODES[:2]] == [True, False]
    assert [told["nodes"][node]["path"] for node in NODES[:2]] == ["<downloaded>", "m"]


@scenario(Model([h.local_only], source=BUCKET), group=2)
def a_node_with_nothing_to_do_is_not_touched(told: Told) -> None:
    went_well(told)
    assert [told["nodes"][node]["worked"] for node in NODES[:2]] == [True, False]


@scenario(Model([h.mode_of_its_own], source=BUCKET), group=2)
def a_hook_on_a_node_changes_what_it_downloads(told: Told) -> None:
    went_well(told)
    assert [told["nodes"][node]["mode"] for node in NODES[:2]] == ["NONE", "TOKENIZER_ONLY"]
    assert told["engine"]["model path"] == "m"


@scenario(Model([h.after_node], source=BUCKET, engine_kwargs={"load_format": "runai_streamer"}), group=1)
def a_streaming_engine_downloads_nothing(told: Told) -> None:
    went_well(told)
    assert told["ctx"]["modes"] == ["NONE", None]
    assert not told["nodes"]["node-0"]["downloaded"]
    assert told["engine"]["model path"] == BUCKET
    assert told["ctx"]["model path"] == "m"


@scenario(Model([h.after_node, h.streams], source=BUCKET), group=1)
def a_hook_that_lets_the_engine_stream_after_a_download(told: Told) -> None:
    went_well(told)
    assert told["nodes"]["node-0"]["downloaded"]
    assert told["engine"]["model path"] == BUCKET


@scenario(Model([h.path_of_its_own, h.streams], source=BUCKET), group=1)
def a_streaming_engine_is_given_a_hooks_own_path(told: Told) -> None:
    went_well(told)
    assert told["engine"]["model path"] == "/own/path"


@scenario(Model([h.local_only, h.after_node], source=EXTRA_FILES), group=2)
def extra_files_come_with_any_mode(told: Told) -> None:
    went_well(told)
    assert [told["nodes"][node]["mode"] for node in NODES[:2]] == ["TOKENIZER_ONLY", "NONE"]
    assert [told["nodes"][node]["downloaded"] for node in NODES[:2]] == [True, True]
    assert told["engine"]["model path"] == "m"


@scenario(Model([h.after_node], source=None), group=1)
def a_hugging_face_id_is_left_to_the_engine(told: Told) -> None:
    went_well(told)
    assert told["engine"]["model path"] == "m"


@scenario(Model([h.no_such_mode]), group=1)
def a_wrong_mode_fails_where_it_is_assigned(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:no_such_mode", cause="ValueError")
    assert "did you mean 'TOKENIZER_ONLY'?" in told["error"]["message"]


@scenario(Model([h.no_such_field]), group=1)
def a_wrong_field_fails_where_it_is_assigned(told: Told) -> None:
    failed(told, "HookError", cause="AttributeError")
    assert "did you mean 'model_path'?" in told["error"]["message"]


# -- placement groups -------------------------------------------------------------------------------------------------


@scenario(Model([h.before_node_second]), group=1)
def a_group_on_one_node_of_three(told: Told) -> None:
    went_well(told)
    assert list(told["nodes"]) == ["node-0"]


@scenario(Model([h.group_on_third_and_first, h.before_node_second]))
def a_group_of_before_init_is_used_instead_of_the_default(told: Told) -> None:
    went_well(told)
    assert list(told["nodes"]) == told["output"]["group"] == ["node-2", "node-0"]
    assert not told["output"]["the default group"]


@scenario(Model([h.group_without_our_node, h.before_node_second]))
def a_group_without_the_replicas_node(told: Told) -> None:
    went_well(told)
    assert [node["is local"] for node in told["nodes"].values()] == [False, False]
    assert list(told["on nodes"]) == ["node-1", "node-2"]


@scenario(Model([h.two_bundles_on_second, h.before_node_second]))
def a_node_with_two_bundles_is_one_node(told: Told) -> None:
    went_well(told)
    assert told["output"]["group"] == ["node-1", "node-1"]
    assert list(told["nodes"]) == ["node-1"]
    assert ran(told, "node-1") == ["before_node_second"]


@scenario(Model([*h.EVERY_POINT, h.group_on_all]), group=1)
def nodes_that_a_replaced_group_adds_are_initialized_once(told: Told) -> None:
    went_well(told)
    assert notes(told)["before it is replaced"] == ["node-0"]
    assert list(told["nodes"]) == list(NODES)
    assert [told["on nodes"][node]["before"] for node in NODES] == [
        "after_download",
        "before_engine_init",
        "before_engine_init",
    ]
    assert ran(told).count("after_download") == 1
    assert not told["output"]["the default group"]


@scenario(Model([h.group_too_late, h.failure]), group=1)
def a_group_that_is_replaced_too_late_is_refused(told: Told) -> None:
    failed(told, "PlacementGroupError")
    assert notes(told)["failure"] == ["PlacementGroupError", False]


@scenario(Model([h.before_node_second, h.after_download]), own_bundles=[2, 1])
def a_data_parallel_rank_initializes_the_nodes_of_its_own_bundles(told: Told) -> None:
    went_well(told)
    assert list(told["nodes"]) == ["node-2", "node-1"]
    assert ran(told, "node-1") == ["before_node_second"]
    assert told["output"]["group"] == list(NODES)


@scenario(Model([h.group_on_all, h.failure]), own_bundles=[0])
def a_data_parallel_rank_cannot_replace_the_group_of_all(told: Told) -> None:
    failed(told, "PlacementGroupError")
    assert notes(told)["failure"] == ["PlacementGroupError", False]


@scenario(Model([h.group_none, h.after_download]), own_bundles=[0])
def a_data_parallel_rank_that_asks_for_the_default_group_keeps_the_group_of_all(told: Told) -> None:
    went_well(told)
    assert list(told["nodes"]) == ["node-0"]
    assert told["output"]["group"] == list(NODES)


# An hour's worth of patience is not needed: this cluster can never hold it, and says so.
@scenario(Model([h.before_init, h.before_download, h.failure]), faults=[unschedulable()])
def a_group_that_cannot_be_scheduled(told: Told) -> None:
    failed(told, "PlacementGroupError")
    assert ran(told) == ["before_init", "before_download", "failure"]


# Where hooks leave the nodes alone, the engine would be the one that waits.
@scenario(Model([h.no_download, h.before_engine_init, h.failure]), faults=[unschedulable()])
def a_group_that_cannot_be_scheduled_where_no_node_is_touched(told: Told) -> None:
    failed(told, "PlacementGroupError")
    assert ran(told) == ["no_download", "failure"]


@scenario(Model([h.skip_defaults, h.custom_init, h.before_engine_init, h.failure]), faults=[unschedulable()])
def a_group_that_cannot_be_scheduled_where_the_defaults_are_skipped(told: Told) -> None:
    failed(told, "PlacementGroupError")
    assert ran(told) == ["skip_defaults", "custom_init", "failure"]


# -- order, models, parameters ----------------------------------------------------------------------------------------


@scenario(Model([h.no_download, h.third, h.second, h.fourth, h.sixth, h.fifth, h.first]), group=1)
def order_before_and_after_hold_for_sync_and_async(told: Told) -> None:
    went_well(told)
    assert ran(told) == ["first", "second", "third", "fourth", "sixth", "fifth", "no_download"]


@scenario(Model([h.circle_a, h.circle_b]))
def a_circle_is_refused_with_the_config(told: Told) -> None:
    failed(told, "HookOrderError")
    assert "replica" not in told


@scenario(
    Model([h.for_llamas, h.for_others, h.for_nobody], "meta-llama/Llama-3"),
    Model([h.for_llamas, h.for_others, h.for_nobody], "gemma-3"),
    group=2,
)
def models_that_start_at_once_have_their_own_hooks(llama: Told, gemma: Told) -> None:
    for told, word in ((llama, "llamas"), (gemma, "others")):
        went_well(told)
        assert ran(told) == []
        for node in NODES[:2]:
            assert ran(told, node) == [f"for_{word}"]
            assert notes(told, node) == {"for": word}


@scenario(
    Model(
        [
            {"hook": h.with_parameters, "kwargs": {"bucket": "s3://b"}},
            {"hook": "tests.contract.hooks:with_parameters_on_nodes", "kwargs": {"folder": "/f"}},
        ]
    ),
    group=2,
)
def parameters_reach_hooks_here_and_on_nodes(told: Told) -> None:
    went_well(told)
    assert notes(told)["parameters"] == ["s3://b", 1]
    assert notes(told, "node-1")["parameters"] == "/f"


@scenario(Model([{"hook": h.with_parameters, "kwargs": {"buckets": 1}}]))
def parameters_that_do_not_fit_are_refused_with_the_config(told: Told) -> None:
    failed(told, "HookSignatureError")
    assert "replica" not in told


@scenario(Model("tests.contract.hooks"))
def hooks_that_are_no_list_are_refused_with_the_config(told: Told) -> None:
    failed(told, "HookLoadError")
    assert "hooks= is a list" in told["error"]["message"]


@scenario(Model(["tests.contract.no_such_hooks"]))
def a_module_that_is_not_there_is_refused_with_the_config(told: Told) -> None:
    failed(told, "HookImportError", cause="ModuleNotFoundError")


@scenario(Model([h.no_download, h.returns_an_awaitable]), group=1)
def what_a_sync_hook_returns_is_awaited(told: Told) -> None:
    went_well(told)
    assert notes(told) == {"awaited": True}


# -- who may run code -------------------------------------------------------------------------------------------------

ALLOW, DISABLE = "SERVE_LLM_HOOKS_ALLOW", "SERVE_LLM_HOOKS_DISABLE"


@scenario(
    Model(h.EVERY_POINT),
    environ={
        ALLOW: "tests.contract.*",
        DISABLE: "before_download, tests.contract.hooks:before_node_second, *:after_node, of_another_model",
    },
)
def disabled_hooks_leave_a_mark_and_the_others_run(told: Told) -> None:
    went_well(told)
    assert told["replica"][1] == f"on_before_download before_download disabled: 'before_download' in {DISABLE}"
    assert [line.split()[2] for line in told["replica"]] == ["ok", "disabled:", *["ok"] * 6]
    for node in NODES:
        assert [line.split()[1:3] for line in told["on nodes"][node]["hooks"]] == [
            ["before_node_second", "disabled:"],
            ["before_node_first", "ok"],
            ["after_node", "disabled:"],
        ]
        assert list(notes(told, node)) == ["at the start", "mode at the start", "first", "behind the engine"]
    assert told["in order"]


@scenario(Model([h.before_node_second, h.after_node]), group=2, environ={DISABLE: "*:before_node_* after_node"})
def nodes_whose_hooks_are_all_disabled_are_not_touched(told: Told) -> None:
    went_well(told)
    for node in NODES[:2]:
        assert ran(told, node) == ["before_node_second", "after_node"]
        assert all(" disabled: " in line for line in told["on nodes"][node]["hooks"])
        assert not told["nodes"][node]["worked"]


@scenario(Model([h.before_init, "tests.contract.no_such_hooks"]), environ={ALLOW: "tests.contract.hooks *.strikes"})
def a_path_that_is_not_allowed_is_refused_before_it_is_looked_for(told: Told) -> None:
    failed(told, "HookNotAllowedError")
    assert "'tests.contract.no_such_hooks' in hooks=[...] may not run in this process" in told["error"]["message"]
    assert "replica" not in told


@scenario(
    Model([h.before_node_first, h.send, h.failure], runtime_env={"env_vars": {ALLOW: "another_company.*"}}),
    group=2,
)
def a_node_refuses_what_its_environment_does_not_allow(told: Told) -> None:
    errors = node_errors(told, "HookNotAllowedError", "node-0", "node-1")
    assert f"may not run on node node-1: {ALLOW}='another_company.*'" in errors[1]["message"]
    assert told["on nodes"] == {}
    assert notes(told)["failed nodes"] == list(NODES[:2])


# -- what crosses -----------------------------------------------------------------------------------------------------


@scenario(Model([h.send, h.receive, h.look_again, h.count_parcels]))
def custom_data_crosses_as_a_copy_and_comes_back(told: Told) -> None:
    went_well(told)
    assert notes(told)["mine"] == [["from the replica"], False]
    assert notes(told)["theirs"] == [["from the replica", f"on {number}"] for number in range(3)]
    assert notes(told)["a copy"]
    assert [told["nodes"][node]["custom data"]["only of"] for node in NODES] == [0, 1, 2]


@scenario(Model([h.send_a_lock, h.after_node, h.failure]), group=1)
def what_cannot_leave_the_replica_is_told_there(told: Told) -> None:
    failed(told, "HookPickleError")
    assert "ctx.custom_data['lock']" in told["error"]["message"]
    assert told["on nodes"] == {}


@scenario(Model([h.answer_with_a_lock]), group=2)
def what_cannot_leave_a_node_is_told_there(told: Told) -> None:
    errors = node_errors(told, "HookPickleError", "node-0", "node-1")
    assert "ctx.custom_data['lock']" in errors[0]["message"]


@scenario(Model([h.send_what_does_not_arrive, h.after_node]), group=1)
def what_does_not_arrive_on_a_node_is_told_there(told: Told) -> None:
    (error,) = node_errors(told, "HookPickleError", "node-0")
    assert "ValueError: not here" in error["message"]
    assert told["on nodes"] == {}


@scenario(Model([h.before_init, h.holds_a_lock]))
def a_hook_that_cannot_travel_is_told_before_anything_runs(told: Told) -> None:
    failed(told, "HookPickleError")
    assert "the variable 'lock'" in told["error"]["message"]
    assert "replica" not in told


@scenario(Model([h.asks_for_the_config]), group=1)
def a_node_can_ask_for_the_config(told: Told) -> None:
    went_well(told)
    assert notes(told, "node-0") == {"the config's model": "m"}


@scenario(Model([h.other_runtime_env, h.after_node], runtime_env={"env_vars": {"CONTRACT": "config"}}), group=1)
def a_runtime_env_of_a_hooks_own(told: Told) -> None:
    went_well(told)
    assert told["output"]["runtime env"] == {"env_vars": {"CONTRACT": "changed"}}


# -- failing hooks ----------------------------------------------------------------------------------------------------


@scenario(Model([h.breaks_at_the_start, *h.EVERY_POINT]))
def a_failure_at_the_start_ends_it(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:breaks_at_the_start", cause="OSError", node=None)
    assert ran(told) == ["breaks_at_the_start", "failure"]
    assert notes(told)["failure"] == ["HookError", False]
    assert told["ctx"]["error is the one raised"]


@scenario(Model([*h.EVERY_POINT, h.breaks_at_the_end]), group=1)
def a_failure_at_the_end_is_a_failure(told: Told) -> None:
    failed(told, "HookError", point="on_after_init", cause="LookupError")
    assert ran(told)[-3:] == ["after_init", "breaks_at_the_end", "failure"]


@scenario(Model([h.exits, h.failure]), group=1)
def a_hook_that_exits_has_failed(told: Told) -> None:
    failed(told, "HookError", cause="SystemExit")


@scenario(Model([h.panics, h.failure]), group=1)
def a_hook_that_panics_has_failed(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:panics", cause="Panic")
    assert notes(told)["failure"] == ["HookError", False]


@scenario(Model([h.breaks_on_second, h.failure]))
def a_hook_that_fails_on_one_node(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-1")
    assert error["remote traceback"]
    assert error["point"] == "on_after_node_download"
    assert notes(told) == {"failure": ["NodeInitializationError", False], "failed nodes": ["node-1"]}
    assert [ran(told, node) for node in NODES] == [["breaks_on_second"]] * 3


@scenario(Model([h.breaks_on_second_and_third, h.after_node, h.after_download]))
def a_hook_that_fails_on_two_nodes(told: Told) -> None:
    errors = node_errors(told, "HookError", "node-1", "node-2")
    assert "ConnectionError: the store does not answer" in errors[1]["message"]
    assert ran(told) == []
    assert ran(told, "node-0") == ["breaks_on_second_and_third", "after_node"]
    assert ran(told, "node-2") == ["breaks_on_second_and_third"]


@scenario(Model([h.raises_what_cannot_be_pickled]), group=1)
def an_exception_that_cannot_be_pickled_arrives_as_text(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-0")
    assert "Odd: with a lock inside" in error["message"]


@scenario(Model([h.exits_on_its_node]), group=1)
def a_hook_that_exits_on_its_node_has_failed(told: Told) -> None:
    node_errors(told, "HookError", "node-0")


@scenario(Model([h.panics_on_its_node]), group=1)
def a_hook_that_panics_on_its_node_has_failed(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-0")
    assert "Panic: index out of range" in error["message"]


@scenario(Model([h.raises_what_cannot_be_read_and_warns, h.raises_what_cannot_be_read, h.failure]), group=1)
def an_exception_without_a_text_fails_its_hook(told: Told) -> None:
    error = failed(told, "HookError", hook="tests.contract.hooks:raises_what_cannot_be_read")
    assert error["message"].endswith("<Unreadable, whose text cannot be read>")
    assert ran(told) == ["raises_what_cannot_be_read_and_warns", "raises_what_cannot_be_read", "failure"]


@scenario(Model([h.raises_what_cannot_be_read_on_its_node, h.failure]), group=1)
def an_exception_without_a_text_comes_from_a_node(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-0")
    assert error["message"].endswith("<Unreadable, whose text cannot be read>")
    assert ran(told) == ["failure"]


@scenario(
    Model([h.raises_what_cannot_be_asked_and_warns_on_its_node, h.raises_what_cannot_be_asked, h.failure]), group=1
)
def an_exception_that_cannot_be_asked_fails_its_hook(told: Told) -> None:
    error = failed(told, "HookError", hook="tests.contract.hooks:raises_what_cannot_be_asked")
    assert error["message"].endswith("HostileError: the text")
    assert ran(told) == ["raises_what_cannot_be_asked", "failure"]


@scenario(Model([h.raises_groups_that_are_shared]), group=1)
def groups_that_are_shared_come_from_a_node_in_a_line(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-0")
    assert len(error["message"]) < 500


@scenario(Model([h.closes, h.failure]), group=1)
def a_hook_that_raises_a_generators_exit_has_failed(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:closes")
    assert ran(told) == ["closes", "failure"]


@scenario(Model([h.cancels, h.failure]), group=1)
def a_hook_that_cancels_without_being_asked_has_failed(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:cancels")
    assert ran(told) == ["cancels", "failure"]


@scenario(Model([h.closes_on_its_node, h.failure]), group=1)
def a_hook_that_raises_a_generators_exit_on_its_node_has_failed(told: Told) -> None:
    node_errors(told, "HookError", "node-0")
    assert ran(told) == ["failure"]


@scenario(Model([h.cancels_itself_on_its_node, h.failure]), group=1)
def a_hook_that_cancels_itself_on_its_node_has_failed(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-0")
    assert "it cancelled the task that it runs in" in error["message"]
    assert ran(told) == ["failure"]


@scenario(Model([h.cancels_itself_and_warns_on_its_node, h.after_node]), group=1)
def a_hook_that_cancels_itself_on_its_node_and_warns_lets_the_work_go_on(told: Told) -> None:
    went_well(told)
    assert ran(told, "node-0") == ["cancels_itself_and_warns_on_its_node", "after_node"]


@scenario(Model([h.cancels_itself, h.failure]), group=1)
def a_hook_that_cancels_itself_has_failed(told: Told) -> None:
    error = failed(told, "HookError", hook="tests.contract.hooks:cancels_itself")
    assert "it cancelled the task that it runs in" in error["message"]
    assert ran(told) == ["cancels_itself", "failure"]


@scenario(Model([h.breaks_at_the_start, h.failure, h.failure_that_fails, h.failure_after_that]))
def a_failing_clean_up_changes_nothing(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:breaks_at_the_start")
    assert ran(told) == ["breaks_at_the_start", "failure", "failure_that_fails", "failure_after_that"]
    assert notes(told)["the error stays"] == "HookError"


@scenario(Model([h.breaks_and_warns, h.slow_and_warns, h.breaks_and_warns_on_nodes, h.after_node]), group=2)
def hooks_that_warn_let_the_start_go_on(told: Told) -> None:
    went_well(told)
    assert [line.split()[2] for line in told["replica"]] == ["warned:", "warned:"]
    assert ran(told, "node-1") == ["breaks_and_warns_on_nodes", "after_node"]


@scenario(Model([h.breaks_at_the_start, h.breaks_on_second, h.after_init], on_error="warn"), group=2)
def a_config_that_warns_is_the_default_of_its_hooks(told: Told) -> None:
    went_well(told)
    assert ran(told) == ["breaks_at_the_start", "after_init"]
    assert "warned: OSError" in told["on nodes"]["node-1"]["hooks"][0]


@scenario(Model([h.breaks_and_raises], on_error="warn"), group=1)
def a_hook_that_raises_does_so_whatever_the_config_says(told: Told) -> None:
    node_errors(told, "HookError", "node-0")


# -- nodes, once the engine is up ------------------------------------------------------------------------------------


@scenario(Model([h.after_node_engine], source=BUCKET), group=2)
def nodes_are_asked_again_once_the_engine_is_up(told: Told) -> None:
    went_well(told)
    assert [node["downloaded"] for node in told["nodes"].values()] == [True, True]
    for node, local in (("node-0", True), ("node-1", False)):
        behind = ["<downloaded>", local, int(node[-1]), "MODEL_AND_TOKENIZER"]
        assert notes(told, node)["behind the engine"] == behind


@scenario(Model([h.the_replica_sends, h.the_node_changes, h.the_replica_adds, h.the_node_sees, h.the_replica_gets]))
def a_node_finds_its_own_data_and_what_the_replica_has_now(told: Told) -> None:
    went_well(told)
    assert notes(told)["what nodes saw"] == [["warm", True, f"node {number}'s"] for number in range(3)]


@scenario(Model([h.after_node, h.breaks_on_second_behind_the_engine, h.node_failure, h.failure]))
def a_node_that_fails_behind_the_engine_ends_the_start_and_cleans_up(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-1")
    assert error["point"] == "on_after_node_engine_init"
    assert told["ctx"]["engine"]  # it is up
    assert ran(told, "node-1", "on nodes after the engine") == ["breaks_on_second_behind_the_engine", "node_failure"]
    assert ran(told, "node-2", "on nodes after the engine") == ["breaks_on_second_behind_the_engine"]
    assert notes(told, "node-1") == {
        "after": ["/contract/model", "m"],
        "tried": True,
        "node failure": ["HookError", True, "/contract/model"],
    }
    assert notes(told)["failed nodes"] == ["node-1"]


@scenario(Model([h.changes_the_path_too_late]), group=1)
def a_path_that_a_node_changes_behind_the_engine_is_refused(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-0")
    assert "on_after_node_download is the last point at which it can" in error["message"]


@scenario(Model([h.no_download_with_a_reason, h.after_node_engine], source=BUCKET))
def a_vetoed_download_leaves_the_nodes_alone_behind_the_engine_too(told: Told) -> None:
    went_well(told)
    assert left_out(told) == [
        "on_after_node_engine_init after_node_engine: vetoed at on_before_download: baked into the image"
    ]
    assert "on nodes after the engine" not in told


@scenario(Model([h.after_node_engine, h.failure]), group=1, faults=[engine_fails("CUDA out of memory")])
def an_engine_that_does_not_start_leaves_the_nodes_alone(told: Told) -> None:
    failed(told, "RuntimeError")
    assert "on nodes after the engine" not in told


@scenario(
    Model([h.after_node, h.after_node_engine]), group=2, faults=[lost_node("node-1", at="on_after_node_engine_init")]
)
def a_worker_process_dies_behind_the_engine(told: Told) -> None:
    node_errors(told, "NodeLostError", "node-1")
    assert ran(told, "node-0", "on nodes after the engine") == ["after_node_engine"]
    assert notes(told, "node-1") == {"after": ["/contract/model", "m"]}  # what is known of it


@scenario(Model([h.after_node_engine, h.group_on_all]), group=1)
def nodes_of_a_replaced_group_are_asked_behind_the_engine(told: Told) -> None:
    went_well(told)
    assert [ran(told, node, "on nodes after the engine") for node in NODES] == [["after_node_engine"]] * 3


@scenario(Model([h.after_node, h.after_node_engine]), group=2, environ={DISABLE: "after_node_engine"})
def hooks_behind_the_engine_that_are_disabled_leave_a_mark(told: Told) -> None:
    went_well(told)
    assert ran(told, "node-1") == ["after_node"]
    assert told["on nodes after the engine"]["node-1"]["hooks"] == [
        "on_after_node_engine_init after_node_engine disabled: 'after_node_engine' in SERVE_LLM_HOOKS_DISABLE"
    ]


# -- clean-up on nodes ------------------------------------------------------------------------------------------------


@scenario(Model([h.breaks_on_second, h.node_failure, h.failure]))
def a_node_that_fails_cleans_up_and_the_others_do_not(told: Told) -> None:
    node_errors(told, "HookError", "node-1")
    assert [ran(told, node) for node in NODES] == [
        ["breaks_on_second"],
        ["breaks_on_second", "node_failure"],
        ["breaks_on_second"],
    ]
    assert notes(told, "node-1") == {"node failure": ["HookError", True, "/contract/model"]}
    assert told["each in a process of its own"]


@scenario(Model([h.node_failure], source=BUCKET), group=2, faults=[failing_download("node-1")])
def a_node_cleans_up_after_a_download_that_fails(told: Told) -> None:
    node_errors(told, "DownloadError", "node-1")
    assert notes(told, "node-1")["node failure"][0] == "DownloadError"
    assert ran(told, "node-0") == []


@scenario(Model([h.node_failure]), group=2)
def where_a_node_has_nothing_to_do_it_has_nothing_to_clean_up(told: Told) -> None:
    went_well(told)
    assert {node["worked"] for node in told["nodes"].values()} == {False}


@scenario(Model([h.blocks_its_thread, h.node_failure]), group=1)
def a_node_cleans_up_beside_a_hook_that_blocks(told: Told) -> None:
    node_errors(told, "HookTimeoutError", "node-0")
    assert ran(told, "node-0") == ["blocks_its_thread", "node_failure"]


@scenario(Model([h.answer_with_a_lock, h.node_failure]), group=1)
def a_node_cleans_up_where_its_data_cannot_leave_it(told: Told) -> None:
    node_errors(told, "HookPickleError", "node-0")
    assert ran(told, "node-0") == ["answer_with_a_lock", "node_failure"]


@scenario(Model([h.breaks_on_second, h.node_failure, h.node_clean_up_that_fails, h.node_clean_up_after_that]), group=2)
def a_failing_clean_up_on_a_node_changes_nothing(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-1")
    assert error["hook"] == "tests.contract.hooks:breaks_on_second"
    assert ran(told, "node-1")[1:] == ["node_failure", "node_clean_up_that_fails", "node_clean_up_after_that"]
    assert notes(told, "node-1")["the error stays"] == "HookError"


@scenario(
    Model([h.make_a_folder, h.works_until_second_fails, h.cleans_up_but_third_is_too_slow, h.look_into_the_folder]),
    node_grace_s=1.0,
)
def nodes_that_are_cancelled_clean_up_within_three_seconds(told: Told) -> None:
    node_errors(told, "HookError", "node-1")
    assert notes(told)["in the folder"] == [
        "0 cleans up after ServeLLMHooksError",
        "0 is cancelled",
        "0 is clean",
        "0 works",
        "1 cleans up after HookError",
        "1 is clean",
        "2 cleans up after ServeLLMHooksError",
        "2 is cancelled",
        "2 works",
    ]


@scenario(Model([h.breaks_on_second, h.node_failure]), group=2, environ={DISABLE: "node_failure"})
def a_clean_up_that_is_disabled_leaves_a_mark_where_it_would_have_run(told: Told) -> None:
    node_errors(told, "HookError", "node-1")
    assert [line.split()[2] for line in told["on nodes"]["node-1"]["hooks"]] == ["failed:", "disabled:"]
    assert ran(told, "node-0") == ["breaks_on_second"]


@scenario(
    Model(["only_on_some_nodes", h.node_failure]),
    group=2,
    faults=[missing_module("node-1", "only_on_some_nodes")],
)
def a_node_that_cannot_load_its_hooks_has_nothing_to_clean_up(told: Told) -> None:
    node_errors(told, "HookLoadError", "node-1")
    assert ran(told, "node-1") == []


# -- the end ----------------------------------------------------------------------------------------------------------


@scenario(Model([h.after_node, h.after_init, h.shutdown, h.failure]), group=2, shut_down_s=30.0)
def a_replica_that_stops_has_its_engine_and_its_context(told: Told) -> None:
    went_well(told)
    assert ran(told) == ["after_init", "shutdown"]
    assert notes(told)["at the end"] == [True, None, 2, "/contract/model"]


@scenario(Model([h.shutdown]), group=1)
def a_replica_that_is_not_stopped_runs_no_hook_for_that(told: Told) -> None:
    went_well(told)
    assert ran(told) == []


@scenario(Model([h.breaks_at_the_end, h.shutdown, h.failure]), group=1, shut_down_s=30.0)
def a_start_that_fails_runs_no_hook_for_the_end(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:breaks_at_the_end")
    assert ran(told) == ["breaks_at_the_end", "failure"]


@scenario(
    Model([h.shutdown_after_that, h.shutdown, h.shutdown_that_fails, h.shutdown_that_takes_too_long]),
    group=1,
    shut_down_s=30.0,
)
def at_the_end_each_hook_has_its_turn(told: Told) -> None:
    went_well(told)
    assert [line.split()[1:3] for line in told["replica"]] == [
        ["shutdown_that_takes_too_long", "timed_out:"],
        ["shutdown_that_fails", "failed:"],
        ["shutdown", "ok"],
        ["shutdown_after_that", "ok"],
    ]
    assert notes(told)["there was time left"]


@scenario(Model([h.shutdown_without_an_end, h.shutdown_after_that]), group=1, shut_down_s=0.5)
def what_does_not_end_in_time_leaves_none_to_others(told: Told) -> None:
    went_well(told)
    assert [line.split()[1:3] for line in told["replica"]] == [
        ["shutdown_without_an_end", "timed_out:"],
        ["shutdown_after_that", "skipped:"],
    ]


@scenario(Model([h.shutdown_that_blocks, h.shutdown_after_that]), group=1, shut_down_s=0.5)
def what_blocks_at_the_end_is_left_behind(told: Told) -> None:
    went_well(told)
    assert [line.split()[2] for line in told["replica"]] == ["timed_out:", "skipped:"]


@scenario(Model([h.shutdown]), group=1, shut_down_s=30.0, environ={DISABLE: "shutdown"})
def a_hook_for_the_end_that_is_disabled_leaves_a_mark(told: Told) -> None:
    went_well(told)
    assert told["replica"] == ["on_shutdown shutdown disabled: 'shutdown' in SERVE_LLM_HOOKS_DISABLE"]


# -- the engine's processes -------------------------------------------------------------------------------------------

TWO = {"tensor_parallel_size": 2}


def in_processes(told: Told) -> dict[str, list[str]]:
    """Return the hooks that ran in each process of the engine but the frontend, in order."""
    return {
        name: [line.split()[1] for line in of_process["hooks"]] for name, of_process in told["in processes"].items()
    }


@scenario(Model([h.data_for_processes, h.tell_process], engine_kwargs=TWO), group=2)
def each_process_of_the_engine_has_a_ctx_of_its_own(told: Told) -> None:
    went_well(told)
    assert list(told["in processes"]) == ["core", "worker-0", "worker-1"]
    seen = [line.partition("LookupError: ")[2] for line in told["replica"] if "tell_process" in line]
    for name in told["in processes"]:
        seen += [line.partition("LookupError: ")[2] for line in told["in processes"][name]["hooks"]]
    assert [line.split(" {")[0] for line in seen] == [
        "frontend frontend None 0", "core core None 0", "worker-0 worker 0 0", "worker-1 worker 1 0",
    ]  # fmt: skip
    assert all("{'name': 'contract'}" in line for line in seen)
    assert told["each in a process of its own"]


@scenario(Model([h.in_workers, h.in_core_and_frontend, h.in_inspection, h.process_start], engine_kwargs=TWO), group=2)
def roles_say_in_which_processes_a_hook_runs(told: Told) -> None:
    went_well(told)
    assert ran(told) == ["in_core_and_frontend", "process_start"]
    assert in_processes(told) == {
        "core": ["in_core_and_frontend", "process_start"],
        "worker-0": ["in_workers", "process_start"],
        "worker-1": ["in_workers", "process_start"],
    }


@scenario(Model([h.fails_in_second_worker, h.in_workers, h.failure], engine_kwargs=TWO), group=2)
def a_failure_in_one_worker_is_told_in_the_hooks_own_words(told: Told) -> None:
    error = failed(told, "HookError", point="on_engine_process_start", process="worker-1", cause="RuntimeError")
    assert error["message"] == (
        "hook tests.contract.hooks:fails_in_second_worker failed at on_engine_process_start for model 'm' in worker-1 "
        "on node node-0: LookupError: no such parser"
    )
    assert error["remote traceback"]
    assert in_processes(told)["worker-0"] == ["fails_in_second_worker", "in_workers"]
    assert in_processes(told)["worker-1"] == ["fails_in_second_worker"]
    assert ran(told) == ["fails_in_second_worker", "failure"]


@scenario(Model([h.fails_in_core, h.failure], engine_kwargs=TWO), group=2)
def where_the_core_fails_no_worker_is_started(told: Told) -> None:
    error = failed(told, "HookError", process="core")
    assert "SystemExit: 3" in error["message"]
    assert list(told["in processes"]) == ["core"]


@scenario(Model([h.fails_in_frontend, h.process_start, h.failure]), group=1)
def where_the_frontend_fails_no_engine_is_started(told: Told) -> None:
    failed(told, "HookError", process="frontend")
    assert "in processes" not in told
    assert told["engine"] is None


@scenario(Model([h.process_start], engine_kwargs=TWO), group=2, faults=[hook_fails("process_start", "no such parser")])
def a_hook_of_processes_can_be_made_fail(told: Told) -> None:
    failed(told, "HookError", process="frontend")


@scenario(
    Model([h.process_start, h.in_workers, h.failure], engine_kwargs=TWO),
    group=2,
    faults=[engine_process_dies("worker-0", in_hook="in_workers")],
)
def a_process_that_dies_in_its_hook_is_told_with_the_hook(told: Told) -> None:
    error = failed(told, "HookError", hook="tests.contract.hooks:in_workers", process="worker-0")
    assert "did not end at on_engine_process_start" in error["message"]
    assert in_processes(told)["worker-0"] == ["process_start"]


@scenario(Model([h.process_start, h.failure], engine_kwargs=TWO), group=2, faults=[missing_plugin("worker-1")])
def a_process_without_the_plugin_is_an_error(told: Told) -> None:
    error = failed(told, "HookLoadError")
    assert "worker-1 of the engine did not run 1 hook at on_engine_process_start" in error["message"]
    assert ran(told) == ["process_start", "failure"]


@scenario(Model([h.process_start, h.failure]), group=1, faults=[engine_fails("CUDA out of memory")])
def what_else_the_engine_fails_with_is_left_as_it_is(told: Told) -> None:
    failed(told, "RuntimeError")
    assert in_processes(told) == {"core": ["process_start"], "worker-0": ["process_start"]}


@scenario(Model([h.changes_what_is_read_only], engine_kwargs=TWO), group=2)
def what_a_process_is_given_is_read_only(told: Told) -> None:
    error = failed(told, "HookError", process="worker-0")
    assert "nothing of it goes back" in error["message"]


@scenario(Model([h.returns_what_means_nothing]), group=1)
def a_process_has_nothing_to_veto(told: Told) -> None:
    error = failed(told, "HookResultError", process="core")
    assert "there is nothing to veto here" in error["message"]


@scenario(Model([h.returns_a_coroutine]), group=1)
def nothing_is_awaited_in_a_process(told: Told) -> None:
    error = failed(told, "HookResultError", process="frontend")
    assert "nothing awaits it there" in error["message"]


@scenario(Model([h.too_much_data, h.process_start]), group=1)
def what_is_too_large_for_the_environment_is_told_before_the_engine(told: Told) -> None:
    error = failed(told, "HookPickleError")
    assert "The largest: ctx.custom_data['weights'] (200" in error["message"]


@scenario(Model([h.data_that_stays, h.process_start]), group=1)
def what_no_process_can_be_sent_is_told_before_the_engine(told: Told) -> None:
    error = failed(told, "HookPickleError")
    assert "ctx.custom_data['lock']" in error["message"]


@scenario(Model([h.process_start, h.in_workers]), group=1, environ={DISABLE: "process_start"})
def a_hook_of_processes_that_is_disabled_leaves_a_mark(told: Told) -> None:
    went_well(told)
    assert told["replica"][0] == f"on_engine_process_start process_start disabled: 'process_start' in {DISABLE}"
    assert in_processes(told) == {"worker-0": ["in_workers"]}


@scenario(Model([h.process_start, h.failure]), group=1, environ={"VLLM_PLUGINS": "others"})
def plugins_that_leave_ours_out_are_refused(told: Told) -> None:
    error = failed(told, "HookLoadError")
    assert "VLLM_PLUGINS='others,serve_llm_hooks'" in error["message"]


@scenario(Model([], fields={"callback": h.InProcesses, "callback_kwargs": {"name": "contract"}}), group=1)
def a_class_has_an_object_in_each_process(told: Told) -> None:
    went_well(told)
    assert in_processes(told) == {
        "core": ["InProcesses.on_engine_process_start"], "worker-0": ["InProcesses.on_engine_process_start"],
    }  # fmt: skip


@scenario(Model([], fields={"callback": h.AsyncInProcesses}), group=1)
def an_async_method_for_processes_is_refused(told: Told) -> None:
    error = failed(told, "HookSignatureError")
    assert "Write `def`" in error["message"]


# -- spans ------------------------------------------------------------------------------------------------------------


def said(told: Told, where: str = "replica") -> list[str]:
    """Return what the spans have said, in order."""
    lines: list[str] = notes(told, where).get("said", [])
    return lines


def finished(told: Told, where: str = "replica", task: str = "on nodes") -> list[str]:
    """Return the hooks of whose spans the second part ran, each with how that ended."""
    lines = told["replica"] if where == "replica" else told.get(task, {}).get(where, {"hooks": []})["hooks"]
    return [f"{line.split()[1]} {line.split()[5].rstrip(':')}" for line in lines if " after the yield: " in line]


SPANS = [h.outer_span, h.inner_span, h.last_of_a_start, h.last_of_a_failure]


@scenario(Model(SPANS), group=1)
def spans_end_after_a_good_start_the_last_one_first(told: Told) -> None:
    went_well(told)
    assert said(told) == ["outer begins", "inner begins", "the start is done", "inner ends", "outer ends"]
    assert finished(told) == ["inner_span ok", "outer_span ok"]
    assert told["in order"]


@scenario(Model(SPANS), group=1, faults=[engine_fails(RuntimeError("no GPU"))])
def spans_end_before_on_failure_and_the_error_is_raised_in_them(told: Told) -> None:
    failed(told, "RuntimeError")
    assert said(told)[2:] == [
        "inner ends after RuntimeError, True",
        "outer ends after RuntimeError, True",
        "the start has failed: RuntimeError",
    ]
    assert finished(told) == ["inner_span ok", "outer_span ok"]


@scenario(Model([h.until_the_engine, h.behind_the_span, *SPANS]), group=1)
def a_span_ends_on_entry_to_the_point_that_it_names(told: Told) -> None:
    went_well(told)
    at = said(told).index("ends at /contract/model")
    assert said(told)[at + 1] == "before the engine, with seed 7"
    assert told["engine"]["kwargs"]["seed"] == 7


@scenario(Model([*SPANS, h.span_that_breaks]), group=1)
def a_span_that_cannot_end_ends_the_start_and_the_others_see_it(told: Told) -> None:
    error = failed(told, "HookError", hook="tests.contract.hooks:span_that_breaks", point="on_before_download")
    assert (
        "failed at on_before_download, after its `yield`, for model 'm': OSError: cannot be released"
        in (error["message"])
    )
    assert said(told)[2:] == [
        "the start is done",
        "inner ends after HookError, True",
        "outer ends after HookError, True",
        "the start has failed: HookError",
    ]


@scenario(Model([*SPANS, h.span_that_breaks]), group=1, faults=[engine_fails(RuntimeError("no GPU"))])
def a_span_that_cannot_end_does_not_hide_why_the_start_has_failed(told: Told) -> None:
    failed(told, "RuntimeError")
    assert finished(told) == ["span_that_breaks ok", "inner_span ok", "outer_span ok"]


@scenario(Model([h.outer_span, h.yields_twice, h.breaks_at_the_end]), group=1)
def a_span_that_yields_twice_does_not_hide_it_either(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:breaks_at_the_end")
    assert finished(told) == ["yields_twice ok", "outer_span ok"]


@scenario(Model([h.outer_span, h.span_that_breaks_and_is_warned_of]), group=1)
def a_warning_about_the_end_of_a_span_is_no_failure(told: Told) -> None:
    went_well(told)
    assert finished(told) == ["span_that_breaks_and_is_warned_of warned", "outer_span ok"]


@scenario(Model([h.span_without_an_end, h.outer_span]), group=1)
def the_end_of_a_span_has_the_same_time_limit(told: Told) -> None:
    error = failed(told, "HookTimeoutError", hook="tests.contract.hooks:span_without_an_end")
    assert "after its `yield`, for model 'm': still running after timeout_s=0.2" in error["message"]
    assert said(told)[-1] == "outer ends after HookTimeoutError, True"


@scenario(Model([h.span_that_never_comes_to_its_yield, h.outer_span]), group=1)
def what_has_not_been_set_up_is_not_ended(told: Told) -> None:
    failed(told, "HookTimeoutError", hook="tests.contract.hooks:span_that_never_comes_to_its_yield")
    assert finished(told) == ["outer_span ok"]


@scenario(Model([h.yields_twice, h.outer_span]), Model([h.yields_twice_async], model_id="async"), group=1)
def a_second_yield_is_an_error(told: Told, of_async: Told) -> None:
    for each in (told, of_async):
        assert "it came to a second `yield`" in failed(each, "HookResultError")["message"]
    assert said(told)[1:] == ["closed", "outer ends after HookResultError, True"]


@scenario(Model([h.yields_never, h.outer_span]), Model([h.yields_never_async], model_id="async"), group=1)
def a_yield_that_is_never_come_to_is_an_error(told: Told, of_async: Told) -> None:
    for each in (told, of_async):
        assert "it ended before it came to its `yield`" in failed(each, "HookResultError")["message"]
    assert finished(told) == ["outer_span ok"]


@scenario(Model([h.span_that_vetoes, h.before_node_first]), group=1)
def what_a_span_yields_is_its_answer(told: Told) -> None:
    went_well(told)
    assert [line.split()[0] for line in told["replica"][:2]] == ["on_before_download", "on_before_node_download"]
    assert "vetoed: its files are here" in told["replica"][0]
    assert said(told) == ["ends"]


@scenario(Model([h.span_that_yields_something]), group=1)
def a_span_that_yields_something_else_is_told_so(told: Told) -> None:
    assert "it returned an int" in failed(told, "HookResultError")["message"]
    assert said(told) == ["ends after HookResultError"]


@scenario(Model([h.holds_a_task_group, h.waits_a_little]), group=1)
def a_task_group_that_a_span_holds_fails_with_it(told: Told) -> None:
    error = failed(told, "HookError", hook="tests.contract.hooks:holds_a_task_group")
    assert "ExceptionGroup" in error["message"]


@scenario(Model([h.sets_a_variable, h.sets_a_variable_async, h.sees_the_variable]), group=1)
def a_span_can_reset_a_context_variable(told: Told) -> None:
    went_well(told)
    assert said(told) == ["between: async", "async: unset", "sync: unset"]


@scenario(Model([], fields={"callback": h.Spans, "callback_kwargs": {"name": "mine"}}), group=1)
def the_methods_of_a_class_may_be_spans(told: Told) -> None:
    went_well(told)
    assert said(told) == ["mine begins", "changed ends, async", "changed ends"]
    assert said(told, "node-0") == ["mine begins", "mine begins", "mine ends"]


@scenario(Model([h.lifespan, h.lifespan_of_old, h.last_of_all, *SPANS[:1]]), group=1, shut_down_s=30.0)
def a_lifespan_ends_when_the_replica_stops(told: Told) -> None:
    went_well(told)
    assert said(told)[1:] == [
        "outer ends",
        "the heart has beaten: True, the engine answers: True",
        "released after nothing",
        "the replica stops",
    ]
    assert finished(told) == ["outer_span ok", "lifespan ok", "lifespan_of_old ok"]


@scenario(Model([h.lifespan_of_old, h.outer_span, h.breaks_at_the_end, h.last_of_a_failure]), group=1, shut_down_s=30.0)
def a_lifespan_ends_with_a_start_that_fails(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:breaks_at_the_end")
    assert said(told)[1:] == [
        "outer ends after HookError, True",
        "released after HookError",
        "the start has failed: HookError",
    ]


@scenario(Model([h.lifespan_without_an_end, h.lifespan_of_old, h.last_of_all]), group=1, shut_down_s=30.0)
def at_the_end_each_lifespan_has_its_turn(told: Told) -> None:
    went_well(told)
    assert said(told) == ["released after nothing", "the replica stops"]
    assert finished(told) == ["lifespan_of_old ok", "lifespan_without_an_end timed_out"]


@scenario(Model([h.lifespan_of_old, h.last_of_all]), group=1)
def a_lifespan_of_a_replica_that_is_not_stopped_goes_on(told: Told) -> None:
    went_well(told)
    assert said(told) == []


@scenario(Model([h.span_on_nodes, h.span_around_the_download, h.says_it_is_downloaded]), group=2)
def on_a_node_spans_end_with_its_work_or_around_the_download(told: Told) -> None:
    went_well(told)
    for node in NODES[:2]:
        assert said(told, node) == [
            "begins", "the download begins", "the download ends: True", "downloaded", "ends",
        ]  # fmt: skip
        assert finished(told, node) == ["span_around_the_download ok", "span_on_nodes ok"]
    assert told["in order"]


@scenario(Model([h.span_behind_the_engine, h.after_init]), group=1)
def a_span_behind_the_engine_ends_with_that_task(told: Told) -> None:
    went_well(told)
    assert said(told, "node-0") == ["caches are looked at", "caches are saved"]
    assert told["on nodes after the engine"]["node-0"]["before"] == "after_init"


@scenario(Model([h.span_on_nodes, h.breaks_on_second, h.says_it_has_failed]), group=2)
def on_a_node_that_fails_spans_end_before_its_clean_up(told: Told) -> None:
    node_errors(told, "HookError", "node-1")
    assert said(told, "node-1") == ["begins", "ends after HookError, True", "failed: HookError"]
    assert said(told, "node-0") == ["begins", "ends"]


@scenario(Model([h.span_on_nodes, h.says_it_has_failed], source=BUCKET), group=2, faults=[failing_download("node-1")])
def a_download_that_fails_is_raised_in_the_spans_of_its_node(told: Told) -> None:
    node_errors(told, "DownloadError", "node-1")
    assert said(told, "node-1") == ["begins", "ends after DownloadError, True", "failed: DownloadError"]


@scenario(Model([h.span_on_nodes, h.span_that_breaks_on_nodes, h.says_it_has_failed]), group=1)
def a_span_that_cannot_end_on_a_node_fails_the_node(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-0")
    assert "after its `yield`, for model 'm' on node node-0: OSError: cannot be unmounted" in error["message"]
    assert said(told, "node-0") == ["begins", "ends after HookError, True", "failed: HookError"]


@scenario(Model([h.outer_span, h.span_on_nodes]), group=1, environ={DISABLE: "outer_span,span_on_nodes"})
def spans_that_are_disabled_are_not_set_up(told: Told) -> None:
    went_well(told)
    assert said(told) == []
    assert finished(told) == []


# -- in the background ------------------------------------------------------------------------------------------------


def in_background(told: Told) -> list[str]:
    """Return the hooks of the background, each with how it ended."""
    lines = sorted(line for line in told["replica"] if line.split()[1].startswith("background_"))
    return [f"{line.split()[1].removeprefix('background_')} {line.split()[2].rstrip(':')}" for line in lines]


@scenario(Model([h.background_fetches, h.background_fetches_in_a_thread, h.not_yet, h.by_now]), group=1)
def the_background_is_waited_for_on_entry_to_its_point(told: Told) -> None:
    went_well(told)
    assert said(told) == ["before: False", "by now: m, False"]
    assert in_background(told) == ["fetches ok", "fetches_in_a_thread ok"]


@scenario(Model([h.background_ticks, h.looks_at_the_ticks]), group=1, engine_s=1.0)
def the_background_goes_on_while_the_engine_blocks_the_loop(told: Told) -> None:
    went_well(told)
    assert said(told) == ["no gap: True, no engine: True"]


@scenario(Model([h.outer_span, h.background_breaks, h.waits_for_long, h.last_of_a_failure]), group=1)
def a_failure_in_the_background_interrupts_a_hook(told: Told) -> None:
    error = failed(told, "HookError", hook="tests.contract.hooks:background_breaks", point="on_before_init")
    assert error["message"].endswith("failed at on_before_init for model 'm': OSError: nothing there")
    assert said(told)[1:] == ["no longer", "outer ends after HookError, True", "the start has failed: HookError"]
    assert "on_before_download waits_for_long cancelled" in told["replica"]


@scenario(Model([h.background_breaks_in_a_thread, h.waits_for_long_on_nodes]), group=2)
def a_failure_in_the_background_interrupts_the_nodes(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:background_breaks_in_a_thread")


@scenario(Model([h.background_breaks, h.after_engine_init]), group=1, engine_s=1.0)
def a_failure_in_the_background_waits_for_a_blocking_engine(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:background_breaks")


@scenario(Model([h.background_breaks_and_is_warned_of, h.by_now]), group=1)
def a_warning_about_the_background_is_no_failure(told: Told) -> None:
    went_well(told)
    assert in_background(told) == ["breaks_and_is_warned_of warned"]


@scenario(Model([h.background_without_an_end]), group=1)
def the_background_has_its_time_limit(told: Told) -> None:
    error = failed(told, "HookTimeoutError", hook="tests.contract.hooks:background_without_an_end")
    assert "still running after timeout_s=0.2" in error["message"]


@scenario(Model([h.outer_span, h.background_waits_for_long, h.breaks_at_the_start]), group=1)
def a_start_that_fails_cancels_the_background(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:breaks_at_the_start")
    assert in_background(told) == ["waits_for_long cancelled"]
    assert finished(told) == ["outer_span ok"]


@scenario(Model([h.background_one, h.background_other]), group=1)
def one_key_has_one_owner_in_the_background(told: Told) -> None:
    error = failed(told, "HookResultError")
    assert "background_one and tests.contract.hooks:background_other, which work in the background" in error["message"]
    assert "both set ctx.custom_data['key']" in error["message"]


@scenario(Model([h.background_other, h.sets_the_key]), group=1)
def what_the_replica_has_set_meanwhile_stays(told: Told) -> None:
    went_well(told)
    assert told["ctx"]["custom data"]["key"] == "the replica's"


@scenario(Model([h.background_one, h.after_one, h.background_after_one]), group=1)
def after_a_hook_in_the_background_means_after_its_end(told: Told) -> None:
    went_well(told)
    assert said(told) == ["after it: 1"]
    assert told["ctx"]["custom data"]["seen"] == 1


@scenario(Model([h.background_vetoes, h.waits_for_long]), group=1)
def the_background_is_too_late_for_a_veto(told: Told) -> None:
    error = failed(told, "HookResultError", hook="tests.contract.hooks:background_vetoes")
    assert "it vetoed, but works in the background (until='on_before_engine_init')" in error["message"]


@scenario(
    Model([h.background_assigns, h.waits_for_long]),
    Model([h.background_changes_arguments, h.waits_for_long], model_id="arguments"),
    group=1,
)
def the_background_changes_nothing_but_its_custom_data(told: Told, arguments: Told) -> None:
    assert (
        "ctx.model_path cannot be changed by a hook that works in the background"
        in (failed(told, "HookError")["message"])
    )
    assert "ctx.extra_init_kwargs cannot be changed by a hook" in failed(arguments, "HookError")["message"]


@scenario(Model([h.background_fetches, h.by_now]), group=1, environ={DISABLE: "background_fetches"})
def the_background_can_be_disabled(told: Told) -> None:
    went_well(told)
    assert said(told) == ["by now: None, None"]


@scenario(
    Model([h.background_on_nodes, h.in_front_on_nodes, h.has_not_arrived, h.has_arrived, h.sees_what_has_arrived]),
    group=2,
    engine_s=1.0,
)
def the_background_on_nodes_outlives_their_work(told: Told) -> None:
    went_well(told)
    assert said(told) == ["arrived: [False, False]", "arrived: [0, 1]"]
    assert said(told, "node-1")[-1] == "arrived: True"
    assert told["in the background"]["node-1"] == ["on_before_node_download background_on_nodes ok"]
    assert told["each in a process of its own"]


@scenario(Model([h.background_after_the_download, h.in_front_on_nodes]), group=1)
def the_background_may_begin_after_the_download(told: Told) -> None:
    went_well(told)
    assert told["nodes"]["node-0"]["custom data"]["also"] == ["/contract/model", 0]


@scenario(Model([h.outer_span, h.background_breaks_on_second, h.waits_for_long_behind_the_nodes]), group=2)
def a_failure_in_the_background_of_a_node_ends_the_start(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-1")
    assert error["hook"] == "tests.contract.hooks:background_breaks_on_second"
    assert said(told)[-1] == "outer ends after NodeInitializationError, True"


@scenario(Model([h.background_assigns_on_nodes]), Model([h.background_vetoes_on_nodes], model_id="veto"), group=1)
def the_background_on_nodes_changes_nothing_but_its_custom_data(told: Told, veto: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-0")
    assert "ctx.model_path cannot be changed by a hook that works in the background" in error["message"]
    (error,) = node_errors(veto, "HookResultError", "node-0")
    assert "it vetoed, but works in the background (until='on_after_download')" in error["message"]


@scenario(Model([h.background_key_on_nodes, h.background_key_once_more_on_nodes]), group=1)
def one_key_has_one_owner_in_the_background_of_a_node(told: Told) -> None:
    error = failed(told, "HookResultError")
    assert "both set ctx.custom_data['key'] on node node-0: let each have a key of its own" in error["message"]


@scenario(Model([h.background_key_on_nodes, h.after_the_background_on_nodes]), group=1)
def the_background_on_nodes_has_no_order(told: Told) -> None:
    assert "has a process of its own, beside the others" in failed(told, "HookOrderError")["message"]


# -- in the background, until the engine's workers begin -------------------------------------------------------------


@scenario(
    Model(
        [
            h.make_a_folder,
            h.background_until_workers,
            h.background_until_workers_on_nodes,
            h.core_begins,
            h.finds_weights,
            h.finds_what_workers_waited_for,
        ],
        engine_kwargs=TWO,
    ),
    group=2,
)
def the_engines_workers_wait_for_the_background(told: Told) -> None:
    went_well(told)
    assert said(told) == ["there: ['there', 'there']"]
    assert in_processes(told) == {"core": ["core_begins"], "worker-0": ["finds_weights"], "worker-1": ["finds_weights"]}


@scenario(
    Model(
        [
            h.make_a_folder,
            h.background_breaks_before_workers,
            h.core_begins,
            h.in_workers,
            h.look_into_the_folder,
            h.last_of_a_failure,
        ]
    ),
    group=1,
)
def a_failure_in_the_background_ends_the_engines_workers(told: Told) -> None:
    error = failed(told, "HookError", hook="tests.contract.hooks:background_breaks_before_workers", cause="OSError")
    assert error["message"].endswith("failed at on_before_download for model 'm': OSError: nothing there")
    assert in_processes(told) == {"core": ["core_begins"]}
    assert said(told) == ["the start has failed: HookError"]


@scenario(
    Model([h.make_a_folder, h.background_breaks_before_workers_on_second, h.core_begins, h.look_into_the_folder]),
    group=2,
)
def a_failure_in_the_background_of_a_node_ends_the_engines_workers(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-1")
    assert error["hook"] == "tests.contract.hooks:background_breaks_before_workers_on_second"
    assert in_processes(told) == {"core": ["core_begins"]}


@scenario(Model([h.background_that_workers_wait_for_too_long, h.in_workers]), group=1)
def what_workers_wait_for_has_its_time_limit(told: Told) -> None:
    name = "tests.contract.hooks:background_that_workers_wait_for_too_long"
    failed(told, "HookTimeoutError", hook=name)
    assert "in processes" not in told


@scenario(Model([h.make_a_folder, h.background_vetoes_before_workers, h.core_begins, h.look_into_the_folder]), group=1)
def what_workers_wait_for_is_too_late_for_a_veto(told: Told) -> None:
    error = failed(told, "HookResultError", hook="tests.contract.hooks:background_vetoes_before_workers")
    assert "it vetoed, but works in the background (until='on_engine_process_start')" in error["message"]


@scenario(Model([h.background_until_workers]), group=1, faults=[missing_plugin("worker-0")])
def a_worker_that_does_not_wait_is_an_error(told: Told) -> None:
    error = failed(told, "HookLoadError")
    waits = "wait for tests.contract.hooks:background_until_workers, at work until on_engine_process_start"
    assert f"worker-0 of the engine did not {waits}" in error["message"]


@scenario(Model([h.background_until_workers]), group=1, environ={"VLLM_PLUGINS": "others"})
def nothing_waits_where_the_plugin_is_not_allowed(told: Told) -> None:
    failed(told, "HookLoadError")


# -- weights that come late -------------------------------------------------------------------------------------------

LATE = {"weights": "late"}


@scenario(Model([h.in_workers, h.after_node, h.after_engine_init], source=BUCKET, fields=LATE), group=2)
def weights_come_while_the_engine_begins(told: Told) -> None:
    went_well(told)
    assert told["engine"]["model path"] == "<downloaded>"
    assert in_processes(told) == {"worker-0": ["in_workers"]}
    for node in told["nodes"].values():
        assert (node["mode"], node["downloaded"]) == ("MODEL_AND_TOKENIZER", True)


@scenario(Model([], source=BUCKET, fields=LATE), group=1)
def weights_come_late_without_any_hook(told: Told) -> None:
    went_well(told)


@scenario(Model([h.not_on_second, h.mode_of_its_own], source=BUCKET, fields=LATE), group=2)
def hooks_choose_what_is_downloaded_where_weights_are_late(told: Told) -> None:
    went_well(told)


@scenario(Model([h.failure], source=BUCKET, fields=LATE), group=2, faults=[failing_download("node-1")])
def a_download_whose_weights_are_late_fails(told: Told) -> None:
    node_errors(told, "DownloadError", "node-1")


@scenario(Model([], source=BUCKET, fields=LATE), group=1, faults=[missing_plugin("worker-0")])
def a_worker_that_does_not_wait_for_weights_is_an_error(told: Told) -> None:
    error = failed(told, "HookLoadError")
    assert "worker-0 of the engine did not wait for the download of the weights, at work until on_" in error["message"]


@scenario(
    Model([], fields=LATE),
    Model([], model_id="streams", source=BUCKET, fields=LATE, engine_kwargs={"load_format": "runai_streamer"}),
    Model([], model_id="soon", source=BUCKET, fields={"weights": "soon"}),
    group=1,
)
def late_weights_that_cannot_be_are_refused(told: Told, streams: Told, soon: Told) -> None:
    for each in (told, streams, soon):
        failed(each, "ValueError")


# -- time -------------------------------------------------------------------------------------------------------------


@scenario(Model([h.slow, h.go_on, h.failure]), group=1)
def an_async_hook_is_ended_at_its_timeout(told: Told) -> None:
    failed(told, "HookTimeoutError", hook="tests.contract.hooks:slow")
    assert ran(told) == ["slow", "failure"]
    assert "never" not in notes(told)


@scenario(Model([h.blocks, h.go_on, h.failure]), group=1)
def a_blocking_hook_is_left_behind_at_its_timeout(told: Told) -> None:
    failed(told, "HookTimeoutError", hook="tests.contract.hooks:blocks")
    assert ran(told) == ["blocks", "failure"]


@scenario(Model([h.in_time, h.slow_on_second]), group=2)
def an_async_hook_on_a_node_is_ended_at_its_timeout(told: Told) -> None:
    node_errors(told, "HookTimeoutError", "node-1")
    assert notes(told, "node-0") == {"in time": True}


@scenario(Model([h.blocks_on_its_node]), group=1)
def a_blocking_hook_on_a_node_is_left_behind_at_its_timeout(told: Told) -> None:
    (error,) = node_errors(told, "HookTimeoutError", "node-0")
    assert "still running after timeout_s=0.3" in error["message"]


@scenario(Model([h.polls_for_too_long, h.go_on, h.failure]), group=1)
def a_hook_that_sleeps_again_and_again_is_left_behind_at_its_timeout(told: Told) -> None:
    failed(told, "HookTimeoutError", hook="tests.contract.hooks:polls_for_too_long")
    assert ran(told) == ["polls_for_too_long", "failure"]


@scenario(Model([h.backs_off, h.no_download]), group=1)
def a_hook_that_backs_off_takes_as_long_on_every_clock(told: Told) -> None:
    assert notes(told) == {"as long as it slept": [True] * 3, "clocks agree": True}


@scenario(Model([h.polls_until_a_deadline]), group=2)
def a_hook_on_a_node_comes_to_its_deadline(told: Told) -> None:
    for node in ("node-0", "node-1"):
        assert notes(told, node) == {"looked more than once": True, "came to the deadline": True}


@scenario(Model([h.sleeps_until_a_deadline, h.no_download]), group=1)
def an_async_hook_comes_to_its_deadline(told: Told) -> None:
    assert notes(told) == {"came to the deadline": True}


@scenario(Model([h.makes_timers, h.no_download]), group=1)
def timers_fire_in_the_order_in_which_they_were_made(told: Told) -> None:
    assert notes(told) == {"fired": list(range(20))}


@scenario(Model([h.wakes_tasks_together, h.no_download]), group=1)
def tasks_that_sleep_as_long_wake_up_in_their_order(told: Told) -> None:
    assert notes(told) == {"woken": list(range(20))}


@scenario(Model([h.sleeps_in_its_loop, h.no_download]), group=1)
def an_async_hook_that_sleeps_in_its_loop_makes_timers_late(told: Told) -> None:
    assert notes(told) == {"seen": ["slept", "the timer, late"]}


@scenario(Model([h.starts_threads_that_sleep]), group=2)
def threads_on_a_node_sleep_at_the_same_time(told: Told) -> None:
    assert notes(told, "node-0") == notes(told, "node-1") == {"ended": [0.2, 0.4, 0.6]}


@scenario(Model([h.reads_a_queue, h.no_download]), group=1)
def waiting_for_a_thread_takes_as_long_as_the_thread(told: Told) -> None:
    assert notes(told) == {"too early": "empty", "in time": "full", "beats": ["a beat"]}


@scenario(Model([h.runs_a_subprocess, h.no_download]), group=1)
def a_subprocess_is_waited_for_within_a_timeout(told: Told) -> None:
    assert notes(told) == {"exit status": 3}


@scenario(Model([h.hands_work_to_threads, h.no_download]), group=1)
def idle_threads_hold_nothing_up(told: Told) -> None:
    assert notes(told) == {"sum": 3, "went on": True}


@scenario(Model([h.ticks_in_task_and_thread, h.counts_ticks, h.no_download]), group=1, engine_s=1.0)
def a_starting_engine_blocks_the_loop_and_no_thread(told: Told) -> None:
    assert notes(told) == {"ticks in the loop": 0, "ticks in the thread": True}


@scenario(Model([h.makes_timers_on_its_node]), group=2)
def timers_of_a_node_fire_in_the_order_in_which_they_were_made(told: Told) -> None:
    left = [number for number in range(20) if number % 5]
    assert notes(told, "node-0") == notes(told, "node-1") == {"fired": [-1, *left]}


@scenario(Model([h.ends_what_takes_too_long, h.no_download]), group=1)
def a_hooks_own_timeouts_end_what_takes_too_long(told: Told) -> None:
    assert notes(told) == {"ended": ["timeout", "wait_for", "wait: 1 and 1", "not too long"]}


@scenario(Model([h.waits_for_a_timer_in_a_thread, h.no_download]), group=1)
def a_thread_waits_for_as_long_as_it_says(told: Told) -> None:
    assert notes(told) == {"too early": False, "in time": True, "never": False, "nobody notifies": False}


@scenario(Model([h.leaves_a_task_that_beats]), group=1)
def a_task_beats_as_often_as_there_is_time(told: Told) -> None:
    assert notes(told, "node-0") == {"beats": 2}


@scenario(Model([h.never_ends_but_on_second, h.failure]), node_grace_s=1.0)
def when_a_node_fails_the_others_get_a_grace_and_no_more(told: Told) -> None:
    node_errors(told, "HookError", "node-1")
    assert [told["nodes"][node]["cancelled"] for node in NODES] == [True, False, True]
    assert notes(told)["failed nodes"] == list(NODES)


@scenario(Model([h.never_ends_on_second, h.failure]), group=2, node_timeout_s=12.0)
def a_node_that_takes_too_long(told: Told) -> None:
    node_errors(told, "NodeLostError", "node-1")
    assert ran(told, "node-0") == ["never_ends_on_second"]


# -- processes --------------------------------------------------------------------------------------------------------


@scenario(Model([h.Remembers, h.breaks_and_warns]), group=2, faults=[replica_dies(at="on_before_engine_init")])
def a_replica_that_dies_begins_again_with_nothing(told: Told) -> None:
    went_well(told)
    assert told["died"] == 1
    assert notes(told)["begins with"] == ["slots"]
    assert notes(told)["seen"] == ["the beginning", "an engine", "the end"]
    assert notes(told, "node-1")["seen"] == ["a node behind the engine"]


@scenario(
    Model([h.counts_starts_of_this_process, h.after_node_engine, h.shutdown]),
    group=1,
    apart=True,
    faults=[replica_dies(at="on_after_engine_init")],
)
def a_replica_that_dies_begins_again_in_a_fresh_process(told: Told) -> None:
    went_well(told)
    assert told["died"] == 1
    assert notes(told)["starts"] == 1
    assert ran(told, "node-0", "on nodes after the engine") == ["after_node_engine"]


@scenario(Model([h.Remembers, h.sets_a_context_variable]), group=1, times=2)
def starts_in_one_process_share_no_objects(told: Told) -> None:
    went_well(told)
    assert notes(told)["the variable"] == "nobody was here"
    assert notes(told)["begins with"] == ["slots"]
    assert notes(told)["seen"] == ["the beginning", "an engine", "the end"]


@scenario(Model([h.waits_at_a_lock_of_its_module, h.no_download]), group=1, times=2)
def a_lock_of_a_module_is_good_for_the_next_start(told: Told) -> None:
    went_well(told)
    assert notes(told) == {"order": [0, 1, 2]}


@scenario(Model([h.sets_a_signal_handler_in_the_replica, h.no_download]), group=1)
def the_replicas_loop_is_not_in_the_main_thread(told: Told) -> None:
    went_well(told)
    refused = {"it sets_a_signal_handler": "no", "it lets_its_loop_set_one": "no"}
    assert notes(told) == {"in the main thread": False, **refused}


@scenario(
    Model(
        [
            h.leaves_its_mark_on_its_node,
            h.finds_the_mark_on_its_node,
            h.looks_for_marks_in_the_replica,
            h.looks_for_marks_behind_the_engine,
        ]
    ),
    group=2,
    apart=True,
)
def processes_share_no_globals(told: Told) -> None:
    went_well(told)
    nothing: list[Any] = [[], [], None, False, False]
    for number, node in enumerate(NODES[:2]):
        mark = f"by {number}"
        assert notes(told, node)["found"] == nothing
        assert notes(told, node)["found later"] == [[mark], [mark], mark, True, True]
        assert notes(told, node)["found behind the engine"] == nothing
    assert notes(told)["found in the replica"] == nothing[:3]


@scenario(Model([h.make_a_folder, h.leaves_tasks_behind, h.waits_and_looks_into_the_folder]), group=2)
def tasks_that_hooks_leave_on_a_node_end_with_its_task(told: Told) -> None:
    went_well(told)
    assert notes(told)["in the folder"] == ["0 goes on", "0 is tidy", "1 goes on", "1 is tidy"]


@scenario(
    Model([h.make_a_folder, h.cleans_up_when_it_is_cancelled, h.look_into_the_folder]),
    node_grace_s=1.0,
)
def a_hook_that_is_cancelled_has_three_seconds_for_its_own_clean_up(told: Told) -> None:
    node_errors(told, "HookError", "node-1")
    assert notes(told)["in the folder"] == ["0 begins", "0 ends", "0 has ended", "1 has ended", "2 begins"]


# -- what a process has to itself -------------------------------------------------------------------------------------


@scenario(Model([h.holds_a_lock_of_its_module]))
def nodes_do_not_wait_for_each_other_at_a_modules_lock(told: Told) -> None:
    assert [notes(told, node) for node in NODES] == [{"waited for another node": False}] * 3


@scenario(Model([h.sets_signal_handlers, h.sets_a_signal_handler_in_its_thread]), group=2)
def async_hooks_on_a_node_are_in_its_main_thread(told: Told) -> None:
    for node in ("node-0", "node-1"):
        assert notes(told, node) == {
            "in the main thread": True,
            "a sync hook in the main thread": False,
            "refused": "signal only works in main thread of the main interpreter",
        }


@scenario(
    Model(
        [
            h.sets_variables_in_the_replica,
            h.sets_variables_on_its_node,
            h.has_variables_in_its_thread,
            h.looks_for_the_nodes_variables,
        ],
        runtime_env={"env_vars": {"CONTRACT_CONFIG": "by the config", "CONTRACT_BOTH": "by the config"}},
    ),
    group=2,
)
def a_node_has_the_variables_of_the_runtime_env_and_its_own(told: Told) -> None:
    for index, node in enumerate(("node-0", "node-1")):
        later = [None, "by the hook", "by the hook", None, f"by {index}"]
        assert notes(told, node) == {
            "found": ["by the config", "by the hook", "by the hook", None, None],
            "found later": later,
            "found in a thread": later,
        }
    assert notes(told)["of the nodes"] is None


@scenario(Model([h.make_a_folder, h.leaves_a_daemon_behind, h.waits_for_threads_and_looks]), group=2)
def a_nodes_threads_end_with_its_process(told: Told) -> None:
    went_well(told)
    assert notes(told)["in the folder"] == ["0 begins", "1 begins"]


# -- downloads, nodes, the engine -------------------------------------------------------------------------------------


@scenario(Model([h.before_download, h.after_node, h.after_download], source=BUCKET))
def every_node_downloads(told: Told) -> None:
    went_well(told)
    assert {node["path"] for node in told["nodes"].values()} == {"<downloaded>"}
    assert all(node["downloaded"] for node in told["nodes"].values())
    assert told["engine"]["model path"] == "<downloaded>"


@scenario(Model([h.after_node, h.failure], source=BUCKET), group=2, faults=[failing_download("node-1")])
def a_download_fails_on_one_node(told: Told) -> None:
    node_errors(told, "DownloadError", "node-1")
    assert ran(told, "node-0") == ["after_node"]
    assert ran(told, "node-1") == []
    assert notes(told)["failed nodes"] == ["node-1"]


@scenario(
    Model([h.before_node_first], source=BUCKET),
    group=2,
    faults=[failing_download("node-0"), failing_download("node-1")],
)
def a_download_fails_everywhere(told: Told) -> None:
    node_errors(told, "DownloadError", "node-0", "node-1")


@scenario(Model([h.after_node], source=BUCKET), group=2, faults=[failing_download("node-1", quietly=True)])
def a_download_that_fails_quietly_is_an_error(told: Told) -> None:
    node_errors(told, "DownloadError", "node-1")


@scenario(Model([], source=BUCKET), group=2, faults=[different_path("node-1", "/elsewhere/m")])
def a_path_of_one_nodes_own_is_let_through(told: Told) -> None:
    went_well(told)
    assert [told["nodes"][node]["path"] for node in NODES[:2]] == ["<downloaded>", "<elsewhere>"]


@scenario(
    Model([h.failure], source=BUCKET, engine_kwargs={"tensor_parallel_size": 2}),
    group=2,
    faults=[different_path("node-1", "/elsewhere/m")],
)
def a_path_of_one_nodes_own_is_an_error_for_an_engine_on_several(told: Told) -> None:
    failed(told, "ServeLLMHooksError")


@scenario(
    Model([h.before_node_first, "only_on_some_nodes", h.failure]),
    faults=[missing_module("node-1", "only_on_some_nodes")],
)
def a_module_that_one_node_does_not_have(told: Told) -> None:
    (error,) = node_errors(told, "HookLoadError", "node-1")
    assert "hooks module 'only_on_some_nodes' cannot be imported on node node-1" in error["message"]
    assert ran(told, "node-1") == []  # not even those that it has
    assert told["nodes"]["node-2"]["custom data"]["it is here"]


@scenario(
    Model([h.before_node_first, h.after_node, h.failure]),
    group=2,
    faults=[lost_node("node-1", at="on_before_node_download")],
)
def a_worker_process_dies_before_its_download(told: Told) -> None:
    node_errors(told, "NodeLostError", "node-1")
    assert ran(told, "node-0") == ["before_node_first", "after_node"]
    assert ran(told, "node-1") == []


@scenario(Model([h.after_node]), group=2, faults=[lost_node("node-1", at="on_after_node_download")])
def a_worker_process_dies_after_its_download(told: Told) -> None:
    node_errors(told, "NodeLostError", "node-1")


@scenario(
    Model([h.before_node_first, h.failure]),
    group=2,
    faults=[lost_node("node-1", at="on_before_node_download")],
    how="raylet",
)
def a_nodes_raylet_is_killed(told: Told) -> None:
    node_errors(told, "NodeLostError", "node-1")
    assert notes(told)["failed nodes"] == ["node-1"]


@scenario(Model([h.before_node_first, h.failure]), group=2, faults=[lost_node("node-1")], how="raylet")
def a_node_is_gone_before_it_is_sent_anything(told: Told) -> None:
    node_errors(told, "NodeLostError", "node-1")


@scenario(
    Model([h.before_node_first, h.failure]),
    group=2,
    faults=[lost_node("node-1", noticed_after_s=None)],
    how="raylet",
    node_timeout_s=10.0,
)
def a_stopped_raylet_is_found_out_by_our_own_timeout(told: Told) -> None:
    node_errors(told, "NodeLostError", "node-1")
    assert ran(told, "node-0") == ["before_node_first"]


@scenario(Model([*h.EVERY_POINT]), group=1, faults=[engine_fails("CUDA out of memory")])
def an_engine_that_does_not_start(told: Told) -> None:
    failed(told, "RuntimeError")
    assert ran(told)[-3:] == ["before_engine_init", "process_start", "failure"]
    assert notes(told)["failure"] == ["RuntimeError", False]


@scenario(Model([h.no_download], engine_kwargs={"max_model_len": 256, "dtype": "bfloat16"}), group=1)
def the_engine_is_started_with_the_configs_arguments(told: Told) -> None:
    went_well(told)
    assert told["engine"]["kwargs"] == {"max_model_len": 256, "dtype": "bfloat16"}


@scenario(
    Model(
        [h.no_download, h.engine_arguments, h.engine_arguments_early],
        engine_kwargs={"max_model_len": 256, "tool_call_parser": "hermes"},
    ),
    group=1,
)
def hooks_arguments_are_merged_over_the_configs(told: Told) -> None:
    went_well(told)
    assert told["engine"]["kwargs"] == {"max_model_len": 128, "max_num_seqs": 2}
    assert told["engine"]["frontend kwargs"] == {"tool_call_parser": "hermes", "chat_template": "{{ messages }}"}


def _refused(name: str, value: Any) -> Model:
    return Model([h.no_download, {"hook": h.sets_argument, "kwargs": {"name": name, "value": value}}, h.failure])


@scenario(_refused("model", "/m"), group=1)
def the_model_is_no_argument_for_hooks(told: Told) -> None:
    failed(told, "EngineArgumentError")
    assert notes(told)["failure"] == ["EngineArgumentError", False]


@scenario(_refused("tensor_parallel_size", 2), group=1)
def a_parallel_size_is_no_argument_for_hooks(told: Told) -> None:
    failed(told, "EngineArgumentError")


@scenario(_refused("tensor_parallel_size", 1), group=1)
def a_parallel_size_that_stays_is_let_through(told: Told) -> None:
    went_well(told)
    assert told["engine"]["kwargs"] == {"tensor_parallel_size": 1}


@scenario(_refused("max_modle_len", 128), group=1)
def an_unknown_argument_is_refused_with_a_suggestion(told: Told) -> None:
    failed(told, "EngineArgumentError")
    assert "did you mean 'max_model_len'?" in told["error"]["message"]


@scenario(_refused("tool_call_praser", "hermes"), group=1)
def an_unknown_argument_of_the_frontend_is_refused_with_a_suggestion(told: Told) -> None:
    failed(told, "EngineArgumentError")
    assert "did you mean 'tool_call_parser'?" in told["error"]["message"]


@scenario(Model([h.no_download, h.failure], engine_kwargs={"max_modle_len": 128}), group=1)
def an_unknown_argument_of_the_config_is_refused(told: Told) -> None:
    failed(told, "ValueError")


@scenario(Model([h.path_of_its_own, h.after_node], source=BUCKET), group=1)
def a_hooks_path_wins_over_the_downloads(told: Told) -> None:
    went_well(told)
    assert notes(told)["downloaded to"] == "<downloaded>"
    assert told["engine"]["model path"] == "/own/path"


@scenario(Model([h.no_download, h.argument_too_late, h.failure]), group=1)
def an_argument_that_comes_too_late_is_refused(told: Told) -> None:
    failed(told, "HookError", point="on_after_engine_init", cause="TypeError")
    assert notes(told)["failure"] == ["HookError", True]


@scenario(Model([h.no_download, h.path_too_late]), group=1)
def a_path_that_comes_too_late_is_refused(told: Told) -> None:
    failed(told, "HookError", point="on_after_engine_init", cause="AttributeError")


@scenario(Model([h.no_download, h.notes_are_never_too_late]), group=1)
def custom_data_stays_open_to_the_end(told: Told) -> None:
    went_well(told)
    assert notes(told) == {"still open": True}
    assert told["ctx"]["custom data"]["replaced"]


@scenario(Model([h.writes_what_is_read_only]), group=1)
def what_is_read_only_cannot_be_written(told: Told) -> None:
    failed(told, "HookError", cause="AttributeError")


# -- a config that a hook changes -------------------------------------------------------------------------------------


@scenario(Model([h.changes_the_config, h.before_download, h.failure]), group=1)
def a_hook_that_changes_the_config_is_told_what_to_write(told: Told) -> None:
    error = failed(told, "EngineArgumentError")
    assert "a hook at on_before_init changed ctx.llm_config.engine_kwargs['seed']" in error["message"]
    assert "Set ctx.extra_init_kwargs['seed'] instead" in error["message"]
    assert "7" not in error["message"]
    assert ran(told) == ["changes_the_config", "failure"]


@scenario(Model([h.removes_from_the_config], engine_kwargs={"max_model_len": 64}), group=1)
def a_hook_that_removes_an_argument_from_the_config(told: Told) -> None:
    error = failed(told, "EngineArgumentError")
    assert "a hook at on_before_engine_init changed ctx.llm_config.engine_kwargs['max_model_len']" in error["message"]


@scenario(Model([h.parallel_in_both_places]), group=1)
def a_parallel_size_in_both_places_is_changed_all_the_same(told: Told) -> None:
    error = failed(told, "EngineArgumentError")
    assert "The placement group is made for a parallel size" in error["message"]


@scenario(Model([h.changes_the_source]), group=1)
def a_hook_that_changes_the_models_source(told: Told) -> None:
    error = failed(told, "EngineArgumentError")
    assert "a hook at on_before_download changed the model_source" in error["message"]
    assert "Set ctx.model_path" in error["message"]


@scenario(Model([h.changes_an_argument_in_place], engine_kwargs={"compilation_config": {"mode": 0}}), group=1)
def a_hook_that_changes_an_argument_in_place(told: Told) -> None:
    error = failed(told, "EngineArgumentError")
    assert "ctx.llm_config.engine_kwargs['compilation_config']" in error["message"]


# -- a config that is refused -----------------------------------------------------------------------------------------


@scenario(Model([h.before_init], source={"bucket_url": "s3://models/m"}))
def a_misspelt_bucket_is_refused_with_the_config(told: Told) -> None:
    failed(told, "ValueError")
    assert "replica" not in told


@scenario(Model([h.before_init], source={"bucket_uri": "file:///models/m"}))
def a_bucket_that_is_none_is_refused_with_the_config(told: Told) -> None:
    failed(told, "ValueError")
    assert "replica" not in told


@scenario(Model([h.before_init], source={"bucket_uri": ""}))
def an_empty_bucket_is_refused_with_the_config(told: Told) -> None:
    failed(told, "ValueError")
    assert "replica" not in told


@scenario(Model([h.before_init], source={"bucket_uri": BUCKET, "extra_files": [{"bucket_uri": "s3://models/extra"}]}))
def extra_files_without_a_destination_are_refused_with_the_config(told: Told) -> None:
    failed(told, "ValueError")
    assert "replica" not in told


@scenario(Model([h.after_node], source=""), group=1)
def an_empty_source_is_the_models_id(told: Told) -> None:
    went_well(told)
    assert told["engine"]["model path"] == "m"


def _started_with(**kwargs: Any) -> Model:
    return Model([h.no_download, h.before_engine_init, h.failure], engine_kwargs=kwargs)


@scenario(_started_with(model="/m"), group=1)
def the_model_is_no_argument_of_the_config(told: Told) -> None:
    error = failed(told, "RuntimeError")
    assert "model or served_model_name is not allowed in engine_kwargs" in error["message"]
    assert ran(told) == ["no_download", "before_engine_init", "failure"]


@scenario(_started_with(served_model_name=["m"]), group=1)
def the_served_name_is_no_argument_of_the_config(told: Told) -> None:
    assert "Please use `model_loading_config`" in failed(told, "RuntimeError")["message"]


@scenario(_started_with(compilation_config={"levle": 3}), group=1)
def a_name_that_a_compilation_config_does_not_have_is_refused(told: Told) -> None:
    message = failed(told, "RuntimeError")["message"]
    assert "Invalid vLLM config for 'compilation_config': 1 validation error for CompilationConfig" in message
    assert "levle" in message


@scenario(
    Model(
        [h.no_download, h.failure],
        engine_kwargs={"distributed_executor_backend": "mp"},
        fields={"accelerator_config": {"kind": "gpu"}},
    ),
    group=1,
)
def another_backend_than_ray_is_refused_on_a_gpu(told: Told) -> None:
    assert "distributed_executor_backend != 'ray' is not allowed" in failed(told, "RuntimeError")["message"]


@scenario(_started_with(distributed_executor_backend="ray"), group=1)
def on_a_cpu_ray_chooses_the_backend_itself(told: Told) -> None:
    went_well(told)
    assert told["engine"]["kwargs"] == {"distributed_executor_backend": "mp"}


# -- the engine that answers ------------------------------------------------------------------------------------------


@scenario(Model([h.no_download, h.asks]), group=1)
def a_hook_asks_the_engine(told: Told) -> None:
    went_well(told)
    assert notes(told) == {"answer": ["Paris.", "stop", 2, "m"]}


@scenario(Model([h.no_download, h.asks, h.failure]), group=1, faults=[engine_answers_error("no room", code=503)])
def an_engine_that_answers_with_an_error(told: Told) -> None:
    error = failed(told, "HookError", hook="tests.contract.hooks:asks", cause="EngineAnswerError")
    assert "the engine of model 'm' answered with an error (503): no room" in error["message"]
    assert notes(told)["failure"] == ["HookError", True]


@scenario(Model([h.no_download, h.asks_for_another_model]), group=1)
def an_engine_does_not_know_another_model(told: Told) -> None:
    error = failed(told, "HookError", cause="EngineAnswerError")
    assert "(404): The model `another` does not exist." in error["message"]


@scenario(Model([h.no_download, h.asks_with_a_dict, h.looks_for_what_the_fake_records]), group=1)
def an_engine_takes_requests_and_shows_nothing_else(told: Told) -> None:
    went_well(told)
    assert notes(told) == {"a dict is no request": True, "found": []}


@scenario(
    Model([h.no_download, h.changes_the_config_behind_the_engine], engine_kwargs={"compilation_config": {"mode": 0}}),
    group=1,
)
def a_config_that_is_changed_behind_the_engine(told: Told) -> None:
    went_well(told)
    assert told["engine"]["kwargs"] == {"compilation_config": {"mode": 0}}


@scenario(Model([h.no_download, h.looks_at_answers]), group=1)
def a_model_that_makes_no_embeddings_answers_with_an_error(told: Told) -> None:
    went_well(told)
    assert notes(told)["embedding"][:2] == [1, 400]


# -- bundles and strategies -------------------------------------------------------------------------------------------


def _bundles(strategy: str, *bundles: dict[str, float]) -> dict[str, Any]:
    return {"bundles": list(bundles), "strategy": strategy}


@scenario(Model([h.before_node_second]), placement=_bundles("STRICT_PACK", {"CPU": 1}, {"CPU": 1, "slot-2": 1}))
def a_strict_pack_is_on_one_node(told: Told) -> None:
    went_well(told)
    assert told["output"]["group"] == ["node-2", "node-2"]
    assert list(told["nodes"]) == ["node-2"]


@scenario(Model([h.before_node_second]), placement=_bundles("STRICT_PACK", {"CPU": 3}, {"CPU": 3}))
def a_strict_pack_that_fits_on_no_node(told: Told) -> None:
    failed(told, "PlacementGroupError")


@scenario(
    Model([h.before_node_second]),
    placement=_bundles("STRICT_SPREAD", {"CPU": 1, "slot-1": 1}, {"CPU": 1, "slot-0": 1}),
)
def a_strict_spread_is_on_as_many_nodes_as_bundles(told: Told) -> None:
    went_well(told)
    assert told["output"]["group"] == list(told["nodes"]) == ["node-1", "node-0"]


@scenario(Model([h.failure]), placement=_bundles("STRICT_SPREAD", {"CPU": 1}, {"CPU": 1}, {"CPU": 1}, {"CPU": 1}))
def a_strict_spread_over_more_nodes_than_there_are(told: Told) -> None:
    failed(told, "PlacementGroupError")
    assert ran(told) == ["failure"]


@scenario(Model([h.before_node_second]), placement=_bundles("SPREAD", {"CPU": 1, "slot-1": 1}, {"CPU": 1, "slot-1": 1}))
def a_spread_shares_a_node_where_it_must(told: Told) -> None:
    went_well(told)
    assert told["output"]["group"] == ["node-1", "node-1"]


@scenario(Model([h.before_node_second]), placement=_bundles("PACK", {"CPU": 1}, {"CPU": 3, "slot-1": 1}))
def a_pack_is_on_few_nodes(told: Told) -> None:
    went_well(told)
    assert told["output"]["group"] == ["node-1", "node-1"]


@scenario(Model([h.looks_at_its_group, h.takes_a_group_like_its_own]), group=2)
def a_group_tells_hooks_about_itself(told: Told) -> None:
    went_well(told)
    assert notes(told)["group"] == [2, [{"CPU": 1}, {"CPU": 1}], False, True, True]
    assert notes(told)["ready"]
    assert notes(told)["equal"] == [True, False, 2]


# -- hooks that a fault makes fail ------------------------------------------------------------------------------------


@scenario(
    Model([h.checks_its_gpu, h.after_node, h.failure]),
    group=2,
    faults=[hook_fails("checks_its_gpu", OSError("no GPU found"), node="node-1")],
)
def a_fault_makes_a_hook_fail_on_one_node(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-1")
    assert error["hook"] == "tests.contract.hooks:checks_its_gpu"
    assert error["message"].endswith("on node node-1: OSError: no GPU found")
    assert notes(told, "node-0")["gpu"]
    assert ran(told, "node-1") == ["checks_its_gpu"]


@scenario(Model([h.before_init, h.before_download, h.failure]), group=1, faults=[hook_fails("before_download", "no")])
def a_fault_makes_a_hook_of_the_replica_fail(told: Told) -> None:
    failed(told, "HookError", hook="tests.contract.hooks:before_download", cause="RuntimeError")
    assert ran(told) == ["before_init", "before_download", "failure"]


@scenario(Model([h.changes_the_environment]), group=1)
def a_hook_that_changes_the_configs_environment(told: Told) -> None:
    error = failed(told, "EngineArgumentError")
    assert "a hook at on_before_init changed the runtime_env of ctx.llm_config" in error["message"]
    assert "Set ctx.runtime_env instead" in error["message"]
    assert "secret" not in error["message"]


@scenario(Model([h.changes_the_hooks]), group=1)
def a_hook_that_changes_the_configs_hooks(told: Told) -> None:
    error = failed(told, "EngineArgumentError")
    assert "the hooks of this start were chosen" in error["message"]


# -- once per node ----------------------------------------------------------------------------------------------------


def once(told: Told, where: str = "node-0", task: str = "on nodes") -> list[str]:
    """Return each hook's outcome on a node, and the reason."""
    return [line.partition(" ")[2] for line in told[task][where]["hooks"]]


@scenario(Model([h.fetches_once, h.looks_at_what_was_fetched], source=BUCKET), group=1, times=2, disk=True)
def the_second_start_takes_what_the_first_has_fetched(told: Told) -> None:
    went_well(told)
    replayed, looked = once(told)
    assert replayed == "fetches_once replayed: done by process <id>; it vetoed: fetched it"
    assert looked == "looks_at_what_was_fetched ok"
    assert notes(told, "node-0") == {"fetched": False, "finds": "/own/path"}
    assert told["nodes"]["node-0"]["skipped"] == "fetched it"
    assert told["ctx"]["model path"] == "/own/path"


@scenario(Model([h.notes_once]), group=2, times=2, disk=True)
def once_per_node_and_rollout(told: Told) -> None:
    went_well(told)
    for node in ("node-0", "node-1"):
        assert once(told, node) == ["notes_once replayed: done by process <id>"]
        assert notes(told, node) == {"unfinished": False}


@scenario(Model([h.fails_at_first]), group=1, times=2, disk=True)
def after_a_failure_the_next_runs_it(told: Told) -> None:
    went_well(told)
    assert once(told) == ["fails_at_first ok"]
    assert notes(told, "node-0") == {"unfinished": False}


@scenario(
    Model([h.notes_once]), group=2, times=2, disk=True, faults=[node_process_dies("node-1", in_hook="notes_once")]
)
def after_a_death_the_next_knows(told: Told) -> None:
    went_well(told)
    assert once(told, "node-0") == ["notes_once replayed: done by process <id>"]
    assert once(told, "node-1") == ["notes_once ok"]
    assert [notes(told, node)["unfinished"] for node in ("node-0", "node-1")] == [False, True]


@scenario(Model([h.notes_once]), group=2, disk=True, faults=[node_process_dies("node-1", in_hook="notes_once")])
def a_process_that_dies_in_a_hook(told: Told) -> None:
    (error,) = node_errors(told, "NodeLostError", "node-1")
    assert error["node"] == "node-1"


@scenario(Model([h.hangs_at_first]), group=1, times=2, disk=True)
def after_a_time_limit_the_next_knows(told: Told) -> None:
    went_well(told)
    assert once(told) == ["hangs_at_first ok"]
    assert notes(told, "node-0") == {"unfinished": True}


@scenario(Model([h.keeps_a_lock]), group=1, disk=True)
def what_others_cannot_be_given_names_the_hook(told: Told) -> None:
    (error,) = node_errors(told, "HookError", "node-0")
    assert error["hook"] == "tests.contract.hooks:keeps_a_lock"
    assert "ctx.custom_data['lock'] (lock) cannot" in error["message"]


@scenario(Model([h.notes_once]), group=1, environ={"SERVE_LLM_HOOKS_NODE_DIR": "nowhere"})
def a_folder_that_cannot_be_used(told: Told) -> None:
    node_errors(told, "ServeLLMHooksError", "node-0")


@scenario(Model([h.background_once]), group=1, times=2, disk=True)
def once_in_the_background(told: Told) -> None:
    went_well(told)
    assert notes(told, "node-0") == {"in the background": True}


@scenario(Model([h.collects_once]), group=1, times=2, disk=True)
def once_when_the_engine_is_up(told: Told) -> None:
    went_well(told)
    (line,) = once(told, task="on nodes after the engine")
    assert line == "collects_once replayed: done by process <id>"


@scenario(Model([], fields={"callback": h.FillsOnce}), group=1, times=2, disk=True)
def once_in_a_class(told: Told) -> None:
    went_well(told)
    assert once(told) == ["FillsOnce.on_after_node_download replayed: done by process <id>"]
