"""A singleton class that is configured in the replica."""

from serve_llm_hooks import hook


class Tracker:
    _instance = None

    def __new__(cls):
        if cls._instance is None:
            cls._instance = super().__new__(cls)
            cls._instance.run_name = "unnamed"
        return cls._instance


@hook("on_before_init")
def name_the_run(ctx):
    Tracker().run_name = f"start of {ctx.model_id}"


@hook("on_after_node_download")
def track(ctx):
    print(f"[tracker] {Tracker().run_name}: node ready")
