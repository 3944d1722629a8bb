"""Tools of MCP servers: sessions with them, what they list, and the bounded way to them."""
