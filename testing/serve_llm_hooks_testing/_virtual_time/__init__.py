"""Virtual time: the event loop, the real work it waits for, and where hooks are at work."""
