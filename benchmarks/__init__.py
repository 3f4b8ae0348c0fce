"""Measurements of `make bench`, of which docs/performance.md is made."""
