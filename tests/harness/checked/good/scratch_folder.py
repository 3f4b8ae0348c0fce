"""Works in a temporary folder, which is gone when the hook ends."""

import tempfile
from pathlib import Path

from serve_llm_hooks import hook


def _unpack(folder):
    (folder / "part-0").write_bytes(b"0" * 100)
    (folder / "part-1").write_bytes(b"1" * 50)
    return sum(file.stat().st_size for file in folder.iterdir())


@hook("on_before_download")
def try_it(ctx):
    with tempfile.TemporaryDirectory() as folder:
        ctx.custom_data["bytes"] = _unpack(Path(folder))


@hook("on_after_node_download")
def unpack(ctx):
    with tempfile.TemporaryDirectory(prefix="acme-") as folder:
        ctx.custom_data["scratch"] = folder
        ctx.custom_data["bytes"] = _unpack(Path(folder))
