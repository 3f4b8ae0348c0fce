"""The arguments and options that commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="REF...|CONFIG.yaml", help="Hooks, each as hooks=[...] takes it, or a file that `serve run` takes."
    ),
]
ModelIds = Annotated[list[str] | None, typer.Option("--model", metavar="ID", help="Only this model; may be repeated.")]
AppDir = Annotated[str, typer.Option("--app-dir", metavar="FOLDER", help="Where modules of hooks are imported from.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]

NAMES_HOOKS = ("hooks", "callback", "callbacks", "initialization_class")
"""The fields of a config that name hooks."""
