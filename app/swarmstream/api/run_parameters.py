"""Parameters of the routes of runs, as the OpenAPI document describes them."""

from typing import Annotated

from fastapi import Header, Path, Query
from pydantic import WithJsonSchema

from swarmstream.swarm.payloads import MAX_COALESCE_MS

JobId = Annotated[
    str, Path(description="The run's id, which its `metadata` event, its answer and its `Location` tell.")
]
_EventId = Annotated[str, WithJsonSchema({"type": "integer", "minimum": 0})]
"""Read by ourselves, for a refusal that says what it is."""
Token = Annotated[
    str | None,
    Query(description="A stream token, in place of an API key: for EventSource, which sends no headers."),
]
LastEventId = Annotated[
    _EventId | None,
    Header(
        alias="Last-Event-ID",
        description="The id of the last event that the reader has; it wins over `starting_after`.",
    ),
]
StartingAfter = Annotated[
    _EventId | None, Query(description="The id of the last event that the reader has; without: from the first on.")
]
IncludeOutput = Annotated[
    bool | None,
    Query(description="Whether each `chunk` repeats what its turn has said so far; without: as it was posted."),
]
CoalesceMs = Annotated[
    int | None,
    Query(
        ge=0,
        le=MAX_COALESCE_MS,
        description="Joins neighbouring deltas of one turn over so many milliseconds; without: as it was posted.",
    ),
]
