"""The life of a run: its supervisor, its journal, its bill."""
