"""Reports what differs by right: process ids, times, names, free space."""

import datetime
import os
import random
import shutil
import socket
import threading
import time
import uuid

from serve_llm_hooks import hook

STARTED = time.time()
INSTANCE = uuid.uuid4()


def facts():
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "thread": threading.get_ident(),
        "started": STARTED,
        "now": datetime.datetime.now().isoformat(),
        "day": time.strftime("%Y-%m-%d %H:%M:%S"),
        "instance": str(INSTANCE),
        "host": socket.gethostname(),
        "free": shutil.disk_usage("/").free,
        "folder": os.getcwd(),
        "me": repr(object()),
        "number": id(INSTANCE),
    }


@hook("on_before_init")
def in_the_replica(ctx):
    ctx.custom_data["facts"] = facts()
    print(f"process {os.getpid()} begins at {time.time():.3f}")


@hook("on_before_node_download")
def on_a_node(ctx):
    ctx.custom_data["node_facts"] = facts()
    ctx.custom_data["jitter"] = random.random()
    print(f"process {os.getpid()} begins at {time.time():.3f}, {uuid.uuid4()}")
