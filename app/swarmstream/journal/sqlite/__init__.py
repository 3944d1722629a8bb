"""The journal in a data directory: one SQLite file, written by one thread."""
