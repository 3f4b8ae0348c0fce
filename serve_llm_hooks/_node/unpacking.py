"""Unpack hooks where they run: first see that all of them may run there, then import what they need."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from .._core.errors import HookLoadError, reraise_if_not_a_failure
from .._core.messages import own, readable
from .._core.origin import file_module_name
from .._sources.allow import check_source
from .._sources.shipped import how_to_ship
from .packing import unpickle_failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._core.hook import Hook
    from .task import PackedHook


def check_packed(hooks: Sequence[PackedHook], *, where: str, environ: Mapping[str, str] | None) -> None:
    """Check that hooks may run here, all of them, before anything is unpickled.

    Args:
        hooks: the packed hooks.
        where: the process that they have reached, in words.
        environ: the environment whose ``SERVE_LLM_HOOKS_ALLOW`` decides; left out, this process's.

    Raises:
        HookNotAllowedError: one may not.
    """
    for packed in hooks:
        check_source(packed.source, f"hook {packed.ref}", where=where, environ=environ)


def unpack_hooks(hooks: Sequence[PackedHook], *, where: str, environ: Mapping[str, str] | None) -> list[Hook]:
    """Unpickle hooks, which imports their modules. Arguments as for :func:`check_packed`.

    Raises:
        HookNotAllowedError: one is not what it was sent as, and may not run here.
        HookLoadError: one cannot be unpacked here; the message says what is missing.
    """
    unpacked = []
    for packed in hooks:
        try:
            hook: Hook = pickle.loads(packed.data)
        except ModuleNotFoundError as error:
            raise HookLoadError(_missing(packed, str(own(error, ImportError, "name")), where)) from readable(error)
        except BaseException as error:
            reraise_if_not_a_failure(error)
            raise HookLoadError(
                f"hook {packed.ref} cannot be unpacked {where}: {unpickle_failure(error)}. "
                "Is the same version of its module on every node?"
            ) from readable(error)
        if hook.path.partition(":")[0] != file_module_name(packed.source):
            what = f"hook {hook.path}, which was sent as one from {packed.source},"
            check_source(hook.source, what, where=where, environ=environ)
        unpacked.append(hook)
    return unpacked


def _missing(packed: PackedHook, name: str, where: str) -> str:
    """Return what to say of a hook whose module, or one that its code uses, is not here."""
    what = f"hooks module {packed.ref.partition(':')[0]!r} cannot be imported"
    if packed.source == "__main__" or "/" in packed.source:  # its own code has arrived, by value
        what = f"a module that hook {packed.ref} uses cannot be imported"
    return (
        f"{what} {where} (no module {name!r}), so hook {packed.ref} cannot run there. "
        f"{how_to_ship(name.replace('.', '/'))}"
    )
