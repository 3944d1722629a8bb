"""Findings about a payload that does run, as the `warnings` that its client gets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from swarmstream.errors import InvalidRequest, Location
from swarmstream.swarm.ignored_fields import IgnoredField, unknown_fields
from swarmstream.swarm.payloads import RunSpec

_MAX_WARNINGS = 20
_MAX_WARNING_LENGTH = 200
_MAX_STRICT_BYTES = 500
"""Of a refusal of fields: their names and our words about them."""


@dataclass(slots=True)
class Findings:
    """The findings of one compilation, in the order in which they were made."""

    ignored: list[IgnoredField] = field(default_factory=list[IgnoredField])
    """Known fields that have no effect in this payload."""
    sentences: list[str] = field(default_factory=list[str])

    def ignore(self, at: Location, reason: str) -> None:
        """Add a known field that has no effect."""
        self.ignored.append(IgnoredField(at, reason, is_known=True))

    def warnings(self, request: RunSpec, names: Iterable[str]) -> tuple[str, ...]:
        """Return all findings as sentences, bounded in number and length. `names` are sentences that come first.

        Raises:
            InvalidRequest: a field has no effect, and the client set `strict`.
        """
        ignored = list(islice(chain(unknown_fields(request), self.ignored), _MAX_WARNINGS))
        if request.strict and ignored:
            raise _strict_refusal(ignored)
        sentences = [*names, *(each.warning for each in ignored), *self.sentences]
        return tuple(_cut(sentence, _MAX_WARNING_LENGTH) for sentence in sentences[:_MAX_WARNINGS])


def _strict_refusal(ignored: Sequence[IgnoredField]) -> InvalidRequest:
    """Return the refusal, which names as many of the fields as fit."""
    detail = "nothing would act on these fields (strict is set):"
    for index, each in enumerate(ignored):
        hint = f" ({each.hint})" if each.hint and not each.is_known else ""
        named = f"{',' if index else ''} {each.path}{hint}"
        if len((detail + named).encode()) > _MAX_STRICT_BYTES:
            detail += ", …"
            break
        detail += named
    return InvalidRequest(detail, location=ignored[0].at)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
