"""Known habits of a model: which fields of a request it refuses, and how a request is fitted to that."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

THINKING = "thinking"
"""The field that holds a budget of thinking tokens."""
EFFORT = "reasoning_effort"
NO_EFFORT = "none"

_CLIENTS_NAMES = {THINKING: "thinking_tokens"}
_DEFAULTS: dict[str, object] = {
    "temperature": 1,
    "top_p": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logprobs": False,
}
"""Values that make no difference: providers have the same."""

_EFFORTS = ((2048, "low"), (4096, "medium"))
"""Efforts for budgets of fewer tokens than these, as litellm has them; larger ones are `high`, which all models know
that have efforts."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a model is known to refuse; nothing by default."""

    refuses: frozenset[str] = frozenset()
    """Fields that it always refuses."""
    refuses_thinking: frozenset[str] = frozenset()
    """Fields that it refuses while it reasons."""
    thinks_unasked: bool = True
    """Whether it reasons where no effort is asked for."""
    can_rest: bool = False
    """Whether it takes the effort `none`."""
    takes_budget: bool = True
    """Whether it takes a number of thinking tokens; others are told an effort."""
    tools_in_chat: Literal["always", "without_reasoning", "never"] = "always"
    """When it takes function tools on OpenAI's chat completions: `without_reasoning` is with the effort `none`."""

    def thinks(self, effort: str | None) -> bool:
        """Whether it reasons with this effort."""
        return self.thinks_unasked if effort is None else effort != NO_EFFORT or not self.can_rest

    def takes_tools(self, effort: str | None) -> bool:
        """Whether it takes function tools on chat completions with this effort."""
        return self.tools_in_chat == "always" or (self.tools_in_chat == "without_reasoning" and effort == NO_EFFORT)


PLAIN = Traits()


@dataclass(frozen=True, slots=True)
class Fitted:
    """The fields of a request as a model takes them, and what that changed."""

    fields: dict[str, Any]
    dropped: list[str] = field(default_factory=list[str])
    """Fields that are left out and would have had an effect, by the names that clients know."""
    effort: str | None = None
    """What a budget of thinking tokens became."""

    def warnings(self, model: str) -> list[str]:
        """What a client has to know, in sentences."""
        said = [f"{model} refuses {', '.join(self.dropped)}: not sent"] if self.dropped else []
        if self.effort is not None:
            said.append(f"{model} takes no thinking_tokens: {EFFORT} {self.effort} was sent instead")
        return said


def field_with_value(name: str, value: object) -> str:
    """A field with one of its values, where it is this value that is refused."""
    return f"{name}={value!r}"


def fitted(fields: dict[str, Any], traits: Traits, without: Collection[str] = ()) -> Fitted:
    """Leave out what the model refuses; `fields` itself is changed. `without` has more fields, or marks of them."""
    if traits is PLAIN and not without:
        return Fitted(fields)
    effort = _as_effort(fields) if not traits.takes_budget or _is_in(without, THINKING, fields) else None
    refused = traits.refuses | traits.refuses_thinking if traits.thinks(fields.get(EFFORT)) else traits.refuses
    if not traits.takes_budget:
        refused |= {THINKING}  # which is there still where an effort is given as well
    dropped = {name: fields.pop(name) for name in list(fields) if name in refused or _is_in(without, name, fields)}
    missed = [payload_field(name) for name, value in dropped.items() if not _is_idle(name, value)]
    return Fitted(fields, missed, effort if EFFORT in fields else None)


def payload_field(name: str) -> str:
    """What clients call a field of a request."""
    return _CLIENTS_NAMES.get(name, name)


def _as_effort(fields: dict[str, Any]) -> str | None:
    """Turn a budget of thinking tokens into the effort that comes nearest; None where there is nothing to turn."""
    if THINKING not in fields or EFFORT in fields:
        return None
    budget: int = fields.pop(THINKING)["budget_tokens"]
    fields[EFFORT] = next((effort for below, effort in _EFFORTS if budget < below), "high")
    return fields[EFFORT]


def _is_idle(name: str, value: object) -> bool:
    """Whether the field asks for what happens without it."""
    return name in _DEFAULTS and _DEFAULTS[name] == value


def _is_in(without: Collection[str], name: str, fields: dict[str, Any]) -> bool:
    return bool(without) and name in fields and (name in without or field_with_value(name, fields[name]) in without)
