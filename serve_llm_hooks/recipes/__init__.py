"""Ready-made hooks, each a class that you name in a config, and an example of one that you could write.

>>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
>>> config = FakeLLMConfig("m", hooks=[{"hook": "serve_llm_hooks.recipes:BakedModel", "kwargs": {"path": "/opt/m"}}])

They need the extra ``recipes``: ``pip install "serve-llm-hooks[recipes]"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _lazy_imports

if TYPE_CHECKING:
    from .baked_model import BakedModel as BakedModel
else:  # a checker that sees a __getattr__ takes every name for existing
    __getattr__, __dir__ = _lazy_imports.attach(__name__)
