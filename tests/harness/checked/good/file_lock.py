"""One process of a machine prepares the cache, the others wait: a lock in a file, held over an await."""

import asyncio
import fcntl
import os
import tempfile
import time

from serve_llm_hooks import hook


class FileLock:
    """As the one of the package filelock: it polls, and sleeps between."""

    def __init__(self, path, poll_s=0.05):
        self.path = path
        self.poll_s = poll_s

    def __enter__(self):
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        while True:
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self
            except OSError:
                time.sleep(self.poll_s)

    def __exit__(self, *exc):
        fcntl.flock(self.file, fcntl.LOCK_UN)
        os.close(self.file)


@hook("on_before_node_download")
async def prepare(ctx):
    with FileLock(os.path.join(tempfile.gettempdir(), f"acme-{ctx.model_id}.lock")):
        await asyncio.sleep(0.5)
    ctx.custom_data["prepared"] = True
