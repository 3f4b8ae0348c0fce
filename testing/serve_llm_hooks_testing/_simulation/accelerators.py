"""``accelerator_config`` and ``placement_group_config`` without Ray: what an engine runs on, and how it is placed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_llm_hooks._core.messages import describe, did_you_mean, without_value

from .placement import STRATEGIES

_KINDS = ("cpu", "gpu", "tpu")


@dataclass(frozen=True)
class FakeAccelerator:
    """The engine's accelerator, as Ray's ``accelerator_config``."""

    kind: str
    topology: str | None = None


def accelerator_of(config: object, accelerator_type: object, group: Mapping[str, Any] | None) -> FakeAccelerator:
    """Return what the engine runs on, as Ray finds it out: what is said, what the bundles ask for, or a GPU.

    Raises:
        ValueError: what Ray would refuse.
    """
    if accelerator_type is not None and (not isinstance(accelerator_type, str) or not accelerator_type):
        raise ValueError(f"accelerator_type= is a name as 'L4', not {describe(accelerator_type)}")
    if isinstance(config, FakeAccelerator):
        found = config
    elif config is not None:
        kind = config.get("kind") if isinstance(config, Mapping) else getattr(config, "kind", None)
        if kind not in _KINDS:
            raise ValueError(f"accelerator_config= is {{'kind': 'cpu'}}, 'gpu' or 'tpu', not {without_value(config)}")
        found = FakeAccelerator(kind)
    else:
        found = FakeAccelerator(_kind_of_bundles(group))
    if accelerator_type is not None and found.kind == "cpu":
        raise ValueError(
            f"accelerator_type='{accelerator_type}' cannot be used with CPU-only configurations. Either remove "
            "accelerator_type, or provide an accelerator_config."
        )
    return found


def runs_on_cpu(config: Any) -> bool:
    """Return True if a config's engine is one for CPUs."""
    return getattr(getattr(config, "accelerator_config", None), "kind", "gpu") == "cpu"


def _kind_of_bundles(group: Mapping[str, Any] | None) -> str:
    if not group:
        return "gpu"
    bundles = [group.get("bundle_per_worker") or {}, *(group.get("bundles") or ())]
    for name in ("TPU", "GPU"):
        if any(bundle.get(name, 0) > 0 for bundle in bundles):
            return name.lower()
    return "cpu"


def checked_group(value: object) -> dict[str, Any] | None:
    """Return a ``placement_group_config``, checked as Ray checks it when it makes its engine's config.

    Raises:
        ValueError: what Ray would refuse.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError(f"placement_group_config= is a mapping with bundles, not {without_value(value)}")
    names = ("bundle_per_worker", "bundles", "strategy")
    for name in value:
        if name not in names:
            raise ValueError(f"placement_group_config takes no {describe(name)}{did_you_mean(name, names)}")
    each, bundles = value.get("bundle_per_worker"), value.get("bundles")
    if (each is None) == (bundles is None):
        raise ValueError("placement_group_config must specify either 'bundle_per_worker' or 'bundles'.")
    if bundles is not None and not isinstance(bundles, list | tuple):
        raise ValueError(f"placement_group_config['bundles'] is a list of bundles, not {without_value(bundles)}")
    for bundle in bundles if bundles is not None else (each,):
        check_resources("a bundle", bundle)
    if value.get("strategy", "PACK") not in STRATEGIES:
        raise ValueError(
            f"placement_group_config['strategy'] is one of {', '.join(STRATEGIES)}, not {describe(value['strategy'])}"
        )
    return dict(value)


def check_resources(what: str, value: object) -> dict[str, float]:
    """Return the resources of a node or a bundle.

    Raises:
        ValueError: they are no mapping from names to numbers, 0 or more.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is a mapping of resources, as in {{'CPU': 1, 'GPU': 1}}, not {without_value(value)}")
    for name, amount in value.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"{what} names its resources, as in {{'CPU': 1}}, not {describe(name)}")
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < float("inf"):
            raise ValueError(f"{what}: {name!r} must be a number, 0 or more, not {describe(amount)}")
    return dict(value)


def bundles_of(config: Any, workers: int, *, with_replica: bool) -> list[dict[str, float]]:
    """Return the bundles of a config's placement group, as Ray makes them.

    Args:
        config: the config.
        workers: how many workers the engine has.
        with_replica: whether the replica itself is in the first one, as under Serve.
    """
    group = getattr(config, "placement_group_config", None) or {}
    kind = getattr(getattr(config, "accelerator_config", None), "kind", "gpu")
    each = group.get("bundle_per_worker")
    bundles = group.get("bundles")
    if bundles is None:
        bundles = [each or {kind.upper(): 1}] * workers
    made = [{name: float(amount) for name, amount in bundle.items()} for bundle in bundles]
    accelerator = getattr(config, "accelerator_type", None)
    if accelerator:
        for bundle in made:
            bundle.setdefault(f"accelerator_type:{accelerator}", 0.001)
    if with_replica and made:
        made[0]["CPU"] = made[0].get("CPU", 0) + 1
    return made
