"""What `make bench` measures; docs/performance.md is made from it."""
