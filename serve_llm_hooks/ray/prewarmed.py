"""Importing this in a replica makes its start quicker; ``Prewarmed`` makes it the first thing that is imported.

Serve sends a server class to its replicas. One that is sent by value names its bases, in order, and they are imported
in that order; Ray's takes seconds.
"""

from __future__ import annotations

from . import prewarm

prewarm.begin()
if prewarm.replica_name():  # the driver imports this too
    from . import ahead, early_core, quick_imports, replica_process, unused

    early_core.begin()
    replica_process.imports_begin()
    quick_imports.begin()
    unused.end_later()
    if prewarm.starts_engine():
        ahead.do_while_serve_waits()


class Prewarmed:
    """The first base of a hooked server whose engine's config Ray builds in a task."""

    __slots__ = ()
