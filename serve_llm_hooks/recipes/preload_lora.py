"""``PreloadLoRA``: LoRA adapters are there before the first user asks for one."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import RayServeLLMCallback, ServeLLMHooksError

from . import _arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serve_llm_hooks import CallbackCtx

_NAME = re.compile(r"\w[\w.:-]*(/\w[\w.:-]*)*")
_logger = logging.getLogger("serve_llm_hooks.recipes")


class PreloadLoRA(RayServeLLMCallback):
    """Load adapters by Ray's own loader before the replica is ready, so that their first requests find them.

    Args:
        adapters: names of folders in the config's ``dynamic_lora_loading_path``, as clients write them behind the
            model's id and a colon.
        on_error: ``"raise"`` ends the start where one cannot be loaded, ``"warn"`` logs it: Ray tries it again when it
            is asked for.

    Raises:
        TypeError, ValueError: an argument that cannot be meant.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> config = FakeLLMConfig(
        ...     "llama",
        ...     hooks=[PreloadLoRA(["french", "legal"])],
        ...     lora_config={"dynamic_lora_loading_path": "s3://models/adapters"},
        ...     engine_kwargs={"enable_lora": True, "max_cpu_loras": 8},
        ... )
        >>> FakeCluster().run(config).engine.loras
        ['llama:french', 'llama:legal']
    """

    checks_arguments = True

    def __init__(self, adapters: Sequence[str], *, on_error: str = "raise") -> None:
        """Check the arguments."""
        self.adapters: tuple[str, ...] = _arguments.texts("adapters", adapters, ["french", "legal"])
        _arguments.one_of("on_error", on_error, "raise", "warn")
        self.on_error: str = on_error
        for name in self.adapters:
            _arguments.written_out("adapters", name)
            if not _NAME.fullmatch(name):
                raise ValueError(f"adapters= has names of folders in the dynamic_lora_loading_path, and not {name!r}")
            if self.adapters.count(name) > 1:
                raise ValueError(f"adapters= has {name!r} twice")

    def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
        """Look whether adapters can be loaded, and as many as these be kept.

        Raises:
            ValueError: they cannot; the message says what to write.
        """
        lora: Any = getattr(llm_config, "lora_config", None)
        if getattr(lora, "dynamic_lora_loading_path", None) is None:
            raise ValueError("there are no adapters: write lora_config: {dynamic_lora_loading_path: s3://…}")
        kwargs = getattr(llm_config, "engine_kwargs", None) or {}
        if not kwargs.get("enable_lora"):
            raise ValueError("the engine takes no adapters: write enable_lora: true into engine_kwargs")
        for name in self.adapters:
            if name.startswith(f"{llm_config.model_id}:"):
                raise ValueError(f"adapters= names them without the model's id: {name.partition(':')[2]!r}")
        named = {*self.adapters}.union(*(other.adapters for other in others if isinstance(other, PreloadLoRA)))
        most = lora.max_num_adapters_per_replica
        for limit, where in (
            (most, "lora_config: {max_num_adapters_per_replica"),
            (_kept(kwargs), "engine_kwargs: {max_cpu_loras"),
        ):
            if len(named) > limit:
                raise ValueError(
                    f"{len(named)} adapters are to be loaded, and {limit} are kept: write {where}: "
                    f"{len(named)}}}, or more"
                )

    async def on_after_engine_init(self, ctx: CallbackCtx) -> None:
        """Load them.

        Raises:
            ServeLLMHooksError: one cannot be loaded; the message says which, and why.
        """
        if ctx.load_adapter is None:
            raise ServeLLMHooksError("this server loads no adapters: they are for Ray's LLMServer with vLLM")
        for name in self.adapters:
            begun = time.monotonic()
            try:
                await ctx.load_adapter(name)
            except Exception as error:
                failure = ServeLLMHooksError(
                    f"the adapter {name!r} of model {ctx.model_id!r} cannot be loaded: {error}"
                )
                if self.on_error == "raise":
                    raise failure from error
                _logger.warning("%s", failure)
            else:
                _logger.info(
                    "model %r: the adapter %r is loaded after %.1f s", ctx.model_id, name, time.monotonic() - begun
                )


def _kept(engine_kwargs: Mapping[str, Any]) -> int:
    """Return how many adapters the engine keeps: ``max_cpu_loras``, and without, or with 0 or less, ``max_loras``.

    Raises:
        ValueError: one of them is nothing that vLLM takes, which it would say when the model has been downloaded.
    """
    on_cpu, at_once = engine_kwargs.get("max_cpu_loras") or 0, engine_kwargs.get("max_loras", 1)
    if isinstance(at_once, str) and at_once.isdecimal():  # vLLM makes a number of this one, and not of the other
        at_once = int(at_once)
    for name, given in (("max_cpu_loras", on_cpu), ("max_loras", at_once)):
        if not isinstance(given, int | float) or given % 1:
            raise ValueError(f"vLLM takes no such {name}: write a whole number without quotes, as {name}: 8")
    return int(on_cpu if on_cpu > 0 else at_once)
