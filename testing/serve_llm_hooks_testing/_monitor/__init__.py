"""Observe a run: hooks that block, threads left behind, calls of `ray.init`."""
