"""``RegistersParser``: the arguments that the recipes for tool and reasoning parsers share."""

from __future__ import annotations

from serve_llm_hooks import RayServeLLMCallback

from . import _arguments, _named


class RegistersParser(RayServeLLMCallback):
    """Keep the class of a parser, its name, and whether this deployment uses it."""

    checks_arguments = True

    def __init__(self, path: str, name: str | None = None, *, use: bool = True) -> None:
        """Check the arguments."""
        if name is not None:
            _arguments.text("name", name, "what the engine's arguments call the parser")
        _arguments.one_of("use", use, True, False)
        self.name: str = name or _named.split(path)[1]
        self.path: str = path
        self.use: bool = use
