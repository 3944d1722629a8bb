"""The built-in tools, which every server has."""
