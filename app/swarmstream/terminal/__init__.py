"""Runs as people watch them on a terminal: a reading of the wire's frames."""
