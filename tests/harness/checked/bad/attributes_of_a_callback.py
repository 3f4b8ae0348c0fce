"""A callback object keeps on itself what its method in the replica has found, for its method on nodes."""

from serve_llm_hooks import RayServeLLMCallback


class Adapters(RayServeLLMCallback):
    def __init__(self, names="a,b"):
        self.names = names.split(",")
        self.versions = {}

    def on_before_init(self, ctx):
        self.versions = dict.fromkeys(self.names, 7)

    def on_before_node_download(self, ctx):
        ctx.custom_data["fetched"] = [f"{name}@{self.versions.get(name, 'latest')}" for name in self.names]


HOOKS = [f"{__name__}:Adapters"]
