"""Every link of README and docs/, and every citation of them in the code, leads somewhere."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import EVERYTHING, PAGES, ROOT, quoted, table

PACKAGE = ROOT / "app" / "swarmstream"
LINKED = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
CITING = [
    file
    for folder in ("app", "tests", "scripts")
    for file in sorted((ROOT / folder).rglob("*"))
    if file.suffix in (".py", ".mjs", ".ts") and file != Path(__file__) and "node_modules" not in file.parts
]
PLACES = r"(?<![\w/.-])(?:\./)?((?:scripts|app|openapi|tests|docs)/[\w./-]*\w)"
FOLDERS = "|".join(sorted(folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()))
MODULES = rf"`((?:{FOLDERS})/[\w/]+\.py)`"
CITATION = r"docs/(\w+)\.md(?:, (?:section (\d)|\"([^\"]+)\"))?"
RETIRED = r"\b(?:WIRE|ENGINE|FACTS|ARCHITECTURE|STYLE)\.md"


def headings(text: str) -> list[str]:
    """The headings of a page, without what stands in its code."""
    bare = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#+ (.+)$", bare, re.MULTILINE)


def anchor(heading: str) -> str:
    """Return a heading's name in links."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken_links(file: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8")):
        path, _, fragment = target.partition("#")
        if path.startswith(("http:", "https:")):
            continue
        found = (file.parent / path).resolve() if path else file
        if not found.is_relative_to(ROOT) or not found.exists():
            yield target
            continue
        if fragment and fragment not in map(anchor, headings(found.read_text(encoding="utf-8"))):
            yield target


@pytest.mark.parametrize("file", LINKED, ids=lambda file: file.name)
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(file: Path) -> None:
    assert list(broken_links(file)) == []


@pytest.mark.parametrize("file", LINKED, ids=lambda file: file.name)
def test_every_path_that_is_named_exists(file: Path) -> None:
    text = re.sub(r"\]\([^)]*\)", "]", file.read_text(encoding="utf-8"))
    named = re.findall(PLACES, text)
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert [name for name in re.findall(MODULES, text) if not (PACKAGE / name).exists()] == []
    tests = "".join(test.read_text(encoding="utf-8") for test in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in re.findall(r"`(test_\w{20,})`", text) if f"def {name}(" not in tests] == []
    scripts = [name for name in named if name.startswith("scripts/") and not (ROOT / name).is_dir()]
    programs = [name for name in scripts if not name.endswith((".html", ".json"))]
    assert [name for name in programs if not os.access(ROOT / name, os.X_OK)] == []


def broken_citations(text: str) -> Iterator[str]:
    # A docstring's line may end within a citation.
    for found in re.finditer(CITATION, re.sub(r"\s+", " ", text)):
        page, number, title = found.groups()
        known = headings(PAGES.get(page, ""))
        is_there = any(heading.startswith(f"{number}. ") for heading in known) if number else title in (None, *known)
        if page not in PAGES or not is_there:
            yield found[0]


def test_every_citation_in_the_code_leads_to_a_page_and_to_a_heading_of_it() -> None:
    texts = {file: file.read_text(encoding="utf-8") for file in CITING}
    broken = {str(file): cited for file, text in texts.items() if (cited := list(broken_citations(text)))}
    assert broken == {}
    assert [str(file) for file, text in texts.items() if re.search(RETIRED, text)] == []
    assert sum(len(re.findall(CITATION, text)) for text in texts.values()) > 20


def test_a_citation_of_a_missing_target_is_found() -> None:
    assert list(broken_citations("(docs/wire.md, section 5) docs/nowhere.md")) == ["docs/nowhere.md"]
    assert list(broken_citations('docs/wire.md, section 9, docs/engine.md, "Two\n turns"')) == [
        "docs/wire.md, section 9",
        'docs/engine.md, "Two turns"',
    ]


def test_readme_links_every_page_and_pages_are_short() -> None:
    linked = set(re.findall(r"\]\(docs/(\w+)\.md", PAGES["README"]))
    assert linked == PAGES.keys() - {"README"}
    assert len(PAGES["README"].splitlines()) <= 160
    assert {name for name, text in PAGES.items() if len(text.splitlines()) > 150} == set()


def test_the_table_of_folders_is_that_of_the_package() -> None:
    folders = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}
    assert {quoted(name)[0] for name, _ in table("architecture", "folder of `app/swarmstream`")} == folders


def test_the_table_of_scripts_is_that_of_the_folder() -> None:
    scripts = {f"scripts/{file.name}" for file in (ROOT / "scripts").iterdir() if file.is_file() and not file.suffix}
    assert {quoted(name)[0] for name, _ in table("contributing", "script")} == scripts - {"scripts/venv"}
    assert "scripts/venv" in EVERYTHING
