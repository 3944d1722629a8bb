"""Where runs are written down and read again: the port, what all storages share, and the storages."""
