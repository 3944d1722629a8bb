"""`swarmstream vacuum`: the disk space of deleted runs."""

import sqlite3

import typer

from swarmstream.cli.configuration import data_directory
from swarmstream.cli.console import FAILED, refuse, report
from swarmstream.logs import configure_logging


def vacuum() -> None:
    """Give the space that deleted runs have left in the data directory back to the disk.

    The directory's server must be stopped. For as long as it takes, as much space again is needed. Records of runs
    that ended under a release that kept MCP credentials and images in them are rid of those.

    The exit code is 0 if it is done, 1 if it could not be, 2 if there is nothing to do it with or a server is using it.
    """
    folder = data_directory()
    # Imported here so that --help comes at once.
    from swarmstream.journal.sqlite.data_directory import DirectoryInUse
    from swarmstream.journal.sqlite.vacuum import NoRuns, vacuumed

    configure_logging(level="WARNING", layout="text", secrets=frozenset())
    try:
        before, after = vacuumed(folder)
    except (DirectoryInUse, NoRuns) as refusal:
        refuse(f"{refusal}.")
    except (OSError, sqlite3.Error) as error:
        report(f"{folder} could not be vacuumed, and is as it was: {error}")
        raise typer.Exit(FAILED) from None
    typer.echo(f"{folder}: {before:,} bytes before, {after:,} bytes now")
