"""The main job: a real model behind Ray Serve LLM, with hooks. Run by `make demo`; needs no GPU.

Starts a local Ray, serves SmolLM2-135M-Instruct on the CPU as examples/demo.yaml says, asks it a question over HTTP,
and prints what ran where, when and for how long. Exits with 1 when the answer or an expected hook is missing.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from demo_model import ensure_smollm2

HERE = Path(__file__).parent
QUESTION = "What is the capital of France?"
EXPECTED = [
    "check_disk",
    "CheckNode.on_before_node_download",
    "short_context",
    "WarmUp.on_after_engine_init",
    "timings",
]


def main() -> int:
    started_s = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started_s:5.1f} s] {text}", flush=True)

    os.environ["SMOLLM2_FOLDER"] = str(ensure_smollm2(say))
    traces = os.environ.setdefault("SERVE_LLM_HOOKS_TRACE_DIR", tempfile.mkdtemp(prefix="serve-llm-hooks-demo-"))
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about GPUs to come
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

    say("starting Ray (about 20 s)")
    import ray
    from ray import serve

    # working_dir ships this folder, and the hooks module in it, to every node. Its processes have our environment.
    ray.init(
        address="local",  # its own, whatever else runs on this machine
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=bool(os.environ.get("DEMO_VERBOSE")),
        runtime_env={"working_dir": str(HERE)},
    )
    try:
        port = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        application = yaml.safe_load(os.path.expandvars((HERE / "demo.yaml").read_text()))["applications"][0]
        say("serving the model (about a minute; DEMO_VERBOSE=1 shows Ray's and vLLM's logs)")
        module, _, name = application["import_path"].partition(":")
        app = getattr(import_module(module), name)(application["args"])
        serve.run(app, name=application["name"], route_prefix=application["route_prefix"])

        say(f"asking: {QUESTION}")
        answer = ask(port, QUESTION)
        say(f"answer: {answer}")
        refusal = ask(port, QUESTION, max_tokens=600)
        handle = serve.get_deployment_handle("LLMServer:smollm2", app_name=application["name"])
        trace = handle.hook_trace.remote().result(timeout_s=30)
        code = report(answer, refusal, trace)
        page = page_in(traces)
        print("The start as a timeline:", flush=True)
        subprocess.run([sys.executable, "-m", "serve_llm_hooks.cli", "trace", page], check=True)
        say(f"the same as a page: {page}")
        return code
    finally:
        say("shutting down")
        serve.shutdown()
        ray.shutdown()


def free_port() -> int:
    """A port that nobody else on this machine uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def page_in(folder: str) -> Path:
    """Return the newest page that a start has been saved as."""
    return max(Path(folder).glob("*.html"), key=lambda page: page.stat().st_mtime)


def ask(port: int, question: str, max_tokens: int = 32) -> str:
    """The model's answer, or what the server says when it refuses."""
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    for _ in range(300):
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                answer: str = json.load(response)["choices"][0]["message"]["content"]
                return answer
        except urllib.error.HTTPError as error:
            if error.code != 404:
                return error.read().decode()
        time.sleep(0.2)  # Serve's proxy hears of an application some moments after serve.run
    raise TimeoutError("Serve's proxy does not know the application")


def written(hook: str) -> str:
    """A hook's name without its module and parameters: a method of a class has the class in front."""
    return hook.rpartition(":")[2].partition("(")[0]


def report(answer: str, refusal: str, trace: Any) -> int:
    """Print the table, and say what is missing."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What ran where, when, and for how long")
    for column in ("start", "took", "hook point", "hook", "node", "process", "outcome"):
        table.add_column(column, justify="right" if column in ("start", "took", "process") else "left")
    first_s = min((event.start_s for event in trace), default=0.0)
    for event in trace:
        table.add_row(
            f"{event.start_s - first_s:.3f} s",
            f"{event.duration_s:.3f} s",
            event.point,
            written(event.hook),
            event.node_id[:8],
            str(event.process_id),
            f"{event.outcome}: {event.detail}" if event.detail else event.outcome,
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)

    ran = [written(event.hook) for event in trace if event.outcome in ("ok", "vetoed")]
    problems = [f"hook {name} did not run" for name in EXPECTED if name not in ran]
    if "never" in [event.name for event in trace]:
        problems.append("hook never ran, which is for another model")
    if "Paris" not in answer:
        problems.append(f"the answer has no Paris in it: {answer!r}")
    if "512" not in refusal:
        problems.append(f"the engine was not started with the hook's max_model_len=512: {refusal!r}")
    for problem in problems:
        print(f"MISSING: {problem}")
    if not problems:
        print("All expected hooks ran; the engine has the context length that a hook set (512 instead of 1024).")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
