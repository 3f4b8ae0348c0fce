"""Makes a folder importable where its module is imported, which is in every process."""

import sys
from pathlib import Path

from serve_llm_hooks import hook

_FOLDER = str(Path(__file__).parents[1] / "bad" / "_vendored")
if _FOLDER not in sys.path:
    sys.path.append(_FOLDER)


@hook("on_after_node_download")
def convert(ctx):
    import acme_weight_converter

    ctx.model_path = acme_weight_converter.convert(ctx.model_path)
