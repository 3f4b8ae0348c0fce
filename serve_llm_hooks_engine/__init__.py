"""The plugin of serve-llm-hooks for vLLM, which calls it once in each process of an engine.

By itself, so that a process without hooks imports nothing else of this library.
"""

import os

VARIABLE = "SERVE_LLM_HOOKS_ENGINE"
"""The environment variable that holds the hooks of an engine's processes."""

STEPS = "SERVE_LLM_HOOKS_ENGINE_STEPS"
"""The environment variable that names the folder for the steps of an engine's start."""


def load() -> None:
    """Listen for the engine's steps, and run this process's hooks at ``on_engine_process_start``, where there are any.

    Raises:
        ServeLLMHooksError: a hook has failed, which ends the process.
    """
    if STEPS in os.environ:
        from .steps import listen

        listen(os.environ[STEPS])
    if VARIABLE in os.environ:
        from serve_llm_hooks.ray.engine_process import run

        run(os.environ[VARIABLE])
