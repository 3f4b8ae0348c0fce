"""Gives nodes their variables as Ray does, in runtime_env."""

import os

from serve_llm_hooks import hook


@hook("on_before_init")
def choose_interface(ctx):
    env = dict(ctx.runtime_env or {})
    env["env_vars"] = {**env.get("env_vars", {}), "NCCL_SOCKET_IFNAME": "eth0", "ACME_REGION": "eu"}
    ctx.runtime_env = env


@hook("on_before_node_download")
def check_interface(ctx):
    if os.environ.get("NCCL_SOCKET_IFNAME") != "eth0":
        raise RuntimeError("NCCL would choose an interface by itself")
    ctx.custom_data["region"] = os.environ["ACME_REGION"]
