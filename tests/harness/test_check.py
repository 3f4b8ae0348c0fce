"""``check_hooks``: what it finds, and that it finds nothing where nothing is."""

from __future__ import annotations

import logging
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookRegistry
from serve_llm_hooks_testing import FakeLLMConfig, HarnessError, check_hooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from serve_llm_hooks import NodeCtx

GOOD = """
import asyncio

@hook("on_before_download", model_id=["llama-*", "qwen"])
def choose(ctx):
    ctx.worker_node_download_model = "TOKENIZER_ONLY"

@hook("on_before_node_download")
async def fetch(ctx):
    await asyncio.sleep(60)
    ctx.custom_data["fetched"] = ctx.node_id

@hook("on_after_download")
def look(ctx):
    ctx.custom_data["fetched"] = [result.custom_data["fetched"] for result in ctx.nodes.values()]
"""

# What is wrong with a module of hooks, and what is said about it.
BAD = {
    "a circle": (
        """
        @hook("on_before_init", before="two")
        def one(ctx): pass
        @hook("on_before_init", before="one")
        def two(ctx): pass
        """,
        "circle",
    ),
    "a parameter that nobody gives": (
        '@hook("on_before_init")\ndef one(ctx, *, bucket): pass',
        "bucket",
    ),
    "needs nodes": (
        '@hook("on_before_engine_init")\ndef one(ctx): ctx.nodes["node-0"]',
        "with downloads vetoed, with the defaults skipped: hook .*:one failed",
    ),
    "needs a second node": (
        '@hook("on_after_download")\ndef one(ctx): ctx.nodes["node-1"]',
        "on one node, .*KeyError",
    ),
    "fails when cleaning up": (
        '@hook("on_failure")\ndef one(ctx): ctx.engine.stop()',
        "one fails at on_failure, so it cleans nothing up",
    ),
    "fails when cleaning up on a node": (
        '@hook("on_node_failure")\ndef one(ctx): ctx.custom_data["mounted"].unmount()',
        "with a failing download, .*one fails at on_node_failure, so it cleans nothing up: KeyError",
    ),
    "fails when it is stopped": (
        '@hook("on_shutdown")\ndef one(ctx): ctx.custom_data["lease"].give_back()',
        "on one node, .*one fails at on_shutdown, so it does not end what it should: KeyError",
    ),
    "takes too long to stop": (
        'import asyncio\n@hook("on_shutdown")\nasync def one(ctx): await asyncio.sleep(60)',
        "one fails at on_shutdown, so .*: still running when the 16 s of the hooks at on_shutdown were over",
    ),
    "fails quietly": (
        '@hook("on_before_init", on_error="warn")\ndef one(ctx): 1 / 0',
        "on_error='warn' hides it",
    ),
    "not idempotent": (
        """
        import os, shutil, tempfile
        FOLDER = os.path.join(tempfile.gettempdir(), "check-hooks-not-idempotent")
        @hook("on_before_init")
        def one(ctx): os.mkdir(FOLDER)
        @hook("on_failure")
        def two(ctx): shutil.rmtree(FOLDER, ignore_errors=True)
        @hook("on_shutdown")
        def three(ctx): os.rmdir(FOLDER)
        """,
        "after a restart of the replica.*FileExistsError",
    ),
    "blocks its thread": (
        '@hook("on_before_init")\ndef one(ctx):\n    import select; select.select([], [], [], 0.5)',
        "one .*really blocks",
    ),
    "blocks the loop": (
        '@hook("on_before_init")\nasync def one(ctx):\n    import time; time.sleep(1)',
        "one .*blocks the event loop",
    ),
    "written on a node, read in the replica": (
        """
        found = {}
        def remember(ctx): found[ctx.node_id] = True
        @hook("on_before_node_download")
        def one(ctx): remember(ctx)
        @hook("on_after_download")
        def two(ctx): print(found)
        """,
        r"what is printed or logged at .*_hooks\.py:\d+: not the same when the replica and each node are processes",
    ),
    "written in the replica, read on a node": (
        """
        token = None
        @hook("on_before_init")
        def one(ctx):
            global token
            token = "secret"
        @hook("on_before_node_download")
        def two(ctx): print(token)
        """,
        "what is printed or logged at .*: not the same when the replica and each node are processes of their own",
    ),
    "written in one method, read in another": (
        """
        STATE = {}
        class one:
            def remember(self, ctx): STATE[ctx.node_id] = True
            def on_before_node_download(self, ctx): self.remember(ctx)
            def on_after_download(self, ctx): print(STATE)
        """,
        "what is printed or logged at .*Pass it on in ctx.custom_data",
    ),
    "shared by the objects of a class": (
        """
        class one:
            found = []
            def on_before_node_download(self, ctx): self.found.append(ctx.node_id)
            def on_after_download(self, ctx): print(self.found)
        """,
        "what is printed or logged at .*Pass it on in ctx.custom_data",
    ),
    "for models of a glob": (
        '@hook("on_before_init", model_id="llama-[!x78]b")\ndef one(ctx): 1 / 0',
        "one failed",
    ),
    "needs nodes where there may be none": (
        '@hook("on_failure")\ndef one(ctx): next(iter(ctx.nodes))',
        "with a group that cannot be scheduled.*: hook .*:one fails at on_failure",
    ),
    "a veto that is thrown away": (
        """
        @hook("on_before_download")
        def one(ctx):
            if ctx.model_id:
                skip("baked into the image")
        """,
        r"one at on_before_download calls skip\(\.\.\.\) in line \d+ of .* and throws the result away",
    ),
    "a veto that a helper throws away": (
        """
        import serve_llm_hooks
        def veto(): serve_llm_hooks.skip("baked into the image")
        @hook("on_before_download")
        async def one(ctx): veto()
        """,
        "throws the result away",
    ),
    "a question without await": (
        """
        from serve_llm_hooks import ask
        @hook("on_after_engine_init")
        async def one(ctx):
            ask(ctx, "Hello")
        """,
        r"one at on_after_engine_init calls ask\(\.\.\.\) in line \d+ of .* without `await`, so nothing of it runs",
    ),
    "a question in a sync hook": (
        """
        import serve_llm_hooks
        @hook("on_after_engine_init")
        def one(ctx):
            serve_llm_hooks.ask(ctx, "Hello")
        """,
        r"without `await`.*write `await serve_llm_hooks\.ask\(\.\.\.\)`, in an `async def`",
    ),
    "a helper of its own without await": (
        """
        import asyncio
        async def settle(): await asyncio.sleep(1)
        @hook("on_after_engine_init")
        async def one(ctx):
            settle()
        """,
        r"calls settle\(\.\.\.\) in line \d+ of .* without `await`",
    ),
    "a question in a loop of its own": (
        """
        import asyncio
        from serve_llm_hooks import ask
        @hook("on_after_engine_init")
        def one(ctx):
            asyncio.run(ask(ctx, "Hello"))
        """,
        r"one at on_after_engine_init gives ask\(\.\.\.\) to asyncio\.run\(\.\.\.\) in line \d+ of .*event loop",
    ),
    "a question that is printed": (
        """
        from serve_llm_hooks import ask
        @hook("on_after_engine_init")
        async def one(ctx):
            print(ask(ctx, "Hello"))
        """,
        r"calls ask\(\.\.\.\) in line \d+ of .* without `await`",
    ),
    "a question in a text": (
        """
        from serve_llm_hooks import ask
        @hook("on_after_engine_init")
        async def one(ctx):
            print(f"{ask(ctx, 'Hello')}")
        """,
        r"calls ask\(\.\.\.\) in line \d+ of .* without `await`",
    ),
    "an error that is not imported": (
        """
        @hook("on_before_node_download")
        def one(ctx):
            try:
                ctx.custom_data["x"] = 1
            except TimeoutError:
                logging.warning("the store does not answer")
        """,
        r"one at on_before_node_download uses 'logging' in line 8 of .*, which has no such name: a NameError",
    ),
    "stumbles over what it is told": (
        '@hook("on_failure")\ndef one(ctx): getattr(ctx.error, "node_ids")[0]',
        "fails at on_failure, so it cleans nothing up: AttributeError",
    ),
    "does not know a lost node": (
        """
        from serve_llm_hooks import NodeInitializationError
        @hook("on_failure")
        def one(ctx):
            if isinstance(ctx.error, NodeInitializationError) and "was lost" in str(ctx.error):
                raise KeyError("no reason for that")
        """,
        "with a lost node.*fails at on_failure",
    ),
    "does not take an error of the engine": (
        """
        @hook("on_after_engine_init")
        async def one(ctx):
            from serve_llm_hooks import ask
            try:
                await ask(ctx, "Hello!")
            except RuntimeError:
                from no_such_company import WarmUpError
        """,
        "with an engine that answers with errors: .*one failed.*ModuleNotFoundError",
    ),
    "needs what a hook that warns has left": (
        """
        @hook("on_before_init", on_error="warn")
        def one(ctx): ctx.custom_data["token"] = "t"
        @hook("on_before_engine_init")
        def two(ctx): ctx.custom_data["token"]
        """,
        "when one fails: hook .*:two failed at on_before_engine_init.*KeyError: 'token'",
    ),
    "passed on in a class": (
        """
        class State: bucket = None
        @hook("on_before_init")
        def one(ctx): State.bucket = "s3://b"
        @hook("on_before_node_download")
        def two(ctx): print(State.bucket)
        """,
        "what is printed or logged at .*Pass it on in ctx.custom_data",
    ),
}


def test_good_hooks_pass(module: Callable[[str, str], str]) -> None:
    found = check_hooks(module("good_hooks", GOOD))
    assert found.problems == []
    assert {name.rpartition(" ")[2] for name in found.runs} == {"llama-x", "qwen"}


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # which is what some do
@pytest.mark.parametrize("what", BAD)
def test_bad_hooks_do_not(module: Callable[[str, str], str], what: str) -> None:
    source, says = BAD[what]
    name = module(f"bad_{what.replace(' ', '_').replace(',', '')}_hooks", source)
    with pytest.raises(AssertionError, match=says):
        check_hooks(f"{name}:one" if "class one" in source else name, real_sleep_limit_s=0.05)


def test_the_environment_is_a_processs_own(module: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOKS_TEST", raising=False)
    monkeypatch.setenv("HOOKS_TEST", "before")
    name = module(
        "environ_hooks",
        """
        import os
        @hook("on_before_init")
        def one(ctx): os.environ["HOOKS_TEST"] = "set"
        @hook("on_before_node_download")
        def two(ctx): ctx.custom_data["seen"] = os.environ.get("HOOKS_TEST")
        """,
    )
    with pytest.raises(AssertionError, match=r"'seen'\].*Processes have changed os\.environ\['HOOKS_TEST'\]"):
        check_hooks(name)


def test_globals_of_one_side_are_its_own_business(module: Callable[[str, str], str]) -> None:
    name = module(
        "counting_hooks",
        """
        calls = []
        LIMITS = {"a": 1}
        @hook("on_before_node_download")
        def one(ctx): calls.append(LIMITS["a"])
        @hook("on_before_init")
        def two(ctx): print(LIMITS)
        """,
    )
    assert check_hooks(name).problems == []


def test_a_missing_module_and_one_that_cannot_travel(hooks: HookRegistry) -> None:
    lock = threading.Lock()

    @hooks.hook("on_before_node_download")
    def locked(ctx: NodeCtx) -> None:
        lock.acquire()

    with pytest.raises(AssertionError, match="no_such_hooks"):
        check_hooks("no_such_hooks")
    with pytest.raises(AssertionError, match="'lock'"):
        check_hooks(hooks)


def test_what_is_named_need_not_travel_to_the_replica(module: Callable[[str, str], str]) -> None:
    name = module(
        "locked_hooks",
        """
        import threading
        def make():
            lock = threading.Lock()
            @hook("on_before_init")
            def locked(ctx):
                with lock: pass
            return locked
        locked = make()
        class Locked:
            def __init__(self): self.lock = threading.Lock()
            def on_before_init(self, ctx): pass
        """,
    )
    assert check_hooks(name).problems == []
    locked = import_module(name).Locked()
    with pytest.raises(AssertionError, match="'lock'"):
        check_hooks(locked)


def test_what_is_not_checked_is_a_problem(module: Callable[[str, str], str], hooks: HookRegistry) -> None:
    name = module("llama_hooks", '@hook("on_before_init", model_id="llama-*")\ndef one(ctx): pass')
    with pytest.raises(AssertionError, match=r"no hook runs for model_id='qwen'.*they are for llama-\*"):
        check_hooks(name, model_id="qwen")
    for none in ((), (hooks,)):
        with pytest.raises(AssertionError, match="there are no hooks"):
            check_hooks(*none)


def test_all_problems_come_at_once_and_check_false_raises_none(module: Callable[[str, str], str]) -> None:
    name = module(
        "two_problems_hooks",
        """
        @hook("on_failure")
        def one(ctx): 1 / 0
        @hook("on_before_init", on_error="warn")
        def two(ctx): 1 / 0
        """,
    )
    found = check_hooks(name, model_id="m", check=False)
    assert len(found.problems) == 2
    assert str(found).startswith("2 problems found:\n1. ")


def test_a_hooks_file_that_uses_the_file_beside_it(module: Callable[[str, str], str], tmp_path: Path) -> None:
    module("helpers_beside", "def go(): ...")
    file = tmp_path / "with_sibling.py"
    file.write_text(
        "import helpers_beside\nfrom serve_llm_hooks import hook\n\n"
        '@hook("on_before_node_download")\ndef ask(ctx): helpers_beside.go()\n'
    )
    with pytest.raises(AssertionError, match=r"(?s)1 problem found.*'helpers_beside', which lies beside it"):
        check_hooks(str(file))


def test_what_pickle_sends_by_name_out_of_a_hooks_file(tmp_path: Path) -> None:
    file = tmp_path / "by_name.py"
    file.write_text(
        "from typing import NewType\nfrom serve_llm_hooks import hook\n\nFolder = NewType('Folder', str)\n\n"
        '@hook("on_before_node_download")\ndef ask(ctx): Folder("/")\n'
    )
    with pytest.raises(AssertionError, match=r"it uses by_name_\w+\.Folder, which pickle sends by name"):
        check_hooks(str(file))


def test_its_own_vetoes_and_models_are_not_warned_of(
    module: Callable[[str, str], str], caplog: pytest.LogCaptureFixture
) -> None:
    source = """
    @hook("on_before_node_download", model_id="llama")
    def fetch(ctx): pass

    @hook("on_after_download", model_id="qwen")
    def look(ctx): pass
    """
    module("two_models", source)
    check_hooks("two_models:fetch", "two_models:look")
    assert [record for record in caplog.records if record.levelno == logging.WARNING] == []


def test_how_dozens_of_fake_starts_went_is_not_in_the_log(
    module: Callable[[str, str], str], caplog: pytest.LogCaptureFixture
) -> None:
    source = """
    import logging

    @hook("on_before_download")
    def veto(ctx):
        logging.getLogger("own").info("looked")
        return skip("mine")

    @hook("on_before_node_download")
    def look(ctx): pass
    """
    module("vetoing", source)
    with caplog.at_level(logging.DEBUG):
        check_hooks("vetoing")
    assert "looked" in caplog.messages
    assert {record.levelno for record in caplog.records if record.name == "serve_llm_hooks"} == {logging.WARNING}


def test_names_that_are_there_in_time_are_no_problem(module: Callable[[str, str], str]) -> None:
    name = module(
        "timely_names",
        """
        @hook("on_before_init")
        def begin(ctx):
            global client
            client = object()
        @hook("on_after_init")
        def end(ctx):
            try:
                client
            except NameError:
                print(never_there)
            [print(x) for x in (__name__, __file__, later())]
            return
        def later(): return skip("kept")
        """,
    )
    assert check_hooks(name, check=False).problems == []


def test_one_function_with_two_sets_of_parameters_is_no_problem(module: Callable[[str, str], str]) -> None:
    name = module("twice_given", '@hook("on_before_init")\ndef one(ctx, *, bucket): pass')
    entries = [{"hook": f"{name}:one", "kwargs": {"bucket": bucket}} for bucket in ("s3://a", "s3://b")]
    found = check_hooks(*entries, check=False)
    assert [problem for problem in found.problems if "lets it fail" in problem] == []


def test_a_warm_up_may_fail_in_its_own_words(module: Callable[[str, str], str]) -> None:
    name = module(
        "warming_hooks",
        """
        from serve_llm_hooks import EngineAnswerError, NodeInitializationError, ask
        @hook("on_before_init", on_error="warn")
        def tell(ctx): ctx.custom_data["told"] = True
        @hook("on_after_init", on_error="warn")
        def tell_again(ctx): ctx.custom_data["told"]
        @hook("on_after_engine_init", on_error="warn")
        async def warm_up(ctx):
            try:
                await ask(ctx, "Hello!")
            except EngineAnswerError as error:
                raise RuntimeError("the warm-up has failed") from error
        @hook("on_after_download")
        def compare(ctx):
            if len({node.path for node in ctx.nodes.values()}) > 1:
                raise ValueError("nodes differ")
        @hook("on_failure")
        def page(ctx):
            if isinstance(ctx.error, NodeInitializationError):
                print(*ctx.error.node_ids)
        """,
    )
    assert check_hooks(name, check=False).problems == []


def test_hooks_that_only_end_and_clean_up_are_no_problem(module: Callable[[str, str], str]) -> None:
    name = module(
        "ending_hooks",
        """
        @hook("on_shutdown")
        def deregister(ctx): print("given back:", ctx.model_id)
        @hook("on_node_failure")
        def unmount(ctx): print("unmounted:", ctx.model_id)
        """,
    )
    assert check_hooks(name, check=False).problems == []


def test_a_clean_up_is_not_accused_of_what_the_check_does(module: Callable[[str, str], str]) -> None:
    name = module(
        "broken_beside_hooks",
        """
        @hook("on_before_node_download")
        def mount(ctx): ctx.custom_data["missing"]
        @hook("on_node_failure")
        def unmount(ctx): pass
        """,
    )
    problems = check_hooks(name, check=False).problems
    assert problems
    assert all("unmount" not in problem and "lets it fail" not in problem for problem in problems)


def test_what_is_awaited_elsewhere_is_no_problem(module: Callable[[str, str], str]) -> None:
    name = module(
        "awaited_hooks",
        """
        import asyncio
        from serve_llm_hooks import ask
        @hook("on_after_engine_init")
        async def both(ctx):
            await ask(ctx, "Hello")
            await asyncio.gather(ask(ctx, "Hello"), asyncio.sleep(1))
            print("warm")
        """,
    )
    assert [problem for problem in check_hooks(name, check=False).problems if "await" in problem] == []


def test_what_an_earlier_failure_hides(module: Callable[[str, str], str]) -> None:
    name = module(
        "hidden_hooks",
        """
        @hook("on_before_init")
        def first(ctx):
            ctx.custom_data["found"] = 1 / 0
        @hook("on_before_download")
        def second(ctx): raise OSError("disk full")
        @hook("on_after_init")
        def third(ctx): ctx.custom_data["found"]
        """,
    )
    problems = check_hooks(name, check=False).problems
    assert [text.partition(": ")[2].partition(" failed")[0] for text in problems] == [
        "hook hidden_hooks:first", "hook hidden_hooks:second"
    ]  # fmt: skip
    assert problems[1].endswith("disk full (found with hidden_hooks:first left out, which may be why)")


def test_what_a_wrong_engine_argument_hides(module: Callable[[str, str], str]) -> None:
    name = module(
        "argument_hooks",
        """
        @hook("on_before_init")
        def limit(ctx): ctx.extra_init_kwargs["max_model_length"] = 5
        @hook("on_after_init")
        def look(ctx): ctx.custom_data["nope"]
        """,
    )
    argument, key = check_hooks(name, check=False).problems
    assert argument.endswith("did you mean 'max_model_len'?) (hooks that name it: argument_hooks:limit)")
    assert (
        "hook argument_hooks:look failed at on_after_init for model 'test-model': KeyError: 'nope' (found with" in key
    )


def test_a_broken_hook_on_nodes_is_one_problem(module: Callable[[str, str], str]) -> None:
    name = module(
        "broken_on_nodes_hooks",
        """
        @hook("on_before_node_download")
        def mount(ctx): ctx.custom_data["nope"]
        @hook("on_after_node_download")
        def look(ctx): ctx.custom_data["neither"]
        """,
    )
    first, second = check_hooks(name, check=False).problems
    failed = "hook broken_on_nodes_hooks:{} failed at {} for model 'test-model': KeyError: '{}'"
    nodes = " (on node-0, node-1, node-2)"
    assert first.endswith(failed.format("mount", "on_before_node_download", "nope") + nodes)
    assert failed.format("look", "on_after_node_download", "neither") in second
    assert second.endswith("left out, which may be why)" + nodes)


def test_each_entry_is_loaded_whatever_the_others_are(module: Callable[[str, str], str]) -> None:
    name = module("loadable_hooks", '@hook("on_before_init")\ndef one(ctx): 1 / 0')
    problems = check_hooks("no_such_hooks", name, "nor_such_hooks", check=False).problems
    assert len(problems) == 3
    assert ["no_such" in problems[0], "nor_such" in problems[1], "ZeroDivisionError" in problems[2]] == [True] * 3


def test_hooks_beside_one_that_cannot_travel_are_run(module: Callable[[str, str], str], hooks: HookRegistry) -> None:
    lock = threading.Lock()

    @hooks.hook("on_before_node_download")
    def locked(ctx: NodeCtx) -> None:
        lock.acquire()

    name = module("beside_hooks", '@hook("on_before_init")\ndef one(ctx): 1 / 0')
    problems = check_hooks(hooks, name, check=False).problems
    assert any("'lock'" in problem for problem in problems)


# -- configs ----------------------------------------------------------------------------------------------------------

WITH_PARAMETERS = """
@hook("on_before_node_download", model_id="llama-*")
def fetch(ctx, *, bucket): ctx.custom_data["bucket"] = bucket.removeprefix("s3://")

class Callback:
    def __init__(self, limit): self.limit = limit
    def on_before_engine_init(self, ctx): ctx.extra_init_kwargs["max_model_len"] = self.limit
"""


def test_a_config_is_checked_with_what_it_names(module: Callable[[str, str], str]) -> None:
    name = module("configured_hooks", WITH_PARAMETERS)

    def config(bucket: object, limit: object = 128, **fields: Any) -> FakeLLMConfig:
        entry = {"hook": f"{name}:fetch", "kwargs": {"bucket": bucket}}
        arguments = {"limit": limit}
        return FakeLLMConfig("llama-7b", [entry], callback=f"{name}:Callback", callback_kwargs=arguments, **fields)

    spread = {"bundle_per_worker": {"GPU": 1}, "strategy": "STRICT_SPREAD"}
    good = config("s3://b", engine_kwargs={"tensor_parallel_size": 4}, placement_group_config=spread)
    found = check_hooks(good)
    assert {run.rpartition(" ")[2] for run in found.runs} == {"llama-7b"}
    assert all(run.engine is None or run.engine.kwargs["max_model_len"] == 128 for run in found.runs.values())
    with pytest.raises(AssertionError, match="AttributeError: 'int' object"):
        check_hooks(config(7))
    with pytest.raises(HarnessError, match="leave model_id= out"):
        check_hooks(good, model_id="llama-7b")
    with pytest.raises(AssertionError, match="the config of model 'qwen' has no hooks for it"):
        check_hooks(FakeLLMConfig("qwen", []))


def test_a_replica_has_the_time_that_its_config_gives_it(module: Callable[[str, str], str], tmp_path: Path) -> None:
    source = """
    import asyncio
    @hook("on_shutdown", timeout_s=50)
    async def drain(ctx): await asyncio.sleep(40)
    """
    hooks = [module("draining_hooks", source)]
    assert check_hooks(FakeLLMConfig("m", hooks, deployment_config={"graceful_shutdown_timeout_s": 60})).problems == []
    file = tmp_path / "serve.yaml"
    text = "model_id: m\nhooks: [draining_hooks]\ndeployment_config: { graceful_shutdown_timeout_s: SECONDS }\n"
    file.write_text(text.replace("SECONDS", "60"))
    assert check_hooks(file).problems == []
    file.write_text(text.replace("SECONDS", "30"))
    with pytest.raises(AssertionError, match="when the 26 s of the hooks at on_shutdown were over: deployment_config="):
        check_hooks(file)


YAML = """
applications:
  - name: llms
    import_path: serve_llm_hooks.ray:build_openai_app
    args:
      llm_configs:
        - model_loading_config: { model_id: llama-7b, model_source: s3://models/llama }
          hooks:
            - hook: yaml_hooks:fetch
              kwargs: { bucket: BUCKET }
          callback: yaml_hooks:Callback
          callback_kwargs: { limit: 128 }
          engine_kwargs: { tensor_parallel_size: 2 }
          deployment_config: { num_replicas: 2 }
        - qwen.yaml
"""
QWEN = """
model_id: qwen
callback_config:
  callback_class: serve_llm_hooks.ray.HooksCallback
  callback_kwargs: { hooks: ["yaml_hooks:tell"] }
"""


def test_a_yaml_of_serve_run_is_checked_model_by_model(module: Callable[[str, str], str], tmp_path: Path) -> None:
    module("yaml_hooks", WITH_PARAMETERS + '@hook("on_failure")\ndef tell(ctx): print(ctx.error)\n')
    file = tmp_path / "serve.yaml"
    (tmp_path / "qwen.yaml").write_text(QWEN)
    file.write_text(YAML.replace("BUCKET", "s3://b"))
    found = check_hooks(file)
    assert {run.rpartition(" ")[2] for run in found.runs} == {"llama-7b", "qwen"}
    file.write_text(YAML.replace("BUCKET", "7"))
    (tmp_path / "qwen.yaml").write_text(QWEN.replace("tell", "nobody"))
    problems = check_hooks(str(file), check=False).problems
    assert any("nobody" in problem for problem in problems)
    assert any("AttributeError: 'int' object" in problem for problem in problems)  # of the other model


def test_a_config_of_rays_own_class_has_no_hooks() -> None:
    class RaysConfig:
        model_id = "m"
        engine_kwargs = None

    with pytest.raises(AssertionError, match=r"is of Ray's own class: give check_hooks one of serve_llm_hooks\.ray"):
        check_hooks(RaysConfig())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("applications: []", "names no LLM config"),
        ("{", "serve.yml:1: this is no YAML"),
        (
            "model_id: m\nhooks: []\nhooks: [x]",
            "serve.yml:3: the key 'hooks' is there already, on line 2, and only the",
        ),
        ("model_id: m\nhooks: [no_such_hooks]", "no_such_hooks"),
        ("model_id: m\nmodel_loading_config: 5", "model_loading_config= is a mapping"),
        ("model_id: m\ncallback_config: token=x", "callback_config= is a mapping, from names to values, not a str"),
        (
            "model_id: m\ncallback_config: {callback_class: a.HooksCallback, callback_kwargs: token=x}",
            "callback_kwargs is a mapping, from names to values, not a str",
        ),
        ("model_loading_config: { model_id: m, model_source: { bucket_url: s3://b } }", "did you mean 'bucket_uri'"),
    ],
)
def test_a_yaml_that_is_no_good(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "serve.yml"
    file.write_text(text)
    with pytest.raises(AssertionError, match=says):
        check_hooks(file)
    with pytest.raises(AssertionError, match=r"cannot be read: No such file or directory \(in "):
        check_hooks(tmp_path / "no.yaml")


def test_what_differs_each_time_makes_no_other_problem(module: Callable[[str, str], str]) -> None:
    source = """
    import tempfile, time

    @hook("on_before_node_download")
    def fetch(ctx):
        raise OSError(f"GET {tempfile.mkdtemp()}/model in {time.perf_counter_ns() % 1000}.5ms: connection refused")
    """
    problems = check_hooks(module("timed_hooks", source), check=False).problems
    assert len(problems) == 1, problems
    assert "connection refused" in problems[0]


def test_a_yaml_with_a_secret_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "serve.yml"
    file.write_text('model_id: m\nruntime_env: {env_vars: {TOKEN: "hunter2}}\n')
    with pytest.raises(AssertionError, match=r"serve\.yml:\d+: this is no YAML: ") as caught:
        check_hooks(file)
    assert "hunter2" not in str(caught.value)


def test_what_hooks_warn_of_is_shown_whatever_they_are_called(
    module: Callable[[str, str], str], caplog: pytest.LogCaptureFixture
) -> None:
    source = """
    import logging

    @hook("on_before_init")
    def _tell_unmatched(ctx): logging.getLogger("serve_llm_hooks").warning("no disk")

    @hook("on_before_init")
    def warn_of_left_out(ctx): logging.getLogger("serve_llm_hooks").warning("check_hooks vetoes the downloads")
    """
    module("warning_hooks", source)
    check_hooks("warning_hooks")
    assert {"no disk", "check_hooks vetoes the downloads"} <= set(caplog.messages)


def test_check_hooks_finds_what_fails_after_a_failure() -> None:
    def releases_badly(ctx: Any) -> Iterator[None]:
        try:
            yield
        except Exception:
            raise KeyError("no such lock") from None

    async def lives_badly(ctx: Any) -> AsyncIterator[None]:
        yield
        raise KeyError("no such lock")

    hooks = HookRegistry()
    hooks.hook("on_after_init", until="on_shutdown")(lives_badly)
    hooks.hook("on_before_init")(releases_badly)
    problems = check_hooks(FakeLLMConfig("m", hooks=[hooks]), check=False).problems
    logged = "fails after its `yield`, which is only logged: KeyError: 'no such lock'"
    for name in ("releases_badly", "lives_badly"):
        assert f"{name} {logged}" in str(problems)
