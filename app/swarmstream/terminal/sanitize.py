"""Text of models made safe for a terminal: no control character of theirs reaches it, every other one does."""

import re

from swarmstream.unicode import replace_lone_surrogates

_LONGEST_SEQUENCE = 256
"""Characters; what claims to be longer is no escape sequence."""

_SUSPECT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 without tab and line feed; what turns the reading direction of all that follows; half surrogate pairs."""

_SEQUENCE = re.compile(
    rf"(?:\x1b\[|\x9b)[0-?]{{0,{_LONGEST_SEQUENCE}}}[ -/]{{0,{_LONGEST_SEQUENCE}}}[@-~]"
    rf"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{{0,{_LONGEST_SEQUENCE}}}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]{1,8}[0-~]"
    r"|\x1b[0-OQ-WYZ\\`-~]"
)
"""A whole escape sequence (ECMA-48): control sequence, control string, or a short one."""

_BEGUN = re.compile(
    rf"(?:(?:\x1b\[|\x9b)[0-?]{{0,{_LONGEST_SEQUENCE}}}[ -/]{{0,{_LONGEST_SEQUENCE}}}"
    rf"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{{0,{_LONGEST_SEQUENCE}}}\x1b?"
    r"|\x1b[ -/]{0,8})\Z"
)
"""An escape sequence whose end may come with the next delta."""


class Cleaner:
    """Takes control characters and escape sequences out of a text that comes in deltas, also where a sequence is cut
    in two."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What of the text can be shown now."""
        if not self._held and not _SUSPECT.search(text):
            return text
        text = self._held + text
        begun = _BEGUN.search(text)
        self._held = begun[0] if begun else ""
        return _clean(text[: begun.start()] if begun else text)

    def end(self) -> str:
        """What was kept back and turned out to be no sequence."""
        held, self._held = self._held, ""
        return _clean(held)


def clean(text: str) -> str:
    """A whole text, as `Cleaner` would let it pass."""
    return _clean(text) if _SUSPECT.search(text) else text


def one_line(value: object, limit: int) -> str:
    """Somebody else's word as part of a line of ours, cut to so many characters."""
    text = " ".join(clean(str(value)[: limit * 4]).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _clean(text: str) -> str:
    text = replace_lone_surrogates(_SEQUENCE.sub("", text))
    return _SUSPECT.sub("", text)
