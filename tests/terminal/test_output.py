"""The choice of a view for a stream, and where answers and totals go."""

import io
import re
from typing import Any, TextIO

import pytest

from swarmstream.terminal.last_answer import LastAnswer
from swarmstream.terminal.output import view_for
from swarmstream.terminal.plain import PlainText
from tests.terminal.frames import LAST, begin, chunk, end, frame


def test_totals_go_to_the_notes_if_there_are_any() -> None:
    file, notes = io.StringIO(), io.StringIO()
    with PlainText(file, notes=notes) as plain:
        for each in (begin(1, agent="A"), chunk(1, "one"), end(1), *LAST):
            plain.show(each)
    assert file.getvalue() == "--- A ---\none\n\n"
    assert notes.getvalue() == "[success · 1,234 tokens · $0.5000 · 2.5 s]\n"


@pytest.mark.parametrize(
    ("outputs", "written"),
    [
        ({"output": [{"role": "A", "content": "first"}, {"role": "B", "content": "last\x1b[31m"}]}, "last\n"),
        ({"outputs": [{"role": "A", "content": [{"name": "f"}]}]}, '[{"name": "f"}]\n'),
        ({"outputs": [{"role": "A", "content": [{"name": "f\x9b31m\u202e"}]}]}, '[{"name": "f"}]\n'),
        ({"output": []}, ""),
    ],
)
def test_the_last_answer_can_be_had_alone(outputs: dict[str, Any], written: str) -> None:
    file, notes = io.StringIO(), io.StringIO()
    with LastAnswer(file, notes) as last:
        for each in (
            frame("metadata", job_id="j", warnings=["careful"]),
            *(begin(1, agent="A"), chunk(1, "first"), end(1)),
            frame("error", error="it broke", code="provider_error"),
            frame("end", job_id="j", status="failed", execution_time=2.5, failed_agents=["B"], **outputs),
        ):
            last.show(each)
    assert file.getvalue() == written
    assert re.fullmatch(
        r"\[warning: careful\]\n\[error: it broke \(provider_error\)\]\n\[failed \(B\) · .*\]\n", notes.getvalue()
    )


class TerminalFile(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_panels_are_for_terminals_that_can_draw_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(stream: TextIO, **environ: str) -> str:
        with monkeypatch.context() as patched:
            for name in ("NO_COLOR", "TERM"):
                patched.delenv(name, raising=False)
            for name, value in environ.items():
                patched.setenv(name, value)
            view = view_for(stream)
            with view:
                for each in (begin(1), chunk(1, "x"), end(1), *LAST):
                    view.show(each)
            return type(view).__name__

    assert chosen(io.StringIO(), TERM="xterm") == "PlainText"
    assert chosen(TerminalFile(), TERM="dumb") == "PlainText"
    coloured, plain = TerminalFile(), TerminalFile()
    assert chosen(coloured, TERM="xterm-256color") == "LiveView"
    assert chosen(plain, TERM="xterm-256color", NO_COLOR="1") == "LiveView"
    assert re.search(r"\x1b\[[0-9;]*[39][0-7]m", coloured.getvalue())
    assert not re.search(r"\x1b\[[0-9;]*[39][0-7]m", plain.getvalue())
