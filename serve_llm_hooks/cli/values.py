"""Show the parameters of hooks, but nothing that looks like a secret."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

MASKED = "•••"

# Of names whose words are separated by `_`. A short word counts only by itself: `pass` is no part of `bypass`.
_SECRET_NAMES = re.compile(
    r"token|secret|passw|pwd|pass_?(word|phrase|code)|credential|authoriz|bearer|cookie|signature|private|webhook"
    r"|connection_?string|(^|_)(auth|jwt|sas|pat|dsn|pin|otp|creds?)(_|$)|key(s|_id)?(_?\d+)?$"
    r"|(^|_)(db|user|pg|sql|ssh|smtp|mail|root|admin|redis|proxy|ldap|ftp)?(pass|pw)(_?\d+)?$",
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
    r"|(?<![\w.+-])(?!mailto:)[\w.+-]+:[^\s/@]{1,200}@(?!sha\d+:)\w"  # me:password@host, but no digest of an image
    r"|(?<![\w-])(-u|--(proxy-)?user)[\s=]+(?!\d+:\d+\b)[^\s:]+:\S"  # what curl takes, but no user:group of numbers
    r"|hooks\.slack\.com|discord(app)?\.com/api/webhooks",
    re.IGNORECASE,
)
# What has a name of its own inside a text: name=value, also in a query; --name value; and name: value in JSON, YAML and
# headers, whose name is where a line, a mapping or a quoted text begins.
_NAMED_VALUES = re.compile(
    r"(?<![\w.-])([\w.-]+)[\"']?\s*=(?![\s=]*(?:true|false|none|null)\b|=|\s*$)"
    r"|(?<![\w.-])--([\w-]+)\s+(?=[^\s-])"
    r"|(?:^|[{,;\"'])[ \t]*([\w.-]+)[\"']?\s*:\s",
    re.IGNORECASE | re.MULTILINE,
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
            of_value = _name_of_value(value)
            return {
                str(key): shown((of_value if str(key).lower() == "value" else "") or str(key), each, depth - 1)
                for key, each in value.items()
            }
        return [shown(_option(before, each) or name, each, depth - 1) for before, each in pairwise(("", *value))]
    return f"<{type(value).__name__}>"


def _name_of_value(mapping: Mapping[Any, Any]) -> str:
    """Return the name in a mapping such as ``{name: DB_PASSWORD, value: x}`` if it is a secret's; else nothing."""
    names = [name for key, name in mapping.items() if str(key).lower() in ("name", "key") and isinstance(name, str)]
    return next(filter(_is_secret_name, names), "")


def _option(before: object, value: object) -> str:
    """Return the secret name that an item of a list gives the next one, as in ``["--token", "abc"]``; or nothing."""
    if not isinstance(before, str) or not before.startswith("-"):
        return ""
    if isinstance(value, str) and _SECRET_VALUES.search(f"{before} {value}"):
        return "secret"
    name = before.lstrip("-")
    return name if _is_secret_name(name) else ""


def _is_secret_name(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-.\s]+", "_", name).strip("_")
    return bool(_SECRET_NAMES.search(words) or _SECRET_NAMES.search(name)) and not _HARMLESS_NAMES.search(words)


def _is_secret_text(text: str) -> bool:
    if _SECRET_VALUES.search(text) or any(_is_random(word) for word in re.split(r"[\s/,;:=.]+", text)):
        return True
    return any(_is_secret_name(next(filter(None, found.groups()))) for found in _NAMED_VALUES.finditer(text))


def _is_random(word: str) -> bool:
    """Return True if a word looks like a key: long, of letters and digits mixed, no word of a language."""
    if len(word) < _LONG_RANDOM or not re.search(r"\d", word) or not re.search(r"[A-Za-z]", word):
        return False
    if not re.fullmatch(r"[A-Za-z0-9+_-]+", word) or max(map(len, re.split(r"[-_]", word))) < _LONG_RANDOM:
        return False
    share = [word.count(char) / len(word) for char in set(word)]
    return -sum(each * math.log2(each) for each in share) > _RANDOM_BITS
