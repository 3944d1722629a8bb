"""The bound on the subschemas that are visited."""

from typing import Final

MAX_SUBSCHEMAS: Final = 50_000
"""Visited, references included: of one schema, or of all schemas of a request together."""


class SchemaSteps:
    """The subschemas and references that may still be visited. Schemas that share it share the bound."""

    def __init__(self) -> None:
        self._left = MAX_SUBSCHEMAS

    def take(self) -> bool:
        """Count one more visit, and return False if it is beyond the bound."""
        self._left -= 1
        return self._left >= 0
