"""Do one node's work, with plain data in and plain data out."""
