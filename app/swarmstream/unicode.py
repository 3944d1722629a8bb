"""Provider text made safe to pass on: halves of a surrogate pair are joined across deltas."""


class SurrogateJoiner:
    """Keeps back half a surrogate pair at the end of a delta for the next one; an orphan becomes U+FFFD."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = ""
        """What is kept back. While it is empty, ASCII need not be fed."""

    def feed(self, text: str) -> str:
        """The text that can be passed on now; empty when all of it is kept back."""
        text = self.held + text
        self.held = ""
        if "\ud800" <= text[-1] <= "\udbff":
            self.held = text[-1]
            text = text[:-1]
        return replace_lone_surrogates(text)

    def end(self) -> str:
        """What an orphan half that was still kept back becomes."""
        held, self.held = self.held, ""
        return "\ufffd" if held else ""


def replace_lone_surrogates(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
