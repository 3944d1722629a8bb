"""`swarmstream backup`: a copy of all runs in one file."""

import signal
import sqlite3
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from swarmstream.cli.configuration import data_directory
from swarmstream.cli.console import FAILED, SIGNALLED, refuse, report


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; there must be no such file yet.")],
) -> None:
    """Copy all runs of the data directory to one file, also while its server runs.

    The file is for its owner only, and there once it is whole: checked, and flushed to the disk. To restore it, put it
    into an empty directory as runs.sqlite3.

    The exit code is 0 if it is done, 1 if it could not be, 2 if there is nothing to copy or FILE exists.
    """
    folder = data_directory()
    # Imported here so that --help comes at once.
    from swarmstream.journal.sqlite.backup import DamagedRuns, back_up
    from swarmstream.journal.sqlite.vacuum import NoRuns

    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, _exit)
    try:
        made = back_up(folder, file)
    except (FileExistsError, NoRuns) as refusal:
        refuse(f"{refusal}.")
    except (DamagedRuns, OSError, sqlite3.Error) as error:
        report(f"No backup was made: {error}")
        raise typer.Exit(FAILED) from None
    live = f", {made.live:,} of them not ended" if made.live else ""
    typer.echo(f"{file}: {made.size_bytes:,} bytes, {made.runs:,} run{'' if made.runs == 1 else 's'}{live}")


def _exit(signum: int, _: object) -> NoReturn:
    """Exit with a signal's code by an exception, so that an unfinished file is removed."""
    raise SystemExit(SIGNALLED + signum)
