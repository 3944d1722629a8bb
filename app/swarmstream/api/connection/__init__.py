"""A client connection, with bounds on what it may send and on how long it may take."""
