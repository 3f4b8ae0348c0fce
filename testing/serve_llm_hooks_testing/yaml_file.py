"""``YamlFile``: a YAML file, and the line of whatever is in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from serve_llm_hooks._core.messages import describe as describe, without_login as without_login  # for the CLI, too


class _KeyIsThereTwiceError(Exception):
    """The message begins with the line."""


class _Loader(yaml.SafeLoader):
    """PyYAML's, but of a key that a mapping has twice it does not take the last without a word."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode) or name.tag == "tag:yaml.org,2002:merge":  # <<, of which all count
                continue
            key, line = (name.tag, name.value), name.start_mark.line + 1
            if key in lines:
                there = f"is there already, on line {lines[key]}, and only the last would count"
                raise _KeyIsThereTwiceError(f"{line}: the key {name.value!r} {there}")
            lines[key] = line
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception:  # PyYAML lets through whatever int(), a date or a look-up in a table raises
            kind = str(node.tag).rpartition(":")[2]  # one that PyYAML knows, and so none of a password
            problem = f"it is no valid {kind}: quote what is a text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


class YamlFile:
    """A YAML file that was read.

    Args:
        file: its path.
        error: the exception that is raised where it is not there, or is no YAML; the message names the line.

    Attributes:
        value: what it holds.
    """

    def __init__(self, file: str, error: type[Exception]) -> None:
        """Read it."""
        given, file = file, without_login(file)
        self._file = file
        self._error = error
        try:
            data = Path(given).read_bytes()
        except (OSError, ValueError) as why:  # ValueError: no file has such a name
            said = getattr(why, "strerror", None) or type(why).__name__
            raise error(f"{file} cannot be read: {said} (in {Path.cwd()})") from None
        try:
            loader = _Loader(data)
            self._root: Any = loader.get_single_node()
            self.value: Any = None if self._root is None else loader.construct_document(self._root)
        except _KeyIsThereTwiceError as why:
            raise error(f"{file}:{why}") from None
        except yaml.MarkedYAMLError as why:  # without the mark's snippet, which may hold a secret
            at = why.problem_mark or why.context_mark
            line = f"{file}:{at.line + 1}" if at else file
            raise error(f"{line}: this is no YAML: {_problem(why)}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as why:
            raise error(f"{file}: this is no YAML: {type(why).__name__}") from None

    def at(self, *keys: str | int) -> str:
        """Return ``file:line`` of what is at these keys and indices, or of the last of them that is there."""
        node, line = self._root, 0 if self._root is None else self._root.start_mark.line
        for key in keys:
            found = _inside(node, key)
            if found is None:
                break
            node, line = found
        return f"{self._file}:{line + 1}"

    def refuse(self, why: str, *keys: str | int) -> NoReturn:
        """Refuse the file, with the line of what is at the keys."""
        raise self._error(f"{self.at(*keys)}: {why}")


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Return PyYAML's message without the words that it quotes from the file: they may be a secret."""
    said = str(error.problem or error.context)
    if "undefined alias" in said:
        return "what begins with * is an alias, and no anchor has its name: quote what is a text"
    if "undefined tag" in said or "constructor for the tag" in said:
        return "what begins with ! is a tag, and there is no such tag: quote what is a text"
    # Single signs, written out as '\t' is, and PyYAML's own <names>, say what is wrong.
    return re.sub(r"""(['"])(.*?)\1""", lambda found: found[0] if _is_no_word(found[2]) else "'…'", said)


def _is_no_word(quoted: str) -> bool:
    return len(quoted) < 2 or quoted[0] in "<\\"


def _inside(node: Any, key: str | int) -> tuple[Any, int] | None:
    """Return what is at a key or an index, and the line on which that begins."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value == str(key):
                return value, name.start_mark.line
    elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key].start_mark.line
    return None
