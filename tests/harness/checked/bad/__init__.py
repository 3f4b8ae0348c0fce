"""Each has one fault: it counts on something that does not cross from one process to another."""
