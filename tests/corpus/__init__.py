"""Recorded runs of every kind, and what clients read of them: the wire, byte for byte."""
