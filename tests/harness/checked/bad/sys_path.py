"""Makes a vendored package importable in the replica, and imports it on nodes."""

import importlib
import sys
from pathlib import Path

from serve_llm_hooks import hook

VENDORED = Path(__file__).parent / "_vendored"


@hook("on_before_init")
def add_vendored(ctx):
    sys.path.insert(0, str(VENDORED))


@hook("on_after_node_download")
def convert(ctx):
    converter = importlib.import_module("acme_weight_converter")
    ctx.model_path = converter.convert(ctx.model_path)
