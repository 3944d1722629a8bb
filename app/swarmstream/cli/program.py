"""The console script: all commands under one name."""

import logging
import os
import sys
import threading
from typing import Annotated

import typer

from swarmstream import __version__
from swarmstream.cli.backup import backup
from swarmstream.cli.openapi import openapi
from swarmstream.cli.run import run
from swarmstream.cli.serve import serve
from swarmstream.cli.vacuum import vacuum

program = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Teams of LLM agents, streamed token by token.",
)
for command in (serve, run, vacuum, backup, openapi):
    program.command()(command)


@program.callback(invoke_without_command=True)
def version(
    *, show: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False
) -> None:
    """Teams of LLM agents, streamed token by token."""
    if show:
        typer.echo(f"swarmstream {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command that the arguments name, and exit."""
    # The operator's tools may stand in the working directory; behind what is installed, so that they hide nothing.
    sys.path.append("")
    try:
        program()
    except SystemExit as exit_:
        if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
            # Only tools that nobody waits for any more are left; Python would wait for their threads.
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None))
        raise
