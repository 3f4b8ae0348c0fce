"""Two functions share a variable of the function that made them."""

from serve_llm_hooks import hook


def _memory():
    held = None

    def put(value):
        nonlocal held
        held = value

    def get():
        return held

    return put, get


put_quota, get_quota = _memory()


@hook("on_before_init")
async def ask_for_quota(ctx):
    put_quota({"gb": 200})


@hook("on_before_node_download", on_error="warn")
async def respect_quota(ctx):
    if get_quota()["gb"] < 140:
        raise RuntimeError("too large")
