"""``RegistersParser``: the arguments that the recipes for tool and reasoning parsers share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from serve_llm_hooks import RayServeLLMCallback

from . import _arguments, _named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class RegistersParser(RayServeLLMCallback):
    """Keep the class of a parser, its name, and whether this deployment uses it.

    Attributes:
        argument: the engine's argument that names the parser.
    """

    checks_arguments = True
    argument: ClassVar[str] = ""

    def __init__(self, path: str, name: str | None = None, *, use: bool = True) -> None:
        """Check the arguments."""
        if name is not None:
            _arguments.text("name", name, "what the engine's arguments call the parser")
        _arguments.one_of("use", use, True, False)
        self.name: str = name or _named.split(path)[1]
        self.path: str = path
        self.use: bool = use

    def chosen(self) -> dict[str, Any]:
        """Return the engine's arguments with which it uses the parser."""
        return {self.argument: self.name} if self.use else {}

    def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
        """Look whether something else chooses a parser.

        Raises:
            ValueError: it does, or has the same name.
        """
        given: Mapping[str, Any] = getattr(llm_config, "engine_kwargs", None) or {}
        for argument, value in self.chosen().items():
            if given.get(argument, value) != value:
                raise ValueError(
                    f"engine_kwargs has {argument}={given[argument]!r}, and {self.path} is to be used: leave "
                    f"{argument} out there, or give {type(self).__name__} use: false"
                )
        for other in others:
            if isinstance(other, type(self)) and (other.name == self.name and other.path != self.path):
                raise ValueError(f"{self.path} and {other.path} are both named {self.name!r}: give one another name=")
            if isinstance(other, type(self)) and self.use and other.use and other.name != self.name:
                raise ValueError(f"{self.path} and {other.path} are both to be used: give one of them use: false")

    def load(self, base: type) -> type:
        """Return the class.

        Raises:
            ModuleNotFoundError, AttributeError: it is not here.
            TypeError: it is no subclass of vLLM's class for such parsers.
        """
        parser = _named.load(self.path)
        if not (isinstance(parser, type) and issubclass(parser, base)):
            raise TypeError(f"{self.path} is no subclass of {base.__module__}.{base.__name__}")
        return parser
