"""Fields of a request that a model is known to refuse, and requests fitted to that."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

THINKING = "thinking"
"""The field that holds a budget of thinking tokens."""
EFFORT = "reasoning_effort"
NO_EFFORT = "none"

_PAYLOAD_NAMES = {THINKING: "thinking_tokens"}
_DEFAULTS: dict[str, object] = {
    "temperature": 1,
    "top_p": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logprobs": False,
}
"""Values that are the providers' own defaults."""

_EFFORTS = ((2048, "low"), (4096, "medium"))
"""Efforts for fewer thinking tokens than these, as litellm has them; for more it is `high`, which every model with
efforts has."""


@dataclass(frozen=True, slots=True)
class Traits:
    """The refusals that are known of a model; none by default."""

    refuses: frozenset[str] = frozenset()
    """Fields that are always refused."""
    refuses_thinking: frozenset[str] = frozenset()
    """Fields that are refused while the model reasons."""
    reasons_by_default: bool = True
    """True if it reasons when no effort is given."""
    takes_effort_none: bool = False
    """True if it takes the effort `none`."""
    takes_thinking_tokens: bool = True
    """True if it takes a number of thinking tokens; others get an effort."""
    tools_in_chat: Literal["always", "without_reasoning", "never"] = "always"
    """The condition for function tools on OpenAI's chat completions: `without_reasoning` is the effort `none`."""

    def reasons(self, effort: str | None) -> bool:
        """Return True if it reasons with this effort."""
        return self.reasons_by_default if effort is None else effort != NO_EFFORT or not self.takes_effort_none

    def takes_tools(self, effort: str | None) -> bool:
        """Return True if it takes function tools on chat completions with this effort."""
        return self.tools_in_chat == "always" or (self.tools_in_chat == "without_reasoning" and effort == NO_EFFORT)


PLAIN = Traits()


@dataclass(frozen=True, slots=True)
class Fitted:
    """The fields of a request as a model takes them, and what that changed."""

    fields: dict[str, Any]
    dropped: list[str] = field(default_factory=list[str])
    """Fields that are left out and would have had an effect, by the payload's names."""
    effort: str | None = None
    """The effort that replaced a number of thinking tokens."""

    def warnings(self, model: str) -> list[str]:
        """Describe for clients what was left out or replaced, in sentences."""
        sentences = [f"{model} refuses {', '.join(self.dropped)}: not sent"] if self.dropped else []
        if self.effort is not None:
            sentences.append(f"{model} takes no thinking_tokens: {EFFORT} {self.effort} was sent instead")
        return sentences


def field_with_value(name: str, value: object) -> str:
    """Name a field with one of its values, where the refusal is about the value."""
    return f"{name}={value!r}"


def fit(fields: dict[str, Any], traits: Traits, without: Collection[str] = ()) -> Fitted:
    """Leave out what the model refuses, in `fields` itself.

    `without` has more names to leave out, or names with a value (`field_with_value`).
    """
    if traits is PLAIN and not without:
        return Fitted(fields)
    effort = _as_effort(fields) if not traits.takes_thinking_tokens or _is_in(without, THINKING, fields) else None
    refused = traits.refuses | traits.refuses_thinking if traits.reasons(fields.get(EFFORT)) else traits.refuses
    if not traits.takes_thinking_tokens:
        refused |= {THINKING}  # which is there still where an effort is given as well
    dropped = {name: fields.pop(name) for name in list(fields) if name in refused or _is_in(without, name, fields)}
    dropped_names = [payload_field(name) for name, value in dropped.items() if not _is_default(name, value)]
    return Fitted(fields, dropped_names, effort if EFFORT in fields else None)


def payload_field(name: str) -> str:
    """Return the payload's name for a field of a request."""
    return _PAYLOAD_NAMES.get(name, name)


def _as_effort(fields: dict[str, Any]) -> str | None:
    """Replace a number of thinking tokens by the nearest effort; return None if there is nothing to replace."""
    if THINKING not in fields or EFFORT in fields:
        return None
    budget: int = fields.pop(THINKING)["budget_tokens"]
    fields[EFFORT] = next((effort for below, effort in _EFFORTS if budget < below), "high")
    return fields[EFFORT]


def _is_default(name: str, value: object) -> bool:
    """Return True if the field has the value that providers take without it."""
    return name in _DEFAULTS and _DEFAULTS[name] == value


def _is_in(without: Collection[str], name: str, fields: dict[str, Any]) -> bool:
    return bool(without) and name in fields and (name in without or field_with_value(name, fields[name]) in without)
