"""Messages to the user of the command line, and the exit codes."""

import sys
from typing import NoReturn

import typer

FAILED = 1
USAGE_ERROR = 2
SIGNALLED = 128
"""Added to a signal's number, as shells do."""


def report(message: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{message}\n")


def refuse(message: str) -> NoReturn:
    """Leave with a message on standard error and the exit code of a usage error."""
    typer.echo(message, err=True)
    raise typer.Exit(USAGE_ERROR)
