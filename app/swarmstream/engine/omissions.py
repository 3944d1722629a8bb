"""Fields of requests that models refuse, learnt from their refusals.

A provider that answers 400 or 422 and names a sampling field gets the request again without it, as long as no delta has
come. A field whose omission has worked is remembered for an hour, so that later calls leave it out at once. One
client's request must not take from others what works for them:

| the refusal is about | left out | remembered |
|---|---|---|
| a field | the field | for an hour |
| a value: an effort that the model lacks, a temperature out of range | the field with this value | for an hour |
| several fields together, or one beside others | the field that it names | until the turn ends |

A *mark* is a field's name, or its name with one value (`llm.traits.mark`).
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.errors import ProviderRejected, quote
from swarmstream.llm.base import Sampling
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.traits import EFFORT, THINKING, field_with_value, payload_field

REMEMBERED_SECONDS: Final = 3600.0
MAX_MODELS: Final = 1000
_MAX_MARKS = 32
"""Of one model."""
_MAX_MARK_LENGTH = 64
"""Longer ones hold text of a client's, and are not kept."""

_Key = tuple[str, str, str | None]


class RefusedFields:
    """The marks that models have refused within the hour; kept for the `MAX_MODELS` that refused something last."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._models: OrderedDict[_Key, dict[str, float]] = OrderedDict()
        """The marks, each with the time until which it counts; the model that refused something last is at the end."""

    def __len__(self) -> int:
        return len(self._models)

    def of(self, model: ModelRef) -> frozenset[str]:
        """Return the marks that this model refuses."""
        marks = self._models.get(_key(model))
        if marks is None:
            return frozenset()
        now = self._clock.now()
        return frozenset(name for name, until in marks.items() if until > now)

    def remember(self, model: ModelRef, marks: Iterable[str]) -> None:
        """Remember these marks: the model has answered once they were left out."""
        key, now = _key(model), self._clock.now()
        known = {name: until for name, until in self._models.pop(key, {}).items() if until > now}
        for name in marks:
            if len(name) <= _MAX_MARK_LENGTH and (name in known or len(known) < _MAX_MARKS):
                known[name] = now + REMEMBERED_SECONDS
        self._models[key] = known
        if len(self._models) > MAX_MODELS:
            self._models.popitem(last=False)


class Omissions:
    """The fields that the calls of one turn leave out, and the warnings about them."""

    def __init__(self, sampling: Sampling, memory: RefusedFields) -> None:
        self._sampling = sampling
        self._memory = memory
        self._left_out: dict[_Key, frozenset[str]] = {}
        """By model: the marks that were remembered at its first call in this turn, and those learnt since."""
        self._unproven: list[str] = []
        """The marks that the present call has learnt; remembered once it works."""
        self._warnings: dict[str, None] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the client, each once, in the order in which fields were left out."""
        return tuple(self._warnings)

    def of(self, model: ModelRef) -> frozenset[str]:
        """Return the marks that the next request leaves out."""
        key = _key(model)
        if (known := self._left_out.get(key)) is None:
            known = self._left_out[key] = self._memory.of(model)
            if known:
                self._warn(model, self._sent(model, frozenset()), known, "has lately refused")
        return known

    def learn(self, model: ModelRef, refusal: ProviderRejected) -> bool:
        """Leave out a field that the refusal names; return False if it names none that was sent."""
        sent = self._sent(model, self.of(model))
        named = next((name for name in refusal.named if name in sent), None)
        if named is None:
            return False
        found = named if refusal.is_about_field and named != EFFORT else field_with_value(named, sent[named])
        self._left_out[_key(model)] |= {found}
        if not refusal.is_about_several:
            self._unproven.append(found)
        self._warn(model, sent, frozenset([found]), "refused")
        return True

    def confirm(self, model: ModelRef) -> None:
        """Remember what the call has learnt: it has worked."""
        if self._unproven:
            self._memory.remember(model, self._unproven)
            self._unproven = []

    def begin(self) -> None:
        """Begin another call, which has learnt nothing yet."""
        self._unproven = []

    def _sent(self, model: ModelRef, without: frozenset[str]) -> dict[str, Any]:
        return self._sampling.fields(model, without).fields

    def _warn(self, model: ModelRef, sent: dict[str, Any], marks: frozenset[str], verb: str) -> None:
        """Add a warning for each field of a request that these marks leave out."""
        for name, value in sent.items():
            if name not in marks and field_with_value(name, value) not in marks:
                continue
            effort = self._sent(model, marks).get(EFFORT) if name == THINKING else None
            instead = f"{EFFORT} {effort} was sent instead" if effort else "it was not sent"
            self._warnings[f"{quote(model.name)} {verb} {payload_field(name)}: {instead}"] = None


def _key(model: ModelRef) -> _Key:
    return model.backend, model.target, model.api_base
