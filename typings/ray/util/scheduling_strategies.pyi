from typing import Any

class NodeAffinitySchedulingStrategy:
    def __init__(self, node_id: str, soft: bool) -> None: ...

class PlacementGroupSchedulingStrategy:
    def __init__(self, placement_group: Any, placement_group_bundle_index: int = ...) -> None: ...
