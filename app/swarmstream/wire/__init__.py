"""Runs as clients see them: events as JSON, answers as JSON, frames (WIRE.md)."""
