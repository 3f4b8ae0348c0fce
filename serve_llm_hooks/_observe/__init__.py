"""Show people what a start does: progress while it waits, and the lines of the log."""
