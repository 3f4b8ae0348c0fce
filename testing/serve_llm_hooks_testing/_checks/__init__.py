"""The scenarios of `check_hooks`, and the module globals that hooks share."""
