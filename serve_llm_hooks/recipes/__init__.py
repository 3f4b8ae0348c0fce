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
    from .check_node import CheckNode as CheckNode
    from .compile_cache import CompileCache as CompileCache
    from .export_env import ExportEnv as ExportEnv
    from .fetch import Fetch as Fetch
    from .fetch_model import FetchModel as FetchModel
    from .notify import Notify as Notify
    from .prefetch_weights import PrefetchWeights as PrefetchWeights
    from .preload_lora import PreloadLoRA as PreloadLoRA
    from .register_model import RegisterModel as RegisterModel
    from .register_reasoning_parser import RegisterReasoningParser as RegisterReasoningParser
    from .register_tool_parser import RegisterToolParser as RegisterToolParser
    from .warm_up import WarmUp as WarmUp
else:  # a checker that sees a __getattr__ takes every name for existing
    __getattr__, __dir__ = _lazy_imports.attach(__name__)
