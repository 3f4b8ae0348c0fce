"""Sets what sockets do, in the replica, for downloads on nodes."""

import socket

from serve_llm_hooks import hook


@hook("on_before_download")
def be_patient(ctx):
    socket.setdefaulttimeout(120.0)


@hook("on_before_node_download")
def fetch_tokenizer(ctx):
    with socket.socket() as connection:
        ctx.custom_data["timeout_s"] = connection.gettimeout()
