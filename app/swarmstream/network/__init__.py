"""Outgoing connections to addresses that clients choose."""
