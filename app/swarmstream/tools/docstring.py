"""A function's docstring, read for its description and those of its parameters."""

import inspect
import re

_GOOGLE_SECTION = re.compile(r"(?:args|arguments|parameters|params)\s*:", re.IGNORECASE)
_NUMPY_SECTION = re.compile(r"(?:other )?parameters", re.IGNORECASE)
_UNDERLINE = re.compile(r"-{3,}")
_GOOGLE_ITEM = re.compile(r"(?P<name>\w+)\s*(?:\(.*?\))?\s*:(?P<text>.*)")
_NUMPY_ITEM = re.compile(r"(?P<name>\w+)\s*(?::.*)?(?P<text>)")
_REST_ITEM = re.compile(r":param\s+(?:[^:]+\s)?(?P<name>\w+)\s*:(?P<text>.*)")
_FIELD = re.compile(r":\w[^:]*:")


def description_in(docstring: str | None) -> str:
    """Return the first paragraph on one line; empty without one."""
    lines: list[str] = []
    for line in map(str.strip, inspect.cleandoc(docstring or "").splitlines()):
        if not line or _GOOGLE_SECTION.fullmatch(line) or _FIELD.match(line):
            break
        lines.append(line)
    return " ".join(lines)


def parameters_in(docstring: str | None) -> dict[str, str]:
    """Return the descriptions of parameters, by name, in the plain forms of Google's, NumPy's and reST's styles."""
    reader = _ParametersReader()
    lines = inspect.cleandoc(docstring or "").splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=False):
        reader.read(line, below)
    return {name: " ".join(text) for name, text in reader.found.items() if text}


class _ParametersReader:
    """A reader of lines: an item begins where its style says so, deeper lines below belong to it."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}
        self._item: re.Pattern[str] | None = None
        """The pattern of items in the present section."""
        self._section_indent = 0
        self._item_indent: int | None = None
        self._lines: list[str] | None = None

    def read(self, line: str, below: str) -> None:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if not text or _UNDERLINE.fullmatch(text):
            return
        item = _section(text, below.strip())
        if item or _UNDERLINE.fullmatch(below.strip()):
            self._item, self._section_indent, self._item_indent, self._lines = item, indent, None, None
        elif match := _REST_ITEM.fullmatch(text):
            self._begin(match, indent)
        elif self._lines is not None and self._item_indent is not None and indent > self._item_indent:
            self._lines.append(text)
        elif self._item and self._may_begin(indent) and (match := self._item.fullmatch(text)):
            self._begin(match, indent)
        else:
            self._lines = None
            if indent <= self._section_indent:
                self._item = None

    def _may_begin(self, indent: int) -> bool:
        return indent == self._section_indent if self._item is _NUMPY_ITEM else indent > self._section_indent

    def _begin(self, match: re.Match[str], indent: int) -> None:
        self._item_indent = indent
        self._lines = [match["text"].strip()] if match["text"].strip() else []
        self.found[match["name"]] = self._lines


def _section(text: str, below: str) -> re.Pattern[str] | None:
    """Return the pattern of items below this line if it heads a section of parameters."""
    if _GOOGLE_SECTION.fullmatch(text):
        return _GOOGLE_ITEM
    if _NUMPY_SECTION.fullmatch(text) and _UNDERLINE.fullmatch(below):
        return _NUMPY_ITEM
    return None
