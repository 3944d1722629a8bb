"""`swarmstream run`: one run, watched in the terminal."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast

import anyio
import typer

from swarmstream.cli.configuration import configured_aliases, load_secret_files, load_settings
from swarmstream.cli.console import FAILED, SIGNALLED, refuse, report
from swarmstream.cli.payload import read_payload
from swarmstream.errors import AppError, NoCredentials
from swarmstream.llm.aliases import key_variables
from swarmstream.llm.credentials import secret_variables
from swarmstream.llm.registry import DEMO_MODEL
from swarmstream.logs import configure_logging, secret_values
from swarmstream.secret_files import READABLE_BY_ALL
from swarmstream.settings import KEY_VARIABLE
from swarmstream.terminal.last_answer import LastAnswer
from swarmstream.terminal.ndjson import JsonLines
from swarmstream.terminal.output import view_for
from swarmstream.terminal.plain import PlainText
from swarmstream.terminal.sanitize import clean
from swarmstream.terminal.watch import Frames, Watched, watch

if TYPE_CHECKING:
    from swarmstream.terminal.live_view import LiveView

Output: TypeAlias = Literal["text", "json", "last"]

_BROKEN_PIPE = SIGNALLED + 13


def run(
    *,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|TASK",
            help="A JSON file, as /v1/swarm/completions takes it, or /v1/agent/completions if it has an agent_config "
            "(- reads standard input); or a task in words, for one agent.",
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task, instead of the file's.")] = None,
    model: Annotated[str | None, typer.Option(help="The model of all agents, instead of the file's.")] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Run it on this server; without it, it runs in this process.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(envvar=KEY_VARIABLE, show_default=False, help="Your key for that server.")
    ] = None,
    output: Annotated[
        Output, typer.Option(help="All that is said, each event as a line of JSON, or the last answer alone.")
    ] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --output json.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what models think, too.")] = False,
) -> None:
    """Run a swarm or an agent and watch it: as panels on a terminal, else as plain text.

    Ctrl-C cancels the run, a second one leaves at once.

    The exit code is 0 if the run succeeded, 1 if it did not, 2 if FILE or an option is wrong, 130 after Ctrl-C.
    """
    payload = read_payload(what, task, model)
    start = _in_this_process(payload) if server is None else _on_server(server, key, payload)
    raise typer.Exit(_watch(start, output="json" if as_json else output, verbose=verbose))


def _on_server(server: str, key: str | None, payload: dict[str, Any]) -> Callable[[], Frames]:
    """Return a function that posts the payload to a server."""
    import httpx

    from swarmstream.terminal.server_run import ServerRun

    try:
        url = httpx.URL(server)
    except httpx.InvalidURL as error:
        refuse(f"--server: {error}")
    if url.scheme not in ("http", "https") or not url.host:
        refuse("--server wants an address such as http://127.0.0.1:8000.")
    if key is not None and not (key.isascii() and key.isprintable()):
        refuse(f"--key (or {KEY_VARIABLE}) is no key: it holds characters that no header can carry.")
    return lambda: ServerRun(server, key, payload)


def _in_this_process(payload: dict[str, Any]) -> Callable[[], Frames]:
    """Return a function that begins the run in this process, in the running event loop."""
    settings = load_settings()
    aliases = configured_aliases(settings)
    for variable in load_secret_files({*secret_variables(), *key_variables(aliases)}):
        report(f"Warning: {READABLE_BY_ALL % variable}")

    def start() -> Frames:
        from swarmstream.library.payload import run_payload

        # Only now: a live view has taken over stderr by then, so that log lines go above it.
        hidden = secret_values(os.environ, also=key_variables(aliases))
        level = settings.log_level if "log_level" in settings.model_fields_set else "WARNING"
        configure_logging(level=level, layout=settings.log_format, secrets=hidden)
        return cast(Frames, run_payload(payload, environ=os.environ))

    return start


def _watch(start: Callable[[], Frames], *, output: Output, verbose: bool) -> int:
    """Watch a run to its end and return the exit code."""
    # Imported here so that --help comes at once.
    from swarmstream.terminal.server_run import ServerError
    from swarmstream.tools.errors import ToolLoadError

    code = FAILED
    try:
        with _view(output, verbose=verbose) as view:
            watched = anyio.run(_watch_frames, start, view.show)
        code = _exit_code(watched)
    except* BrokenPipeError:
        # The reader has what it wanted. At exit, Python would flush into the pipe once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _BROKEN_PIPE
    except* (AppError, ServerError, ToolLoadError) as refusals:
        for refusal in refusals.exceptions:
            report(clean(str(refusal)))
            if isinstance(refusal, NoCredentials):
                report(f"To try things out without a key: --model {DEMO_MODEL}")
            if isinstance(refusal, ServerError) and refusal.wants_key:
                report(f"Give your key with --key, or in the variable {KEY_VARIABLE}.")
    return code


def _exit_code(watched: Watched) -> int:
    """Return the exit code of a run that is over, and report one that was left or broken off."""
    if watched.stopped_by is not None:
        if watched.status is None:
            report("Left before the run's end.")
        return SIGNALLED + watched.stopped_by
    if watched.status is None:
        report("The stream broke off before the run's end.")
    return 0 if watched.status == "success" else FAILED


def _view(output: Output, *, verbose: bool) -> "LiveView | PlainText | JsonLines | LastAnswer":
    if (reconfigure := getattr(sys.stdout, "reconfigure", None)) is not None:
        reconfigure(errors="replace")  # models may answer with characters that the terminal's encoding lacks
    match output:
        case "json":
            return JsonLines(sys.stdout)
        case "last":
            return LastAnswer(sys.stdout, sys.stderr)
        case "text":
            return view_for(sys.stdout, verbose=verbose, notes=sys.stderr)


async def _watch_frames(start: Callable[[], Frames], show: Callable[[Mapping[str, Any]], None]) -> Watched:
    return await watch(start(), show, lambda: report("Cancelling the run; Ctrl-C again leaves at once."))
