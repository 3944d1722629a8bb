"""Connections to addresses that clients choose: which are allowed, and how they are kept to."""
