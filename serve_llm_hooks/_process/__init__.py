"""Run hooks in one process of the engine, with plain data in and plain data out."""
