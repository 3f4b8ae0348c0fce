"""Find out what credentials are missing, and name their variables; no message has the value of one."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from .store import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .uri import Uri

_PAIRS = {"AWS_ACCESS_KEY_ID": "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY": "AWS_ACCESS_KEY_ID"}
_CREDENTIALS = {
    "s3": ("AWS_", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket"),
    "gs": ("GOOGLE_", "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket"),
    "az": ("AZURE_", "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or AZURE_SKIP_SIGNATURE=true"),
}


def check_here(uri: Uri) -> None:
    """Check the variables of this process. A role of the machine's may stand for what is not there at all.

    Raises:
        StoreError: what is there cannot work; the message says which variable is missing.
    """
    for name, other in _halves(uri, os.environ):
        raise StoreError(f"{uri}: {name} is set in this process's environment, and {other} is not")
    if uri.scheme == "az" and not (
        os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or os.environ.get("AZURE_STORAGE_USE_EMULATOR")
    ):
        raise StoreError(f"{uri}: AZURE_STORAGE_ACCOUNT_NAME is not set in this process's environment")
    key_file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if uri.scheme == "gs" and key_file and not os.path.exists(key_file):
        raise StoreError(f"{uri}: GOOGLE_APPLICATION_CREDENTIALS names a file that is not there")


def check_given(uri: Uri, env_vars: Mapping[str, str]) -> None:
    """Check the variables that a config gives to its nodes.

    Raises:
        ValueError: one of two that belong together is missing.
    """
    for name, other in _halves(uri, env_vars):
        raise ValueError(f"{uri}: runtime_env['env_vars'] has {name} and no {other}: give both there, or none")


def hint(uri: Uri) -> str:
    """Return which variables to set, if this process has none for a store."""
    prefix, names = _CREDENTIALS.get("az" if uri.scheme == "abfss" else uri.scheme, ("", ""))
    if not names or any(name.startswith(prefix) and re.search("KEY|TOKEN|CRED|ROLE", name) for name in os.environ):
        return ""
    return f". No credentials are in this process's environment: set {names}"


def _halves(uri: Uri, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    pairs = _PAIRS.items() if uri.scheme == "s3" else ()
    return [(name, other) for name, other in pairs if environ.get(name) and not environ.get(other)]
