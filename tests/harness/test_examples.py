"""``examples/callbacks.py``, as its readers run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "callbacks.py"

OUTPUT = """\
custom download:
  node-0: /scratch/llama-3-8b, fetched from store.example.com
  node-1: /scratch/llama-3-8b, fetched from store.example.com
  the engine loads /scratch/llama-3-8b
metrics:
  is up
  failed: CUDA out of memory
  2 starts, 1 failed
custom placement group:
  initialized: node-1, node-3
defaults skipped:
  the engine loads /opt/model with {'enforce_eager': True}; 0 nodes touched
"""


def test_four_callbacks() -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == OUTPUT


def test_it_needs_no_ray() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__'); assert 'ray' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLE)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
