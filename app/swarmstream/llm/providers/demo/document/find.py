"""The search for a document: attempts with other choices, each smaller than those before."""

import json
from typing import Any, Final

from swarmstream.json_schema.validator import SchemaError, compile_schema
from swarmstream.llm.providers.demo.document.build import Builder
from swarmstream.llm.providers.demo.document.choices import Choices
from swarmstream.llm.providers.demo.document.source import Source
from swarmstream.llm.providers.demo.document.work import MAX_WORK, NoValueError, Work

_TRIES: Final = 32
"""Documents of each size."""
_SIZES: Final = (3, 1, 0)
"""Levels that have their optional properties and an item in each list, in the order that is tried."""
_MAX_WORK_OF_A_TRY: Final = MAX_WORK // 4


def find_document(schema: dict[str, Any], work: Work | None = None) -> str | None:
    """Return the JSON text of a document that fits; None if none was found. `work` counts the steps of the search."""
    try:
        check = compile_schema(schema)
    except SchemaError:
        return None
    work = work or Work()
    source = Source(schema, work)
    for place, size in enumerate(_SIZES, 1):
        share = MAX_WORK * place // len(_SIZES)  # what larger documents leave is for the smaller ones
        choices = Choices()
        for _ in range(_TRIES):
            choices.restart()
            work.allow(min(share, work.steps + _MAX_WORK_OF_A_TRY))
            try:
                value = Builder(source, choices, size).value(schema, 0, 0)
                work.allow(share)
                does_fit, taken = check.fits(value, work.left)
                work.add(taken)  # which is too many only where nothing was checked
                if does_fit:
                    return json.dumps(value)
            except (NoValueError, ValueError, OverflowError):
                pass
            if not choices.advance():
                break
    return None
