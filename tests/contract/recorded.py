"""``recorded.json``: what the real wing told of each scenario, by the scenario's name and the model's id.

A line for each scenario and key, so that a change of what is told is a line in a diff.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .told import Told

RECORDED = Path(__file__).with_suffix(".json")

Recorded: TypeAlias = "dict[str, dict[str, Told]]"


def read_recorded() -> Recorded:
    """Return the recorded outcomes, or an empty dict where there is no file."""
    recorded: Recorded = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    return recorded


def write_recorded(recorded: Recorded) -> None:
    """Write the file anew."""
    RECORDED.write_text(in_lines(recorded), encoding="utf-8")


def in_lines(recorded: Recorded) -> str:
    """Return the file's text.

    Example:
        >>> print(in_lines({"it_starts": {"m": {"nodes": {"node-0": {"failed": False}}, "error": None}}}), end="")
        {
         "it_starts": {
          "m": {
           "error": null,
           "nodes": {"node-0": {"failed": false}}
          }
         }
        }
    """

    def of_models(models: Mapping[str, Told]) -> str:
        return _object(models, 1, lambda told: _object(told, 2, lambda value: json.dumps(value, sort_keys=True)))

    return _object(recorded, 0, of_models) + "\n"


def _object(held: Mapping[str, object], depth: int, text_of: Callable[..., str]) -> str:
    lines = [f"{' ' * (depth + 1)}{json.dumps(key)}: {text_of(held[key])}" for key in sorted(held)]
    return "{\n" + ",\n".join(lines) + f"\n{' ' * depth}}}"
