"""None of them has a fault, though each does what looks like one."""
