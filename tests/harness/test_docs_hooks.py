"""The hooks that the docs show pass ``check_hooks``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks_testing import check_hooks

from ..docs_blocks import PAGES, Block, blocks_of

if TYPE_CHECKING:
    from collections.abc import Callable

# What stands in a block behind the hooks of a page: it runs them.
_RUNS = re.compile(r"^(run = |FakeCluster|assert |for |print)", flags=re.MULTILINE)

SHOWN = {
    "customization.md": ("Tune", "FromOurStore", "Timer", "Disks"),
    "spans-and-background.md": ("timed", "mounted"),
    "hooks.md": ("keep_caches", "Registered", "mount", "say_so"),
}


def _block(page: str, name: str) -> Block:
    [path] = [path for path in PAGES if path.name == page]
    [block] = [
        each for each in blocks_of(path, "python") if re.search(rf"^(def|class) {name}\b", each.text, re.MULTILINE)
    ]
    return block


@pytest.mark.parametrize(("page", "name"), [(page, name) for page, names in SHOWN.items() for name in names])
def test_the_hooks_of_the_docs_pass(page: str, name: str, module: Callable[[str, str], str]) -> None:
    hooks = _RUNS.split(_block(page, name).text)[0]
    made = module(f"docs_{name.lower()}", f"from serve_llm_hooks import RayServeLLMCallback\n{hooks}")
    assert check_hooks(f"{made}:{name}" if name[0].isupper() else made, check=False).problems == []
