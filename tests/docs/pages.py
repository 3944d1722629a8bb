"""README and the pages of docs/, as tests read them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    name: file.read_text(encoding="utf-8")
    for name, file in {
        "README": ROOT / "README.md",
        **{f.stem: f for f in sorted((ROOT / "docs").glob("*.md"))},
    }.items()
}
"""The text of each page by its name: `README`, and those of docs/ without `.md`."""
EVERYTHING = "\n".join(PAGES.values())


def section(page: str, title: str) -> str:
    """Return the text under a heading of a page, with its subsections."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", PAGES[page], re.DOTALL | re.MULTILINE)
    assert found, (page, title)
    return found[2]


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced code of a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)


def table(page: str, first_heading: str) -> list[list[str]]:
    """Return the rows of the page's table whose first column has this heading."""
    found = re.search(rf"^\| {re.escape(first_heading)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGES[page], re.MULTILINE)
    assert found, (page, first_heading)
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in found[1].splitlines()]


def quoted(text: str) -> list[str]:
    """Return the texts between backticks."""
    return re.findall(r"`([^`\n]+)`", text)
