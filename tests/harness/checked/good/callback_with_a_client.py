"""A callback that makes its client lazily, in each process."""

from serve_llm_hooks import RayServeLLMCallback


class Registry(RayServeLLMCallback):
    def __init__(self, url="http://registry.example.com"):
        self.url = url
        self._session = None

    @property
    def session(self):
        if self._session is None:
            self._session = {"url": self.url, "sent": 0}
        return self._session

    def _send(self, what):
        self.session["sent"] += 1
        return f"{self.session['url']}/{what}"

    def on_before_init(self, ctx):
        ctx.custom_data["announced"] = self._send("begins")

    def on_after_node_download(self, ctx):
        ctx.custom_data["told"] = self._send(ctx.node_id)

    def on_after_init(self, ctx):
        self._send("done")

    def on_shutdown(self, ctx):
        self._send("gone")


HOOKS = [f"{__name__}:Registry"]
