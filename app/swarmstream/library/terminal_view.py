"""Runs of this process shown on its standard output."""

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from swarmstream.library.definition import Display, View
from swarmstream.terminal.output import view_for


def terminal_view(*, live: bool, verbose: bool, title: str | None = None) -> Display:
    """Return a view of a run: panels on a terminal, plain text elsewhere."""
    return view_for(sys.stdout, live=live, verbose=verbose, title=title)


@contextmanager
def for_agents(names: set[str], display: Display) -> Generator[View]:
    """Open a display that leaves out all agents but these."""
    with display as view:
        yield _FilteredView(names, view)


class _FilteredView:
    def __init__(self, names: set[str], view: View) -> None:
        self._names = names
        self._view = view

    def show(self, frame: Mapping[str, Any], /) -> None:
        agent = frame["data"].get("agent")
        if agent is None or agent in self._names:
            self._view.show(frame)
