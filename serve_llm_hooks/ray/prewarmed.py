"""Importing this begins the prewarm; ``Prewarmed`` makes that happen before Ray Serve LLM is imported.

Serve sends a server class to its replicas. One that is sent by value names its bases, in order, and they are imported
in that order; Ray's takes seconds.
"""

from __future__ import annotations

from . import prewarm

prewarm.begin()


class Prewarmed:
    """The first base of a hooked server whose engine's config Ray builds in a task."""

    __slots__ = ()
