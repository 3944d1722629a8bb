"""What can be wrong with an MCP server."""

from swarmstream.errors import McpHostRefused


class McpUnavailable(Exception):
    """The server cannot be used, or has not done its part. The text is ours, follows the server's name, and holds
    nothing secret."""

    def __init__(self, problem: str, refusal: McpHostRefused | None = None) -> None:
        super().__init__(problem)
        self.refusal = refusal
        """If we were not allowed to go where the URL, or the server, wanted us to."""
