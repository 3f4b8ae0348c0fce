"""Counts what each process has done, for its metrics."""

from collections import Counter

from serve_llm_hooks import hook

_metrics = Counter()


def count(name):
    _metrics[name] += 1
    print(f"acme_hooks_total{{hook={name!r}}} {_metrics[name]}")


@hook("on_before_init")
def begin(ctx):
    count("all")


@hook("on_before_node_download")
def before(ctx):
    count("all")


@hook("on_after_node_download")
def after(ctx):
    count("all")
    ctx.custom_data["hooks_in_this_process"] = _metrics["all"]


@hook("on_after_init")
def end(ctx):
    count("all")
    ctx.custom_data["hooks_in_the_replica"] = _metrics["all"]
