"""``ExportEnv``: environment variables for all processes of a deployment, checked to arrive."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import RayServeLLMCallback

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serve_llm_hooks import CallbackCtx, EngineProcessCtx, NodeCtx

_RAYS = ("RAY_", "CUDA_VISIBLE_DEVICES", "SERVE_LLM_HOOKS_")  # set by others, or read before any hook runs


class ExportEnv(RayServeLLMCallback):
    """Set environment variables in the replica, on each node and in each process of the engine, and look there.

    Args:
        **variables: texts or numbers, by the names of the variables.

    Raises:
        TypeError, ValueError: a name or a value that cannot be meant.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster().run(FakeLLMConfig("m", hooks=[ExportEnv(NCCL_DEBUG="INFO", OMP_NUM_THREADS=4)]))
        >>> run.ctx.runtime_env
        {'env_vars': {'NCCL_DEBUG': 'INFO', 'OMP_NUM_THREADS': '4'}}
        >>> del os.environ["NCCL_DEBUG"], os.environ["OMP_NUM_THREADS"]  # the replica was this process
    """

    checks_arguments = True

    def __init__(self, **variables: str | int | float) -> None:
        """Check the arguments."""
        if not variables:
            raise ValueError("name the variables, as in kwargs: {NCCL_DEBUG: INFO}")
        for name, value in variables.items():
            if not name or "=" in name or "\0" in name:
                raise ValueError(f"{name!r} is no name of a variable")
            if name.startswith(_RAYS):
                raise ValueError(f"{name} cannot be set from a hook: write it into the runtime_env of the config")
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise TypeError(f"{name}= is a text or a number; put quotes around true, yes and the like")
            if "\0" in str(value):
                raise ValueError(f"{name}= has a NUL in it, which no variable can hold")
        self.variables: dict[str, str] = {name: str(value) for name, value in variables.items()}

    def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
        """Look whether something else gives one of them another value.

        Raises:
            ValueError: it does.
        """
        self._refuse(_env_vars(llm_config), "the config's runtime_env")
        for other in others:
            if isinstance(other, ExportEnv):
                self._refuse(other.variables, "another ExportEnv")

    def on_before_init(self, ctx: CallbackCtx) -> None:
        """Set them where nodes and the engine's processes get theirs from.

        Raises:
            ValueError: another hook has given one another value.
        """
        others = _env_vars(ctx)
        self._refuse(others, "ctx.runtime_env")
        ctx.runtime_env = {**(ctx.runtime_env or {}), "env_vars": {**others, **self.variables}}
        os.environ.update(self.variables)  # the engine's core and workers are children of this process

    def on_before_node_download(self, ctx: NodeCtx) -> None:
        """Look whether they have arrived on this node.

        Raises:
            LookupError: one has not.
        """
        self._check("on this node")

    def on_engine_process_start(self, ctx: EngineProcessCtx) -> None:
        """Look whether they have arrived in this process.

        Raises:
            LookupError: one has not.
        """
        self._check(f"in {ctx.process}")

    def _refuse(self, others: Mapping[str, str], where: str) -> None:
        for name, value in self.variables.items():
            if others.get(name, value) != value:
                raise ValueError(f"{name} has another value in {where}: leave it out at one place")

    def _check(self, where: str) -> None:
        for name, value in self.variables.items():
            found = os.environ.get(name)
            if found != value:
                how = "is not set" if found is None else "has another value"
                raise LookupError(f"{name} {how} {where}: something else sets it, or the environment is a new one")


def _env_vars(holder: Any) -> dict[str, str]:
    """Return the variables in the ``runtime_env`` of a config, or of ``ctx``."""
    given = (getattr(holder, "runtime_env", None) or {}).get("env_vars") or {}
    return {str(name): str(value) for name, value in given.items()}
