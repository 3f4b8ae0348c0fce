"""Show the parameters of hooks, but nothing that looks like a secret."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

MASKED = "•••"

_SECRET_NAMES = re.compile(
    r"token|secret|passw|pwd|passphrase|credential|(^|[_-])auth([_-]|$|oriz)|bearer|cookie|signature|private"
    r"|key(s|_id)?$|(^|[_-])(sas|pat|dsn|pin)([_-]|$)|connection_string|webhook",
    re.IGNORECASE,
)
# Numbers of tokens, and tokenizers, have such a word in their names, and are no secrets.
_HARMLESS_NAMES = re.compile(
    r"^(max|min|num)_(\w*_)?tokens?$|^tokens_per_\w+$|^tokenizer(_(mode|path|source|name|revision))?$", re.IGNORECASE
)
_SECRET_VALUES = re.compile(
    r"^(hf_|sk-|pk_|rk_|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AKIA|ASIA|AIza|ya29\.|eyJ|nvapi-|dapi)"
    r"|-----BEGIN|\bBearer\s|\bBasic\s+[\w+/]+=*$|://(?!git@)[^/\s@]+@|[?&](sig|signature|token|key|x-amz-[a-z-]+)="
    r"|(password|passwd|pwd|secret|signature|token|(api|access|account|secret)[_-]?key)[\"']?\s*[=:]"
    r"|(?<![\w-])--[\w-]*(password|passwd|pwd|secret|token|key)\s|hooks\.slack\.com",
    re.IGNORECASE,
)
_LONG_RANDOM = 24  # characters of one word of letters and digits, as keys are
_RANDOM_BITS = 3.5  # per character
_SHOWN = 200  # characters of a text
_DEPTH = 5


def shown(name: str, value: object, depth: int = _DEPTH) -> Any:
    """Return a parameter as JSON would have it: masked where it looks secret; of other objects the type.

    Example:
        >>> shown("folder", "/scratch"), shown("api_key", "1234"), shown("url", "https://me:pw@host/")
        ('/scratch', '•••', '•••')
    """
    if _is_secret_name(name) and not isinstance(value, bool | None):
        return MASKED
    if isinstance(value, str):
        return MASKED if _is_secret_text(value) else value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping | list | tuple) and depth:
        if isinstance(value, Mapping):
            return {str(key): shown(str(key), inside, depth - 1) for key, inside in value.items()}
        return [shown(_option(before) or name, inside, depth - 1) for before, inside in pairwise(("", *value))]
    return f"<{type(value).__name__}>"


def _option(before: object) -> str:
    """Return the secret name that an item of a list gives the next one, as in ``["--token", "abc"]``; or nothing."""
    name = before.lstrip("-").replace("-", "_") if isinstance(before, str) and before.startswith("-") else ""
    return name if _is_secret_name(name) else ""


def _is_secret_name(name: str) -> bool:
    return bool(_SECRET_NAMES.search(name)) and not _HARMLESS_NAMES.search(name)


def _is_secret_text(text: str) -> bool:
    return bool(_SECRET_VALUES.search(text)) or any(_is_random(word) for word in re.split(r"[\s/,;:=.]+", text))


def _is_random(word: str) -> bool:
    """Return True if a word looks like a key: long, of letters and digits mixed, no word of a language."""
    if len(word) < _LONG_RANDOM or not re.search(r"\d", word) or not re.search(r"[A-Za-z]", word):
        return False
    if not re.fullmatch(r"[A-Za-z0-9+_-]+", word) or max(map(len, re.split(r"[-_]", word))) < _LONG_RANDOM:
        return False
    share = [word.count(char) / len(word) for char in set(word)]
    return -sum(each * math.log2(each) for each in share) > _RANDOM_BITS
