"""The failure of an MCP server."""

from swarmstream.errors import McpHostRefused


class McpUnavailable(Exception):
    """The server cannot be used, or has broken the protocol.

    The text is ours and holds nothing secret; a sentence that begins with the server's name ends with it.
    """

    def __init__(self, problem: str, refusal: McpHostRefused | None = None) -> None:
        super().__init__(problem)
        self.refusal = refusal
        """The error to refuse a run with, if the URL or a redirect led where connections are not allowed."""
