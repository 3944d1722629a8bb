"""Fields of requests that models turn out to refuse, learnt from refusals.

A provider that answers 400 and names a field of ours is asked once more without it, as long as no token has come. What
then works is remembered for an hour, so that later calls leave the field out at once. What one client asks for must not
take from others what works for them: a refusal that is about one value (an effort that the model does not have, a
temperature out of range) is remembered for that value alone, and one that is about several fields together, or about a
field beside others, for no longer than the turn.
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
"""Longer ones hold a client's words, and are not kept."""

_Key = tuple[str, str, str | None]


class RefusedFields:
    """What models have refused lately: of the last `MAX_MODELS` that refused something."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._models: OrderedDict[_Key, dict[str, float]] = OrderedDict()
        """Marks and when each is forgotten; the model that refused something last is at the end."""

    def __len__(self) -> int:
        return len(self._models)

    def of(self, model: ModelRef) -> frozenset[str]:
        """The fields, or fields with a value, that this model refuses."""
        marks = self._models.get(_key(model))
        if marks is None:
            return frozenset()
        now = self._clock.now()
        return frozenset(name for name, ends in marks.items() if ends > now)

    def remember(self, model: ModelRef, marks: Iterable[str]) -> None:
        """The model has answered once these were left out."""
        key, now = _key(model), self._clock.now()
        known = {name: ends for name, ends in self._models.pop(key, {}).items() if ends > now}
        for name in marks:
            if len(name) <= _MAX_MARK_LENGTH and (name in known or len(known) < _MAX_MARKS):
                known[name] = now + REMEMBERED_SECONDS
        self._models[key] = known
        if len(self._models) > MAX_MODELS:
            self._models.popitem(last=False)


class Omissions:
    """What the calls of one turn leave out, and what its reader has to know of that."""

    def __init__(self, sampling: Sampling, memory: RefusedFields) -> None:
        self._sampling = sampling
        self._memory = memory
        self._left_out: dict[_Key, frozenset[str]] = {}
        """By model: what was known when it was asked first, and what was learnt since."""
        self._unproven: list[str] = []
        """What the present call has learnt."""
        self._warnings: dict[str, None] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences, each once, in their order."""
        return tuple(self._warnings)

    def of(self, model: ModelRef) -> frozenset[str]:
        """What the next call leaves out."""
        key = _key(model)
        if (known := self._left_out.get(key)) is None:
            known = self._left_out[key] = self._memory.of(model)
            if known:
                self._warn(model, self._sent(model, frozenset()), known, "has lately refused")
        return known

    def learn(self, model: ModelRef, refusal: ProviderRejected) -> bool:
        """Whether the call may be made again, without a field that the refusal names."""
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
        """The call has worked."""
        if self._unproven:
            self._memory.remember(model, self._unproven)
            self._unproven = []

    def begin(self) -> None:
        """Another call begins."""
        self._unproven = []

    def _sent(self, model: ModelRef, without: frozenset[str]) -> dict[str, Any]:
        return self._sampling.fields(model, without).fields

    def _warn(self, model: ModelRef, sent: dict[str, Any], marks: frozenset[str], verb: str) -> None:
        """Say what is left out of what would be sent, or was."""
        for name, value in sent.items():
            if name not in marks and field_with_value(name, value) not in marks:
                continue
            effort = self._sent(model, marks).get(EFFORT) if name == THINKING else None
            instead = f"{EFFORT} {effort} was sent instead" if effort else "it was not sent"
            self._warnings[f"{quote(model.name)} {verb} {payload_field(name)}: {instead}"] = None


def _key(model: ModelRef) -> _Key:
    return model.backend, model.target, model.api_base
