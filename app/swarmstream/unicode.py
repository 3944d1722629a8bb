"""Lone halves of surrogate pairs, which providers send and UTF-8 cannot encode."""


class SurrogateJoiner:
    """Joins the halves of a pair that two deltas split; a half that stays alone becomes U+FFFD."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = ""
        """The half that waits for the next delta. While it is empty, ASCII need not be fed."""

    def feed(self, text: str) -> str:
        """Return the text that can be passed on now; empty if the whole text has to wait."""
        text = self.held + text
        self.held = ""
        if "\ud800" <= text[-1] <= "\udbff":
            self.held = text[-1]
            text = text[:-1]
        return replace_lone_surrogates(text)

    def end(self) -> str:
        """Return the replacement for a half that still waits, else nothing."""
        held, self.held = self.held, ""
        return "\ufffd" if held else ""


def replace_lone_surrogates(text: str) -> str:
    """Return the text with U+FFFD for each lone half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
