"""What Ray's engine reads, and the entrance for deployments that keep Ray's own ``LLMConfig``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from ..callbacks import HeldCall, Holder
from ..context import NodeCtx
from ..errors import HookLoadError, NodeInitializationError, PlacementGroupError
from ..initialize import initialization
from ..loading import HookRef, config_hooks, load_callback, load_hooks, select_hooks
from ..points import did_you_mean
from ..policy import Switches
from ..progress import Progress
from ..registry import Hook, HookOptions, HookRegistry
from . import internals
from .cluster import RayCluster
from .internals import CallbackBase, CallbackCtx, NodeModelDownloadable
from .log import show_log

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..context import CallbackCtx as HooksCtx
    from ..points import HookName
    from ..registry import OnError

__all__ = ["HandedOver", "HooksCallback", "hand_over"]

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

internals.warn_if_untested()  # here, because there are no hooks without this module, and no node imports it

_SHARE_OF_RAYS_LIMIT = 0.9  # of it so much is ours at most, to run on_failure in what is left

# Ray calls a callback before its engine starts, and never again.
_OUT_OF_REACH: tuple[HookName, ...] = ("on_after_engine_init", "on_after_init")


class HandedOver(CallbackBase):
    """Tells Ray's engine what hooks decided, and that the nodes are initialized already.

    Its ``ctx`` is Ray's own, with Ray's values, and its pickled state is nothing else: for GPU engines Ray sends its
    config, with this on it, to another process.
    """

    taken: bool = False  # what hooks decided: from then on whoever unpickles the config needs no hooks

    def take(self, ctx: HooksCtx) -> None:
        """Take over what hooks decided."""
        self.ctx: CallbackCtx = CallbackCtx(
            worker_node_download_model=NodeModelDownloadable[ctx.worker_node_download_model.name],
            placement_group=ctx.placement_group,
            runtime_env=ctx.runtime_env,
            run_init_node=False,
        )
        self.taken = True

    def _handle_callback_error(self, method_name: str, e: Exception) -> None:
        raise e  # ours say what, where and what to do; Ray's wrapping would hide their type

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.ctx,))


def _rebuild(ctx: CallbackCtx) -> HandedOver:
    callback = HandedOver(llm_config=None)
    callback.ctx = ctx
    callback.taken = True
    return callback


def hand_over(llm_config: Any, ctx: HooksCtx) -> None:
    """Make Ray's engine, which asks its config for the callback, find ours there."""
    callback = HandedOver(llm_config=llm_config)
    callback.take(ctx)
    llm_config._callback_instance = callback
    _forget_given_hooks(llm_config)


class HooksCallback(HandedOver):
    """Hooks for deployments that keep Ray's own ``LLMConfig`` and builders.

    Name it in ``callback_config``, in Python or in YAML::

        callback_config:
          callback_class: serve_llm_hooks.ray.HooksCallback
          callback_kwargs:
            hooks: [my_company.llm_hooks]

    Ray gives it no moment after the engine's start. Hooks at the points after it are refused; for them use
    ``serve_llm_hooks.ray.LLMConfig``, or ``serve_llm_hooks.ray:build_openai_app`` in YAML.

    Raises:
        HookLoadError: hooks that cannot be loaded, or that Ray never reaches this way; none named, and none there.
    """

    def __init__(
        self,
        *,
        hooks: list[HookRef] | None = None,
        llm_config: Any,
        raise_error_on_callback: bool = True,
        ctx_kwargs: dict[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(
            llm_config=llm_config, raise_error_on_callback=raise_error_on_callback, ctx_kwargs=ctx_kwargs or {}
        )
        with Progress(str(llm_config.model_id)) as progress, progress.of("its hooks to be imported"):
            self._hooks: HookRegistry = _selected(llm_config, {"hooks": hooks, **unknown})
        switches = Switches()
        lost = [
            hook
            for point in _OUT_OF_REACH
            for hook in self._hooks.hooks(point, llm_config.model_id)
            if switches.entry_for(hook) is None
        ]
        if lost:
            raise HookLoadError(
                f"{lost[0].ref} at {lost[0].point} can never run: Ray's callback_config has no step after the engine's "
                "start. Use `from serve_llm_hooks.ray import LLMConfig` with hooks=[...], and build the app with "
                "serve_llm_hooks.ray (in YAML `import_path: serve_llm_hooks.ray:build_openai_app`, or "
                "build_dp_openai_app, build_pd_openai_app)."
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Before it has run, it is no part of its config: whoever is sent that makes one of the hooks named there."""
        return super().__reduce__() if self.taken else (type(None), ())

    async def on_before_node_init(self) -> None:
        """Run all hooks up to the engine's start, instead of Ray's node initialization."""
        show_log()
        cluster = _ClusterOfRaysStart(self.ctx.placement_group)
        try:
            async with initialization(self.llm_config, cluster=cluster, hooks=self._hooks) as run:
                self.take(run.ctx)
                _forget_given_hooks(self.llm_config)
        except (NodeInitializationError, PlacementGroupError) as error:
            if cluster.cut_short and cluster.clock() >= cluster.cut_end_s:  # else it is not the limit that ended it
                error.add_note(cluster.cut_short)
            raise
        self._say_that_the_engine_starts()

    def _say_that_the_engine_starts(self) -> None:
        """Ray starts its engine next, in this task, and never tells us when that is over; the task does."""
        task = asyncio.current_task()
        if task is None:
            return
        waiting = ExitStack()
        progress = waiting.enter_context(Progress(str(self.llm_config.model_id)))
        waiting.enter_context(progress.of("its engine to start"))
        task.add_done_callback(lambda _: waiting.close())


class _ClusterOfRaysStart(RayCluster):
    """The cluster of a start that runs inside Ray's own: Ray has asked for a group already, and ends all of it without
    a word when its limit is over. Our limits, which say what was waited for, come before that.

    Attributes:
        cut_short: why a limit is not the one that was set; empty: it is.
        cut_end_s: when that limit ends, on the cluster's clock.
    """

    def __init__(self, placement_group: Any) -> None:
        super().__init__()
        self.cut_short = ""
        self.cut_end_s = 0.0
        self._asked_for = placement_group
        self._end_s: float = self.clock() + _SHARE_OF_RAYS_LIMIT * internals.ENGINE_START_TIMEOUT_S

    async def acquire_placement_group(self, llm_config: Any) -> Any:
        """The group that Ray has asked for. It is as ours as one that we ask for."""
        group, self._asked_for = self._asked_for, None
        return await super().acquire_placement_group(llm_config) if group is None else group

    async def node_ids(self, placement_group: Any, own_bundles: Sequence[int] | None = None) -> list[str]:
        """The nodes of a group's bundles; as long as there is time, and then the nodes have what is left of it."""
        self.placement_group_timeout_s = self._cut(self.placement_group_timeout_s)
        node_ids = await super().node_ids(placement_group, own_bundles)
        self.node_timeout_s = self._cut(self.node_timeout_s)
        return node_ids

    def _cut(self, timeout_s: float) -> float:
        left_s = max(self._end_s - self.clock(), 1.0)
        if timeout_s > left_s:
            self.cut_end_s = self.clock() + left_s
            self.cut_short = (
                f"With HooksCallback, all of this happens within Ray's limit for the start of its engine "
                f"({internals.ENGINE_START_TIMEOUT_S} s, RAYLLM_ENGINE_START_TIMEOUT_S), so what is waited for has "
                "less time than its own limit. Raise Ray's limit, or use serve_llm_hooks.ray.LLMConfig, whose hooks "
                "run before it counts."
            )
        return min(timeout_s, left_s)


def _forget_given_hooks(llm_config: Any) -> None:
    """Ray's engine sends its config on, to tasks that run no hook: an object that is given in Ray's own may by now hold
    what cannot follow."""
    chosen = llm_config.callback_config
    if not hasattr(llm_config, "hooks") and names_hooks_callback(chosen.callback_class):
        llm_config.callback_config = replace(chosen, callback_kwargs={"hooks": []})


def names_hooks_callback(callback_class: Any) -> bool:
    """Whether a ``callback_config``'s class is :class:`HooksCallback`, or its path."""
    if isinstance(callback_class, str):
        return callback_class.replace(":", ".") in (
            "serve_llm_hooks.ray.HooksCallback",
            "serve_llm_hooks.ray.callback.HooksCallback",
        )
    return callback_class is HooksCallback


def named_hooks(callback_kwargs: Mapping[str, Any]) -> list[HookRef] | None:
    """The hooks in the ``callback_kwargs`` of :class:`HooksCallback`; ``None``: none are named.

    Raises:
        HookLoadError: anything else is in there. Ray would let it pass, and the hooks would be silently absent.
    """
    for key in callback_kwargs:
        if key != "hooks":
            raise HookLoadError(
                f"callback_kwargs of HooksCallback has the key 'hooks' and no other, so not {key!r}"
                f"{did_you_mean(key, ['hooks'])}"
            )
    hooks = callback_kwargs.get("hooks")
    if hooks is not None and not isinstance(hooks, list | tuple):
        raise HookLoadError(
            f"hooks in callback_kwargs of HooksCallback is a list, as in hooks: [my_company.llm_hooks], not {hooks!r}"
        )
    return None if hooks is None else list(hooks)


def native_hooks(llm_config: Any) -> HookRegistry | None:
    """What a config of Ray's own names in its ``callback_config``; ``None``: nothing, or it is a config of ours.

    Raises:
        HookLoadError: hooks that cannot be loaded.
    """
    if hasattr(llm_config, "hooks"):
        return None
    chosen = llm_config.callback_config
    if names_hooks_callback(chosen.callback_class):
        return _selected(llm_config, chosen.callback_kwargs)
    found = HookRegistry([*ray_callback_hooks(chosen), *select_hooks(llm_config)])
    if not len(found):
        logger.warning(
            "model %r: no hook will run: its config, which is Ray's, names none, and none is registered for it in the "
            "replica. Make it with `from serve_llm_hooks.ray import LLMConfig`, with hooks=['my_company.llm_hooks'], "
            "or with hooks=[] for none.",
            llm_config.model_id,
        )
    return found


def _selected(llm_config: Any, callback_kwargs: Mapping[str, Any]) -> HookRegistry:
    """The hooks that the ``callback_kwargs`` of :class:`HooksCallback` name; where they name none, those of the config.

    Raises:
        HookLoadError: they cannot be loaded; or nothing is named, and nothing is here.
    """
    hooks = named_hooks(callback_kwargs)
    if hooks is not None:
        return load_hooks(*hooks)
    selected = config_hooks(llm_config)
    if not len(selected) and not hasattr(llm_config, "hooks"):
        none = "none is registered for the model in this process, which has imported no module of yours"
        raise no_hooks_named(llm_config.model_id, none)
    return selected


def no_hooks_named(model_id: object, none: str) -> HookLoadError:
    """The error for :class:`HooksCallback` without hooks, where ``none`` says why none can be meant."""
    return HookLoadError(
        f"model {str(model_id)!r}: HooksCallback in callback_config is given no hooks, and {none}. Write "
        "callback_kwargs: {hooks: [my_company.llm_hooks]}, or {hooks: []} for none."
    )


# -- Ray's own callbacks, as hooks ----------------------------------------------------------------------------------

# Each method of Ray's at the moment of ours that Ray calls it at.
_RAYS_METHODS: dict[str, HookName] = {
    "on_before_node_init": "on_before_init",
    "on_before_download_model_files_distributed": "on_before_node_download",
    "on_after_node_init": "on_after_placement_group",
}


def ray_callback_hooks(callback_config: Any) -> list[Hook]:
    """The hooks that a ``CallbackBase`` subclass in ``callback_config`` comes to: one for each method it overrides.

    Raises:
        ValueError, ImportError, AttributeError, TypeError: as :func:`serve_llm_hooks.load_callback`.
        HookLoadError: not a subclass of Ray's ``CallbackBase``, or one of :class:`HooksCallback`.
    """
    if callback_config.callback_class is CallbackBase:
        return []  # Ray's default: nothing
    cls = load_callback(callback_config.callback_class)
    if not (isinstance(cls, type) and issubclass(cls, CallbackBase)):
        raise HookLoadError(
            f"callback_config names {cls!r}, which is no subclass of Ray's CallbackBase; a class of yours goes into "
            "callback=..."
        )
    if cls is CallbackBase:
        return []  # the same, by its path
    if issubclass(cls, HandedOver):
        raise HookLoadError(
            f"callback_config names {cls.__module__}.{cls.__qualname__}, which is a HooksCallback: it would run an "
            "initialization of its own inside this one. Name its hooks in hooks=[...] of serve_llm_hooks.ray.LLMConfig "
            "instead, or write callback_class: serve_llm_hooks.ray.HooksCallback."
        )
    raises = callback_config.raise_error_on_callback
    holder = _RayHolder(cls, {"raise_error_on_callback": raises, **callback_config.callback_kwargs})
    # The first in any case: Ray makes the object in the replica, and sends it from there to the nodes.
    names = [
        name
        for name in _RAYS_METHODS
        if name == "on_before_node_init" or getattr(cls, name) is not getattr(CallbackBase, name)
    ]
    on_error: OnError = "raise" if raises else "warn"
    return [Hook(_RayCall(holder, cls, name), HookOptions(_RAYS_METHODS[name], on_error=on_error)) for name in names]


class _RayHolder(Holder):
    """Holds a callback of Ray's; as with Ray, what travels to a node is the object, with what it has on ``self``."""

    def get_for(self, ctx: Any) -> Any:
        if self.made is None and self.recipe is not None:
            self.made = self.recipe(llm_config=ctx.llm_config, ctx_kwargs=_rays_values(ctx), **self.kwargs)
            _take_rays_values(self.made.ctx, ctx)  # its constructor may have decided something
        return self.made

    def __reduce__(self) -> tuple[Any, ...]:
        return (_RayHolder, (self.recipe, self.kwargs, self.made, self.key))


class _RayCall(HeldCall):
    """A method of a callback of Ray's, between two copyings of the context."""

    def __call__(self, ctx: Any) -> Any:
        callback = cast("_RayHolder", self.holder).get_for(ctx)
        for name, value in _rays_values(ctx).items():
            setattr(callback.ctx, name, value)
        done: object = None
        try:
            done = getattr(callback, self.method)()
        finally:  # also of what one did that failed: as in Ray, the next one finds it
            if not isinstance(done, Awaitable):
                _take_rays_values(callback.ctx, ctx)
        return self._when_done(done, callback, ctx) if isinstance(done, Awaitable) else None

    async def _when_done(self, done: Awaitable[object], callback: Any, ctx: Any) -> None:
        try:
            await done
        finally:
            _take_rays_values(callback.ctx, ctx)


def _rays_values(ctx: Any) -> dict[str, Any]:
    """Our context as the fields of Ray's, as far as it has them."""
    mode = ctx.download_model if isinstance(ctx, NodeCtx) else ctx.worker_node_download_model
    values = {"worker_node_download_model": NodeModelDownloadable[mode.name], "custom_data": ctx.custom_data}
    if not isinstance(ctx, NodeCtx):
        for name in ("placement_group", "runtime_env", "run_init_node"):
            values[name] = getattr(ctx, name)
    return values


def _take_rays_values(theirs: CallbackCtx, ctx: Any) -> None:
    """Ray's context back into ours."""
    if isinstance(ctx, NodeCtx):
        ctx.download_model = theirs.worker_node_download_model
        ctx.custom_data = theirs.custom_data
        return
    for name in ("worker_node_download_model", "placement_group", "runtime_env", "custom_data", "run_init_node"):
        setattr(ctx, name, getattr(theirs, name))
