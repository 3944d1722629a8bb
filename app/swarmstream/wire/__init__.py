"""Runs as clients see them: events as JSON, answers as JSON, frames (docs/wire.md)."""
