"""Payloads and the plans that they become: pure, no I/O, no async."""
