"""A schema's references, patterns and bounds, each worked out once."""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias, cast
from urllib.parse import unquote

from swarmstream.llm.providers.demo.document.number import Bounds, Numbers, bounds
from swarmstream.llm.providers.demo.document.pattern import UnknownPattern, text_like
from swarmstream.llm.providers.demo.document.work import A_PART, AN_ENTRY, NoValueError, Work

Schema: TypeAlias = dict[str, Any]

_A_CHARACTER: Final = 40
"""Steps for a character of a pattern."""
_BOUNDS: Final = 1500


class Source:
    """The schema with what has been worked out about it, which is the same for every attempt."""

    def __init__(self, root: Schema, work: Work) -> None:
        self.work = work
        self._root = root
        self._anchors: Schema | None = None
        self._referred: Schema = {}
        self._texts: dict[tuple[str, int], str | None] = {}
        self._numbers: dict[Bounds, Numbers] = {}

    def resolve(self, reference: object) -> Any:
        """Return the part that a reference within the schema leads to: a JSON pointer (RFC 6901) or an anchor.

        Raises:
            NoValueError: there is no such part.
        """
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise NoValueError
        if reference not in self._referred:
            self.work.add(A_PART + AN_ENTRY * len(reference))
            self._referred[reference] = self._find(unquote(reference[1:]))
        return self._referred[reference]

    def text(self, pattern: str, more: int) -> str:
        """Return a text that is like the pattern.

        Raises:
            NoValueError: the pattern is not understood.
        """
        if (pattern, more) not in self._texts:
            self.work.add(_A_CHARACTER * len(pattern))
            try:
                self._texts[pattern, more] = text_like(pattern, more=more)
            except UnknownPattern:
                self._texts[pattern, more] = None
        text = self._texts[pattern, more]
        if text is None:
            raise NoValueError
        return text

    def numbers(self, schema: Schema) -> Numbers:
        """Return the numbers that the schema admits."""
        within = bounds(schema)
        if within not in self._numbers:
            self.work.add(_BOUNDS)
            self._numbers[within] = Numbers(within)
        return self._numbers[within]

    def _find(self, fragment: str) -> Any:
        if fragment and not fragment.startswith("/"):
            if self._anchors is None:
                self._anchors = dict(_anchors(self._root, self.work))
            if fragment not in self._anchors:
                raise NoValueError
            return self._anchors[fragment]
        found: Any = self._root
        for step in fragment.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and step.isdecimal() and int(step) < len(cast("list[Any]", found)):
                found = cast("list[Any]", found)[int(step)]
            elif isinstance(found, dict) and step in found:
                found = cast("Schema", found)[step]
            else:
                raise NoValueError
        return found


def _anchors(schema: Any, work: Work) -> Iterator[tuple[str, Any]]:
    """Yield the parts of the schema that have an anchor, by its name."""
    pending: list[Any] = [schema]
    for part in pending:
        work.add(AN_ENTRY)
        if isinstance(part, dict):
            part = cast("Schema", part)
            if isinstance(part.get("$anchor"), str):
                yield part["$anchor"], part
            pending += part.values()
        elif isinstance(part, list):
            pending += cast("list[Any]", part)
