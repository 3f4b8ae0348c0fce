"""All by ourselves: no downloads, a placement group of our own, and a private registry."""

from serve_llm_hooks import HookRegistry

ours = HookRegistry()


@ours.hook("on_before_init", model_id="baked-*")
def no_defaults(ctx):
    return False


@ours.hook("on_custom_init")
async def take_over(ctx):
    ctx.placement_group = ("n5",)
    ctx.runtime_env = {"env_vars": {"HF_HUB_OFFLINE": "1"}}
    ctx.model_path = "/baked"


@ours.hook("on_after_placement_group")
def never(ctx):
    raise AssertionError("the defaults are skipped")


@ours.hook("on_before_engine_init")
def tune(ctx):
    ctx.extra_init_kwargs.update(enforce_eager=True)
