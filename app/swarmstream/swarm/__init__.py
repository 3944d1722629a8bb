"""What a client asks for, and the plan it becomes: pure, no I/O, no async."""
