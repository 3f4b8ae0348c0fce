"""Puts secrets into a module that it makes, in the replica; nodes import it."""

import sys
import types

from serve_llm_hooks import hook


@hook("on_before_init")
def load_secrets(ctx):
    secrets = types.ModuleType("acme_runtime_secrets")
    secrets.HF_TOKEN = "hf_0000"
    sys.modules["acme_runtime_secrets"] = secrets


@hook("on_before_node_download")
def authenticate(ctx):
    import acme_runtime_secrets

    ctx.custom_data["authenticated"] = bool(acme_runtime_secrets.HF_TOKEN)
