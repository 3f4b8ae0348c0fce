from typing import Any

from . import scheduling_strategies as scheduling_strategies
from .placement_group import (
    placement_group as placement_group,
    placement_group_table as placement_group_table,
    remove_placement_group as remove_placement_group,
)

def get_node_ip_address() -> str: ...
def list_named_actors(all_namespaces: bool = ...) -> list[Any]: ...
