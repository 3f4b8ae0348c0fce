"""Modules of hooks, each with one fault that its author's tests do not show. ``explore_hooks`` finds each."""
