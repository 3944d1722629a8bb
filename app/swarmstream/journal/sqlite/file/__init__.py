"""The tables of a data directory's file, read and written synchronously by one thread at a time."""
