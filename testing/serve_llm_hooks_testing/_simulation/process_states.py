"""Keep the states of the processes of one run: the replica's, each start of it, and the nodes'."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._observe.ending import TRACE_DIR

from .._apart.environ import copy_of_environment, own_environment, shared_environment
from .._apart.state import ProcessState

if TYPE_CHECKING:
    from collections.abc import Mapping


class ProcessStates:
    """Makes them.

    Args:
        under_serve: whether Serve starts the replica, with the variables of its config's ``runtime_env``. Nodes inherit
            them.
        shares_environment: whether all have the environment of the test's process, and only the variables of their
            ``runtime_env`` besides.

    Attributes:
        variables: those that the replica has from its config, and that nodes inherit.
        replica: those of the replica's last start; ``None`` before there is one.
    """

    def __init__(self, *, under_serve: bool, shares_environment: bool = False) -> None:
        self._under_serve = under_serve
        self._begun_with = None if shares_environment else copy_of_environment()
        self.variables: Mapping[str, object] = {}
        self.replica: ProcessState | None = None

    def for_replica(self, config: Any) -> ProcessState:
        """Return what a start of the replica has. What it writes into its environment, the test's process has too."""
        has_variables = self._under_serve and self._begun_with is not None
        self.variables = variables_of(config) if has_variables else {}
        self.replica = ProcessState(loop_in_main_thread=False, environ=shared_environment(self.variables))
        return self.replica

    def for_node(self, runtime_env: Mapping[str, Any] | None) -> ProcessState:
        """Return what the process of a node's task has."""
        variables = {**self.variables, **_env_vars(runtime_env)}
        if self._begun_with is None:
            environ = shared_environment(variables)
        else:
            environ = own_environment(self._begun_with, variables)
        return ProcessState(loop_in_main_thread=True, environ=environ)

    def for_engine(self, variables: Mapping[str, object], *, is_child: bool) -> ProcessState:
        """Return what a process of the engine has.

        Args:
            variables: its own.
            is_child: whether the replica starts it, which then gives it its variables as they are by now. Ray starts
                the task that builds the engine's config.
        """
        if self._begun_with is None:
            environ = shared_environment({**self.variables, **variables})
        elif is_child:
            environ = own_environment({}, {**os.environ, **variables})
        else:
            environ = own_environment(self._begun_with, {**self.variables, **variables})
        return ProcessState(loop_in_main_thread=True, environ=environ)

    def release(self) -> None:
        """Let what outlives the run be used in others."""
        if self.replica is not None:
            for each in self.replica.with_children():
                each.release()


def variables_of(config: Any) -> Mapping[str, object]:
    """Return the variables that a config gives its replica: not the folder of traces, which is for real starts."""
    variables = _env_vars(getattr(config, "runtime_env", None))
    return {name: value for name, value in variables.items() if name != TRACE_DIR}


def _env_vars(runtime_env: Mapping[str, Any] | None) -> Mapping[str, object]:
    return (runtime_env or {}).get("env_vars") or {}


def node_process_id(node_index: int, *, second: bool = False) -> int:
    """Return a process id for a node's task, other than the replica's, which is this process's."""
    return os.getpid() + 1 + 2 * node_index + second
