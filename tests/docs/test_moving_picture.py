"""README's moving picture is one of the real program, and can be made anew."""

import os
import sys
import xml.etree.ElementTree as ElementTree

import anyio
import pytest

from tests.docs.pages import ROOT

pytestmark = pytest.mark.anyio


async def test_the_moving_picture_equals_the_programs_output_of_today() -> None:
    with anyio.fail_after(60):
        made = await anyio.run_process(
            [sys.executable, "scripts/moving_picture.py"], cwd=ROOT, env={"PATH": os.environ["PATH"]}
        )
    assert made.stdout == (ROOT / "docs" / "panels.svg").read_bytes(), "scripts/panels writes it anew"


def test_the_moving_picture_is_small_and_loads_nothing_from_elsewhere() -> None:
    file = ROOT / "docs" / "panels.svg"
    assert file.stat().st_size <= 100_000
    picture = ElementTree.parse(file).getroot()
    texts = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}tspan")}
    assert {"Optimist", "Pessimist", "Summary"} <= {drawn for drawn in texts if drawn}
    assert not [name for element in picture.iter() for name in element.attrib if "href" in name]
    assert "url(" not in file.read_text(encoding="utf-8")
