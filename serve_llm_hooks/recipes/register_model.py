"""``RegisterModel``: an architecture of your own, known in every process of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serve_llm_hooks import RayServeLLMCallback

from . import _arguments, _named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve_llm_hooks import EngineProcessCtx


class RegisterModel(RayServeLLMCallback):
    """Register a class for a model's architecture with vLLM, where each process of the engine begins.

    Args:
        arch: the architecture, as the model's ``config.json`` names it.
        path: the class, as ``"my_company.model:MyForCausalLM"``. vLLM imports it when a model needs it.

    Raises:
        ValueError: an argument that cannot be meant.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> hooks = [{"hook": RegisterModel, "kwargs": {"arch": "MyModel", "path": "no_such_module:MyModel"}}]
        >>> FakeCluster().run(FakeLLMConfig("m", hooks=hooks), check=False).error.process
        'frontend'
    """

    checks_arguments = True

    def __init__(self, arch: str, path: str) -> None:
        """Check the arguments."""
        _arguments.text("arch", arch, 'the architecture that "architectures" in config.json names')
        _named.split(path)
        self.arch = arch
        self.path = path

    def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
        """Look for another class for the same architecture.

        Raises:
            ValueError: there is one.
        """
        for other in others:
            if isinstance(other, RegisterModel) and other.arch == self.arch and other.path != self.path:
                raise ValueError(f"{self.path} and {other.path} are both registered as {self.arch!r}: leave one out")

    def on_engine_process_start(self, ctx: EngineProcessCtx) -> None:
        """Register it in this process.

        Raises:
            ModuleNotFoundError: its module is not here.
        """
        _named.check_is_there(_named.split(self.path)[0])
        from vllm import ModelRegistry

        ModelRegistry.register_model(self.arch, self.path)
