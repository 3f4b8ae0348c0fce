"""Modules of hooks as teams write them: what ``check_hooks`` must find in ``bad``, and must not accuse in ``good``.

They were written before the comparison of processes that finds it, and are not changed to suit it.
"""
