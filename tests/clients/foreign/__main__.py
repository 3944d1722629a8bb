"""Runs other people's clients against a server of its own and prints what came of it: `scripts/clients`."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from tests.clients.foreign.http_clients import try_httpx_sse, try_requests, try_sseclient
from tests.clients.foreign.npm_clients import NotInstalled, node_modules, try_event_source, try_fetch_event_source
from tests.clients.foreign.sdks import try_openai, try_swarms_client
from tests.clients.foreign.stage import Report, Row, Stage, stage

_SECONDS = 600.0
_OF_PYPI: Mapping[str, Callable[[Stage], Report]] = {
    "swarms-client": try_swarms_client,
    "openai": try_openai,
    "requests": try_requests,
    "httpx-sse": try_httpx_sse,
    "sseclient-py": try_sseclient,
}
_OF_NPM: Mapping[str, Callable[[Path, Stage], Report]] = {
    "fetch-event-source": try_fetch_event_source,
    "eventsource": try_event_source,
}


async def _try(names: Sequence[str], folder: Path | None) -> list[Row]:
    """All of them at once, on one server."""
    reports: dict[str, Report] = {}

    async def run(name: str, client: Callable[[Stage], Report]) -> None:
        reports[name] = await to_thread.run_sync(client, running, abandon_on_cancel=True)

    with anyio.fail_after(_SECONDS):
        async with stage() as running, anyio.create_task_group() as tasks:
            for name in names:
                if name in _OF_PYPI:
                    tasks.start_soon(run, name, _OF_PYPI[name])
                elif folder is not None:
                    tasks.start_soon(run, name, partial(_OF_NPM[name], folder))
    return [row for name in names for row in reports[name].rows]


def table(rows: Sequence[Row]) -> str:
    """A line for each, what went wrong below it, and the count."""
    lines: list[str] = []
    for row in rows:
        lines.append(f"{row.client:20} {row.verdict:7} {row.what}")
        if row.detail:
            lines.append(f"{'':28} {row.detail}")
    lines.append(f"{len(rows)} tried, {_failures(rows)} failed; `later`: a route that this server does not have yet")
    return "\n".join(lines)


def _failures(rows: Sequence[Row]) -> int:
    return sum(row.verdict == "FAILED" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 where something failed."""
    known = (*_OF_PYPI, *_OF_NPM)
    parser = argparse.ArgumentParser(prog="scripts/clients", description=__doc__)
    parser.add_argument("--only", metavar="NAME", action="append", choices=known, help=f"one of {', '.join(known)}")
    names: list[str] = parser.parse_args(arguments).only or list(known)
    print(f"trying {', '.join(names)}", file=sys.stderr)
    if any(name in _OF_NPM for name in names):
        try:
            with node_modules() as folder:
                rows = anyio.run(_try, names, folder)
        except NotInstalled as error:
            parser.error(f"{error}; --only NAME runs the others")
    else:
        rows = anyio.run(_try, names, None)
    print(table(rows))
    return 1 if _failures(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
