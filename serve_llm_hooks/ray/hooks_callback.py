"""``HooksCallback``: hooks for deployments that keep Ray's own ``LLMConfig``."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from . import prewarmed  # noqa: F401  # first: it begins on import

# isort: split

from .._core.errors import HookLoadError, NodeInitializationError, PlacementGroupError
from .._core.points import HOOK_POINTS
from .._core.until import check_ends_before_the_engine
from .._observe.progress import Progress
from .._replica.initialize import initialize
from .._sources.select import select
from .._sources.weights import refuse_late
from . import early_core, internals, prewarm, telemetry, unused
from .cluster import RayCluster
from .hand_over import HandedOver, remove_given_hooks
from .log import log_if_root_is_silenced, show_log
from .native_config import hooks_of_callback_kwargs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.registry import HookRegistry
    from .._replica.initialize import Initialization
    from .._sources.entries import HookRef


_SHARE_OF_RAYS_LIMIT = 0.9  # our limits end after this share of Ray's, so that on_failure has the rest


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
        HookLoadError: hooks that cannot be loaded, or at points that Ray never reaches this way; no hooks at all.
    """

    __module__ = "serve_llm_hooks.ray"  # the path that configs name

    def __init__(
        self,
        *,
        hooks: list[HookRef] | None = None,
        llm_config: Any,
        raise_error_on_callback: bool = True,
        ctx_kwargs: dict[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        """Load the hooks; Ray calls this with what ``callback_kwargs`` holds."""
        super().__init__(
            llm_config=llm_config, raise_error_on_callback=raise_error_on_callback, ctx_kwargs=ctx_kwargs or {}
        )
        refuse_late(
            llm_config,
            "Ray's callback_config ends before the engine's workers begin, so nobody would wait for the weights. Leave "
            "weights= out, or server_cls=, which takes serve_llm_hooks.ray.LLMServer.",
        )
        with Progress(str(llm_config.model_id)) as progress, progress.waiting_for("its hooks to be imported"):
            self._hooks: HookRegistry = hooks_of_callback_kwargs(llm_config, {"hooks": hooks, **unknown})
        for hook in select(self._hooks, llm_config.model_id).hooks:
            if HOOK_POINTS[hook.point].needs_server:
                step = "in the engine's processes" if HOOK_POINTS[hook.point].in_process else "after the engine's start"
                raise HookLoadError(
                    f"{hook.ref} at {hook.point} can never run: Ray's callback_config has no step {step}. Use `from "
                    "serve_llm_hooks.ray import LLMConfig` with hooks=[...], and build the app with "
                    "serve_llm_hooks.ray (in YAML `import_path: serve_llm_hooks.ray:build_openai_app`, or "
                    "build_dp_openai_app, build_pd_openai_app)."
                )
            check_ends_before_the_engine(hook)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as ``None`` until its hooks have run: a process that gets the config makes a callback of its own."""
        return super().__reduce__() if self.is_decided else (type(None), ())

    @override
    async def on_before_node_init(self) -> None:
        """Run all hooks up to the engine's start, instead of Ray's node initialization."""
        unused.start_begins()
        show_log()
        telemetry.ask_for_actor()
        cluster = _ClusterInRaysStart(self.ctx.placement_group)
        try:
            async with initialize(self.llm_config, cluster, self._hooks, _begin) as run:
                self.decide(run.ctx, await prewarm.finish(run.start.defaults, run.ctx))
                early_core.begin(in_start=True)  # if it has not begun with the imports
                remove_given_hooks(self.llm_config)
        except BaseException as error:
            for begun in (prewarm, early_core):
                begun.throw_away("the start has failed")
            is_limit = isinstance(error, NodeInitializationError | PlacementGroupError)
            if is_limit and cluster.cut_short and cluster.clock() >= cluster.cut_end_s:  # else another limit ended it
                error.add_note(cluster.cut_short)
            raise
        self._log_engine_start(run)

    def _log_engine_start(self, run: Initialization) -> None:
        """Log that the engine starts until this task ends: Ray starts it in here, and gives no word when it is up."""
        task = asyncio.current_task()
        if task is None:
            return
        begun_s = run.trace.clock()
        waiting = ExitStack()
        progress = waiting.enter_context(Progress(str(self.llm_config.model_id)))
        waiting.enter_context(progress.waiting_for("its engine to start"))

        def is_over(task: asyncio.Task[Any]) -> None:
            waiting.close()
            early_core.throw_away("the start is over")
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            run.trace.add_step("engine", begun_s, failed=error is not None)
            run.over(error)

        task.add_done_callback(is_over)


def _begin(run: Initialization) -> None:
    run.ends_with_engine = False
    log_if_root_is_silenced(run)


class _ClusterInRaysStart(RayCluster):
    """The cluster of a start that runs inside Ray's own start of its engine.

    Ray has asked for a placement group already, and ends everything silently when its limit is over. Our limits,
    whose errors say what was waited for, end before that.

    Attributes:
        cut_short: why a limit is shorter than the one that was set; empty if none is.
        cut_end_s: when that limit ends, on the cluster's clock.
    """

    def __init__(self, placement_group: Any) -> None:
        super().__init__()
        self.cut_short = ""
        self.cut_end_s = 0.0
        self._rays_group = placement_group
        self._end_s: float = self.clock() + _SHARE_OF_RAYS_LIMIT * internals.ENGINE_START_TIMEOUT_S

    @override
    async def acquire_placement_group(self, llm_config: Any) -> Any:
        """Return the group that Ray has asked for, the first time. It is given back like one that we ask for."""
        group, self._rays_group = self._rays_group, None
        return await super().acquire_placement_group(llm_config) if group is None else group

    @override
    async def node_ids(self, placement_group: Any, own_bundles: Sequence[int] | None = None) -> list[str]:
        """Return the nodes of a group's bundles; the nodes have what is then left of Ray's limit."""
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
