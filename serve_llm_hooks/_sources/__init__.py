"""Turn a config into hooks: import by path, the styles of writing, allow and disable, selection."""
