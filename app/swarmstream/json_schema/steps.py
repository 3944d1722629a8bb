"""The bound on the subschemas that are visited."""

from typing import Final

from swarmstream.json_schema.errors import SchemaError

MAX_SUBSCHEMAS: Final = 50_000
"""Visited, references included: of one schema, or of all schemas of a request together."""


class SchemaSteps:
    """The subschemas and references that may still be visited. Schemas that share it share the bound."""

    def __init__(self) -> None:
        self._left = MAX_SUBSCHEMAS

    def take(self) -> None:
        """Count one more visit.

        Raises:
            SchemaError: the bound is reached.
        """
        self._left -= 1
        if self._left < 0:
            raise SchemaError(
                f"a request's schemas may have {MAX_SUBSCHEMAS} subschemas and references in all, and they have more"
            )
