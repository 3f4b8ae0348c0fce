"""Pickle an ``LLMConfig``: the checks before it leaves its process, and the hooks that go along."""

from __future__ import annotations

import logging
import pickle
from operator import getitem
from typing import TYPE_CHECKING, Any

from .._core.errors import HookLoadError
from .._core.messages import describe
from .._core.registry import registry
from .._node.by_value import dumps
from .._node.packing import check_parameters_travel, pack_hooks
from .._process.payload import check_sendable
from .._sources.entries import hooks_of_entries
from .._sources.select import check_together, hooks_of_script
from .hooked import is_hooked
from .internals import CallbackConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .._core.hook import Hook


logger: logging.Logger = logging.getLogger("serve_llm_hooks")

# The fields that bring hooks, with their values for none.
_NO_HOOKS: dict[str, Any] = {
    "hooks": [],
    "callback": None,
    "callback_kwargs": {},
    "callbacks": None,
    "initialization_class": None,
    "initialization_kwargs": {},
}


def state_of_decided(state: dict[Any, Any]) -> dict[Any, Any]:
    """Return the pickled state of a config whose hooks have run, without them.

    Ray's engine sends it to tasks of its own, which run no hook. What hooks stored in objects that were given, or in
    their script's globals, need not be picklable.
    """
    fields = {**state["__dict__"], **_NO_HOOKS, "callback_config": CallbackConfig()}
    private = {**state["__pydantic_private__"], "_script_hooks": ()}
    return {**state, "__dict__": fields, "__pydantic_private__": private}


def state_to_send(config: Any, state: dict[Any, Any], others: Sequence[Hook]) -> dict[Any, Any]:
    """Return the pickled state of a config whose hooks will run where it arrives; check that they can.

    Args:
        config: the config, whose ``hooks`` are checked already.
        state: its state.
        others: the hooks of its other fields.

    Raises:
        HookLoadError: ``server_cls`` would run no hook.
        HookPickleError: a hook cannot be pickled; the message says which, and why.
        HookOrderError: an order that is impossible, or ambiguous.
    """
    if not is_hooked(config.server_cls):  # it was assigned later
        raise HookLoadError(
            f"model {config.model_id!r}: server_cls was set to {describe(config.server_cls)} after the config was "
            "made, so no hook would run. Give it when the config is made, or assign hooked_server(...) of it."
        )
    check_parameters_travel(config.hooks or ())
    if config.hooks is not None:
        travelling = tuple(hooks_of_entries(ref for ref in config.hooks if not isinstance(_target(ref), str)))
    elif config._script_hooks is not None:
        travelling = config._script_hooks
    else:
        travelling = tuple(hooks_of_script(config.model_id))
        _warn_of_others(config, travelling)
        state["__pydantic_private__"] = {**state["__pydantic_private__"], "_script_hooks": travelling}
    if config.hooks is None:
        check_together([*others, *travelling], config)  # only now has a script decorated everything
    pack_hooks([*travelling, *others])  # its error names the hook; that of the pickling around us would not
    check_sendable([*travelling, *others], config.model_id)
    return _with_hooks_by_value(state)


class _Pickled:
    """Pickles as what an object's own pickle makes: the pickler around it does not know what travels by value."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __reduce__(self) -> tuple[Any, ...]:
        return (pickle.loads, (dumps(self.held),))


class _Item:
    """Pickles as an item of a pickled dict, which is pickled once: what its values share, they share there too."""

    def __init__(self, pickled: _Pickled, key: str) -> None:
        self.pickled, self.key = pickled, key

    def __reduce__(self) -> tuple[Any, ...]:
        return (getitem, (self.pickled, self.key))


def _with_hooks_by_value(state: dict[Any, Any]) -> dict[Any, Any]:
    """Return the state with its hooks pickled as those for a node are.

    Serve pickles the config with Ray's own cloudpickle, which has not been told of hooks files, and sends a cached
    function by its name.
    """
    fields, private = state["__dict__"], state["__pydantic_private__"]
    given = {name: fields[name] for name in _NO_HOOKS} | {"_script_hooks": private["_script_hooks"]}
    pickled = _Pickled(given)
    items = {name: _Item(pickled, name) for name, value in given.items() if value}
    script = {name: items.pop(name) for name in ("_script_hooks",) if name in items}
    return {**state, "__dict__": {**fields, **items}, "__pydantic_private__": {**private, **script}}


def given_objects(config: Any) -> Iterator[Any]:
    """Yield the objects in a config's fields for hooks, which a copy of the config shares.

    They need not be fit for copying, and neither need the things that hooks store on them.
    """
    for name in _NO_HOOKS:
        held = getattr(config, name)
        yield from held.values() if isinstance(held, dict) else held if isinstance(held, list) else [held]
    yield from config._script_hooks or ()
    if getattr(config._callback_instance, "is_decided", False):  # else the copy makes one of its own
        yield config._callback_instance


def _warn_of_others(config: Any, taken: Sequence[Hook]) -> None:
    """Warn of hooks that are registered here and do not travel: the replica does not have them, so cannot warn."""
    known = set(taken)
    others = [hook for hook in registry.for_model(config.model_id) if hook not in known]
    if not others or config._warned_of_others:
        return
    config._warned_of_others = True
    logger.warning(
        "model %r: hooks=[...] is left out of its config, so only hooks of the running script (__main__) run, and "
        "not %s. To run them, add hooks=%r; hooks=[] runs none.",
        config.model_id,
        ", ".join(hook.ref for hook in others),
        sorted({hook.source for hook in others}),
    )


def _target(ref: Any) -> Any:
    return ref.get("hook") if isinstance(ref, dict) else ref
