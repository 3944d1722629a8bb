"""Tools: functions, the built-in ones, those of MCP servers."""
