"""Refusals that are about a field of the request, read from the provider's text."""

import re
from typing import NamedTuple

_FIELDS = {
    "temperature": re.compile(r"(?<![a-z])temperature(?![a-z])", re.IGNORECASE),
    "top_p": re.compile(r"(?<![a-z])top_?p(?![a-z])", re.IGNORECASE),
    "top_k": re.compile(r"(?<![a-z])top_?k(?![a-z])", re.IGNORECASE),
    "frequency_penalty": re.compile(r"frequency_?penalty", re.IGNORECASE),
    "presence_penalty": re.compile(r"presence_?penalty", re.IGNORECASE),
    "seed": re.compile(r"(?<![a-z])(random_)?seed(?![a-z])", re.IGNORECASE),
    "reasoning_effort": re.compile(r"(?<![a-z])(reasoning)?[_.]?effort(?![a-z])|thinking_?level", re.IGNORECASE),
    "thinking": re.compile(r"(?<![a-z])thinking(?!_?level|[a-z])|budget_?tokens|thinking_?budget", re.IGNORECASE),
}
"""Fields that a call can do without: never tools, `response_format`, `max_tokens`, `stop`, on which the answer's use
depends."""

_PARAM = re.compile(r'"param"\s*:\s*"([^"]{1,100})"')
"""OpenAI's error objects name the field that they are about."""

_REFUSES_FIELD = re.compile(
    r"unsupported|not (?:be )?(?:supported|permitted|allowed)|n[o']t support|deprecated|removed|unrecogni[sz]ed"
    r"|unknown|unexpected|extra[ _](?:inputs|forbidden|field)|only the default"
    r"|cannot (?:both )?be (?:used|specified|set)",
    re.IGNORECASE,
)


_REFUSES_SEVERAL = re.compile(
    r"\bboth\b|together|at the same time|simultaneous|combin|mutually|exclusive|in conjunction|\bonly one\b"
    r"|\bwhen\b|\bwhile\b|\bunless\b|\b(?:greater|less|larger|smaller) than\b",
    re.IGNORECASE,
)
"""Words of a refusal that is about a field beside others."""


_MAX_LENGTH = 8_000


class FieldRefusal(NamedTuple):
    """The fields that a refusal names."""

    named: tuple[str, ...]
    """Those that a call can do without, the one that is meant first."""
    is_about_field: bool
    """True if the field is refused whatever its value."""
    is_about_several: bool
    """True if the refusal is about several fields together."""


def field_refusal(text: str) -> FieldRefusal:
    """Read the text of a refusal; without a field in it, `named` is empty."""
    text = text[:_MAX_LENGTH]
    places = {name: place for name, pattern in _FIELDS.items() if (place := pattern.search(text))}
    named = sorted(places, key=lambda name: places[name].start())
    if (param := _PARAM.search(text)) is not None:
        named.sort(key=lambda name: _FIELDS[name].search(param[1]) is None)
    return FieldRefusal(
        tuple(named), _REFUSES_FIELD.search(text) is not None, _REFUSES_SEVERAL.search(text) is not None
    )
