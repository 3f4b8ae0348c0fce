"""Modules of hooks without a fault, as careful people write them. Nothing that looks for faults may accuse them."""

from __future__ import annotations

GOOD = {
    "a guard: set up once in a process": """
        _done = False

        @hook("on_before_init")
        def set_up(ctx):
            global _done
            if not _done:
                _done = True
                print("set up")

        @hook("on_before_node_download")
        def set_up_node(ctx):
            set_up(ctx)
            ctx.custom_data["ready"] = True

        @hook("on_after_download")
        def look(ctx):
            assert all(node.custom_data["ready"] for node in ctx.nodes.values())
        """,
    "a guard whose work others need in the same process": """
        _mounted = False

        @hook("on_before_node_download")
        def mount(ctx):
            global _mounted
            if _mounted:
                return
            _mounted = True
            ctx.custom_data["mount"] = "/mnt/models"

        @hook("on_after_download")
        def look(ctx):
            ctx.custom_data["mounts"] = [node.custom_data["mount"] for node in ctx.nodes.values()]
        """,
    "a client that is made when it is first used, on both sides": """
        from functools import lru_cache

        class Client:
            def __init__(self): self.asked = []
            def ask(self, what): self.asked.append(what); return len(self.asked)

        @lru_cache
        def client(): return Client()

        @hook("on_before_init")
        def ask(ctx): client().ask(ctx.model_id)

        @hook("on_before_node_download")
        def ask_there(ctx): client().ask(ctx.node_id)
        """,
    "locks of the module": """
        import asyncio
        import threading
        lock, other = threading.Lock(), asyncio.Lock()

        @hook("on_before_node_download")
        def count(ctx):
            with lock:
                ctx.custom_data["counted"] = True

        @hook("on_after_node_download")
        async def check(ctx):
            async with other:
                await asyncio.sleep(3)

        @hook("on_after_init")
        async def tell(ctx):
            async with other:
                await asyncio.sleep(1)
        """,
    "a file that is written beside its place, and moved there": """
        import asyncio
        import tempfile
        from pathlib import Path

        @hook("on_before_init")
        async def fetch_secrets(ctx):
            file = Path(tempfile.gettempdir(), "secrets.json")
            part = file.with_suffix(".part")
            try:
                part.write_text("{")
                await asyncio.sleep(3)
                part.write_text("{}")
                part.replace(file)
            finally:
                part.unlink(missing_ok=True)
            ctx.custom_data["secrets"] = file.read_text()
        """,
    "a lock of the operating system across an await": """
        import asyncio
        import fcntl
        import tempfile
        from pathlib import Path

        @hook("on_before_node_download")
        async def fetch(ctx):
            with Path(tempfile.gettempdir(), "fetch.lock").open("w") as file:
                while True:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        await asyncio.sleep(5)
                await asyncio.sleep(20)
        """,
    "a folder that may be there": """
        import tempfile
        from pathlib import Path

        @hook("on_before_engine_init")
        def make_cache(ctx):
            folder = Path(tempfile.gettempdir(), "kernels", ctx.model_id)
            folder.mkdir(parents=True, exist_ok=True)
            ctx.extra_init_kwargs["compilation_config"] = {"cache_dir": str(folder)}
        """,
    "a file for each node in a shared folder": """
        import asyncio
        import os
        from pathlib import Path

        @hook("on_after_node_download")
        async def tell(ctx):
            file = Path(os.environ["PLANTED_SHARED"], f"{ctx.node_id}.path")
            await asyncio.to_thread(file.write_text, str(ctx.model_path))

        @hook("on_after_download")
        def look(ctx):
            for node_id in ctx.nodes:
                Path(os.environ["PLANTED_SHARED"], f"{node_id}.path").read_text()
        """,
    "nodes that wait for what the first one writes": """
        import os
        import time
        from pathlib import Path

        @hook("on_after_node_download", timeout_s=600)
        def share_template(ctx):
            file = Path(os.environ["PLANTED_SHARED"], "chat_template.jinja")
            if ctx.is_local:
                part = file.with_suffix(".part")
                part.write_text("{{ messages }}")
                part.replace(file)
            while not file.exists():
                time.sleep(1)
            ctx.custom_data["template"] = file.read_text()
        """,
    "a heartbeat that ends however the start does": """
        import asyncio
        beating = []

        async def beat():
            while True:
                await asyncio.sleep(10)

        async def stop(ctx):
            for task in beating:
                task.cancel()
            beating.clear()

        @hook("on_before_init")
        async def begin(ctx):
            beating.append(asyncio.create_task(beat()))

        on_after_init = hook("on_after_init")(stop)

        @hook("on_failure")
        async def stop_too(ctx):
            await stop(ctx)
        """,
    "attempts with back-off and jitter": """
        import asyncio
        import random
        import time

        class Service:
            attempts = 0
            async def answer(self):
                self.attempts += 1
                await asyncio.sleep(0)
                if self.attempts < 4:
                    raise ConnectionError("not yet")

        @hook("on_before_init", timeout_s=120)
        async def register(ctx):
            service = Service()
            for attempt in range(6):
                try:
                    await service.answer()
                    return
                except ConnectionError:
                    await asyncio.sleep(2**attempt + random.random())
            raise TimeoutError("the registry does not answer")

        @hook("on_before_node_download", timeout_s=300)
        def wait_for_mount(ctx):
            deadline_s = time.monotonic() + 60
            while time.monotonic() < deadline_s - 30:
                time.sleep(5)
        """,
    "work in threads and groups of tasks": """
        import asyncio
        import concurrent.futures

        @hook("on_before_node_download")
        async def fetch_all(ctx):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(asyncio.sleep(n, n)) for n in range(5)]
            ctx.custom_data["fetched"] = sum(task.result() for task in tasks)

        @hook("on_after_node_download")
        def checksum(ctx):
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                ctx.custom_data["sum"] = sum(pool.map(len, ["a", "bb", "ccc"]))

        @hook("on_after_init")
        async def shield(ctx):
            await asyncio.gather(asyncio.to_thread(len, "abc"), asyncio.sleep(1))
        """,
    "a cache with a veto, and what is noted when there was a download": """
        import tempfile
        from pathlib import Path

        def marker(ctx): return Path(tempfile.gettempdir(), f"{ctx.model_id}.{ctx.node_id}.done")

        @hook("on_before_node_download")
        def use_cache(ctx):
            if marker(ctx).exists():
                ctx.model_path = marker(ctx).read_text()
                return skip("it is in the cache")

        @hook("on_after_node_download")
        def remember(ctx):
            marker(ctx).write_text(str(ctx.model_path))

        @hook("on_after_download")
        def count(ctx):
            ctx.custom_data["cached"] = sum(node.skipped is not None for node in ctx.nodes.values())
        """,
    "clean-up that asks what there is": """
        from serve_llm_hooks import NodeInitializationError

        @hook("on_before_node_download")
        def mount(ctx): ctx.custom_data["mounted"] = f"/mnt/{ctx.model_id}"

        @hook("on_node_failure")
        def unmount(ctx): print("unmounted:", ctx.custom_data.get("mounted"))

        @hook("on_failure")
        def page(ctx):
            failed = ctx.error.node_ids if isinstance(ctx.error, NodeInitializationError) else ()
            print(*failed, *(node.error or "" for node in ctx.nodes.values()), ctx.error)
        """,
    "a warm-up that fails in its own words, and one that may": """
        from serve_llm_hooks import EngineAnswerError, ask

        @hook("on_after_engine_init")
        async def warm_up(ctx):
            try:
                await ask(ctx, "Hello!")
            except EngineAnswerError as error:
                raise RuntimeError("the warm-up has failed") from error

        @hook("on_after_init", on_error="warn")
        async def warm_up_more(ctx):
            await ask(ctx, "Hello again!")

        @hook("on_shutdown")
        def deregister(ctx): print("gone:", ctx.model_id)
        """,
    "an object that is a registry of what its methods do": """
        class Registration:
            def __init__(self): self.name = None
            def on_before_init(self, ctx): self.name = ctx.model_id
            def on_after_init(self, ctx): print("up:", self.name)
            def on_failure(self, ctx): print("down:", self.name)
        """,
    "a cancellation that is cleaned up after": """
        import asyncio

        @hook("on_before_init")
        async def lease(ctx):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                await asyncio.sleep(2)  # the lease is given back
                raise
            except Exception:
                print("no lease")
        """,
    "a group of its own and parameters": """
        @hook("on_before_download", model_id="*")
        def choose(ctx, *, mode="TOKENIZER_ONLY"): ctx.worker_node_download_model = mode

        @hook("on_after_placement_group")
        def look(ctx): ctx.custom_data["bundles"] = ctx.placement_group.bundle_count

        @hook("on_after_node_engine_init")
        def save(ctx): ctx.custom_data["saved"] = ctx.model_path
        """,
    "a veto for what is baked in": """
        @hook("on_before_download")
        def baked_in(ctx):
            ctx.model_path = "/opt/model"
            return skip("weights are baked into the image")

        @hook("on_before_engine_init")
        def tune(ctx): ctx.extra_init_kwargs.setdefault("max_model_len", 4096 + len(ctx.nodes))
        """,
    "counters of each process": """
        import collections
        calls = collections.Counter()

        @hook("on_before_init")
        def count(ctx): calls["starts"] += 1

        @hook("on_before_node_download")
        def look_at_disk(ctx):
            calls["nodes"] += 1
            ctx.custom_data["calls"] = calls["nodes"]
        """,
}
"""Modules' sources, by what is good about each."""
