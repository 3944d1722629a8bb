"""The command line: `swarmstream serve | run | backup | vacuum | openapi`."""

import codecs
import errno
import json
import logging
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeAlias, cast

import anyio
import orjson
import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from swarmstream import __version__
from swarmstream.errors import AppError, NoCredentials
from swarmstream.llm.aliases import Alias, AliasError, aliases_of, key_variables
from swarmstream.llm.model_table import secret_variables
from swarmstream.llm.registry import DEMO_MODEL, Registry
from swarmstream.logs import configure_logging, secret_values
from swarmstream.secret_files import READABLE_BY_ALL, SecretFileError, read_secret_files
from swarmstream.settings import (
    API_KEYS_FILE_VARIABLE,
    API_KEYS_VARIABLE,
    ENV_PREFIX,
    KEY_VARIABLE,
    MIN_KEY_LENGTH,
    Settings,
    misspelt_settings,
)
from swarmstream.terminal.last_answer import LastAnswer
from swarmstream.terminal.ndjson import JsonLines
from swarmstream.terminal.output import picture_for
from swarmstream.terminal.plain import PlainText
from swarmstream.terminal.sanitize import clean
from swarmstream.terminal.watch import Frames, Watched, watch

if TYPE_CHECKING:
    from swarmstream.terminal.live_view import LiveView

cli = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Teams of LLM agents, streamed token by token.",
)

Output: TypeAlias = Literal["text", "json", "last"]

_FEWEST_WORDS = 2
"""Of a task that is told from the name of a file."""
_FAILED = 1
_USAGE_ERROR = 2
_OF_SIGNAL = 128
"""What a shell adds to a signal's number."""
_BROKEN_PIPE = _OF_SIGNAL + 13


def main() -> None:
    """The console script."""
    # The operator's tools may stand in the working directory; behind what is installed, so that they hide nothing.
    sys.path.append("")
    try:
        cli()
    except SystemExit as leaving:
        if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
            # All is done but for tools that nobody waits for any more, whose threads Python would wait for.
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
        raise


@cli.callback(invoke_without_command=True)
def version(
    *, show: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False
) -> None:
    """Teams of LLM agents, streamed token by token."""
    if show:
        typer.echo(f"swarmstream {__version__}")
        raise typer.Exit


@cli.command()
def serve(
    *,
    dev: Annotated[
        bool, typer.Option("--dev", help="For trying things out: loopback only, makes a key if none is set.")
    ] = False,
    host: Annotated[str | None, typer.Option(help=f"Address to listen on [{ENV_PREFIX}HOST].")] = None,
    port: Annotated[int | None, typer.Option(help=f"Port to listen on [{ENV_PREFIX}PORT].")] = None,
    preload: Annotated[
        bool, typer.Option("--preload", help="Import litellm at start, not with the first call that needs it.")
    ] = False,
    expire: Annotated[
        bool | None,
        typer.Option(
            "--expire",
            help=f"Delete old runs also if that is every one there is [{ENV_PREFIX}EXPIRE].",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C."""
    open_to_others = _take_in_secrets([API_KEYS_VARIABLE])
    given: dict[str, Any] = {"host": host, "port": port, "expire": expire}
    settings = _settings({name: value for name, value in given.items() if value is not None})
    aliases = _aliases(settings)
    open_to_others += _take_in_secrets({*secret_variables(), *key_variables(aliases)})
    if dev:
        settings = _for_development(settings, aliases)
    elif not settings.api_keys:
        _refuse(
            f"No API keys. Set {ENV_PREFIX}API_KEYS to a comma-separated list of keys that clients may use,\n"
            f"or {API_KEYS_FILE_VARIABLE} to a file that holds them, or try things out with: swarmstream serve --dev"
            + "".join(f"\n{sentence}" for sentence in misspelt_settings(os.environ))
        )
    if settings.short_keys and not settings.listens_on_loopback:
        _refuse(
            f"{settings.short_keys} of the keys in {ENV_PREFIX}API_KEYS: fewer than {MIN_KEY_LENGTH} characters, which "
            f"can be guessed.\nServing on {settings.host} takes longer ones, such as: openssl rand -hex 24"
        )
    # Imported here so that --help and a refusal come at once.
    from swarmstream.server import run_server

    sys.exit(run_server(settings, dev=dev, preload=preload, open_secrets=open_to_others))


@cli.command()
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
    payload = _payload(what, task)
    if model is not None:
        payload = _with_model(payload, model)
    frames = _in_this_process(payload) if server is None else _on_server(server, key, payload)
    raise typer.Exit(_watch(frames, output="json" if as_json else output, verbose=verbose))


@cli.command()
def vacuum() -> None:
    """Give the space that deleted runs have left in the data directory back to the disk.

    The directory's server must be stopped. For as long as it takes, as much space again is needed. Records of runs
    that ended under a release that kept MCP credentials and images in them are rid of those.

    The exit code is 0 if it is done, 1 if it could not be, 2 if there is nothing to do it with or a server is using it.
    """
    folder = _settings({}).data_dir
    if folder is None:
        _refuse(f"{ENV_PREFIX}DATA_DIR is empty: there is no data directory.")
    from swarmstream.journal.base import DirectoryInUse
    from swarmstream.journal.sqlite.vacuum import NoRuns, vacuumed

    configure_logging(level="WARNING", layout="text", secrets=frozenset())
    try:
        before, after = vacuumed(folder)
    except (DirectoryInUse, NoRuns) as refusal:
        _refuse(f"{refusal}.")
    except (OSError, sqlite3.Error) as error:
        _say(f"{folder} could not be vacuumed, and is as it was: {error}")
        raise typer.Exit(_FAILED) from None
    typer.echo(f"{folder}: {before:,} bytes before, {after:,} bytes now")


def _stopped(signum: int, _: object) -> NoReturn:
    """End as a program does that a signal ended, but tidily."""
    raise SystemExit(128 + signum)


@cli.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; there must be no such file yet.")],
) -> None:
    """Copy all runs of the data directory to one file, also while its server runs.

    The file is for its owner only, and there once it is whole: checked, and flushed to the disk. To restore it, put it
    into an empty directory as runs.sqlite3.

    The exit code is 0 if it is done, 1 if it could not be, 2 if there is nothing to copy or FILE exists.
    """
    folder = _settings({}).data_dir
    if folder is None:
        _refuse(f"{ENV_PREFIX}DATA_DIR is empty: there is no data directory.")
    from swarmstream.journal.sqlite.backup import DamagedRuns, back_up
    from swarmstream.journal.sqlite.vacuum import NoRuns

    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, _stopped)  # what was written so far goes
    try:
        made = back_up(folder, file)
    except (FileExistsError, NoRuns) as refusal:
        _refuse(f"{refusal}.")
    except (DamagedRuns, OSError, sqlite3.Error) as error:
        _say(f"No backup was made: {error}")
        raise typer.Exit(_FAILED) from None
    live = f", {made.live:,} of them not ended" if made.live else ""
    typer.echo(f"{file}: {made.size_bytes:,} bytes, {made.runs:,} run{'' if made.runs == 1 else 's'}{live}")


@cli.command()
def openapi() -> None:
    """Print the API's OpenAPI document."""
    from swarmstream.main import create_app

    typer.echo(json.dumps(create_app(Settings.model_construct()).openapi(), indent=2))


def _payload(what: str | None, task: str | None) -> dict[str, Any]:
    """The request that the command line asks for: a file's, or a task for one agent."""
    if what is None:
        if task is None:
            _refuse('Say what to run: a JSON file, or a task such as "Why do cats purr?".')
        return _for_one_agent(task)
    if what == "-" or _is_there(what):
        fields = _payload_in(what)
        return fields if task is None else {**fields, "task": task}
    if len(what.split()) < _FEWEST_WORDS or what.endswith(".json"):
        _refuse(f'There is no file {what}. If it is a task and no file, write: --task "{what}"')
    if task is not None:
        _refuse(f"There is no file {what}, and two tasks are one too many.")
    return _for_one_agent(what)


def _for_one_agent(task: str) -> dict[str, Any]:
    return {"agent_config": {"agent_name": "Agent"}, "task": task}


def _is_there(name: str) -> bool:
    try:
        Path(name).stat()
    except FileNotFoundError:
        return False
    except OSError as error:  # who may not look at it meant a file, but for a name longer than any
        return error.errno not in (errno.ENAMETOOLONG, errno.ENOTDIR)
    return True


def _with_model(payload: dict[str, Any], model: str) -> dict[str, Any]:
    """The payload with this model for every agent that it describes; what is none is for the run to refuse."""

    def changed(agent: object) -> object:
        return {**cast(dict[str, Any], agent), "model_name": model} if isinstance(agent, dict) else agent

    if "agent_config" in payload:
        return {**payload, "agent_config": changed(payload["agent_config"])}
    agents = payload.get("agents")
    if not isinstance(agents, list):
        return payload
    return {**payload, "agents": [changed(agent) for agent in cast(list[object], agents)]}


def _payload_in(file: str) -> dict[str, Any]:
    name = "standard input" if file == "-" else file
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        _refuse(f"{name} cannot be read: {error.strerror}")
    try:
        payload = orjson.loads(content.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        _refuse(f"{name}, line {error.lineno}, column {error.colno}: {error.msg}")
    if not isinstance(payload, dict):
        _refuse(f"{name} holds no JSON object.")
    return cast(dict[str, Any], payload)


def _on_server(server: str, key: str | None, payload: dict[str, Any]) -> Callable[[], Frames]:
    import httpx

    from swarmstream.terminal.server_run import ServerRun

    try:
        url = httpx.URL(server)
    except httpx.InvalidURL as error:
        _refuse(f"--server: {error}")
    if url.scheme not in ("http", "https") or not url.host:
        _refuse("--server wants an address such as http://127.0.0.1:8000.")
    if key is not None and not (key.isascii() and key.isprintable()):
        _refuse(f"--key (or {KEY_VARIABLE}) is no key: it holds characters that no header can carry.")
    return lambda: ServerRun(server, key, payload)


def _in_this_process(payload: dict[str, Any]) -> Callable[[], Frames]:
    settings = _settings({})
    aliases = _aliases(settings)
    for variable in _take_in_secrets({*secret_variables(), *key_variables(aliases)}):
        _say(f"Warning: {READABLE_BY_ALL % variable}")

    def frames() -> Frames:
        from swarmstream.library import frames_of_payload

        # Only now: a live picture has taken over stderr by then, so that log lines go above it.
        hidden = secret_values(os.environ, also=key_variables(aliases))
        level = settings.log_level if "log_level" in settings.model_fields_set else "WARNING"
        configure_logging(level=level, layout=settings.log_format, secrets=hidden)
        return cast(Frames, frames_of_payload(payload, environ=os.environ))

    return frames


def _watch(frames: Callable[[], Frames], *, output: Output, verbose: bool) -> int:
    """Watch a run to its end; the exit code."""
    from swarmstream.terminal.server_run import ServerError
    from swarmstream.tools.errors import ToolLoadError

    code = _FAILED
    try:
        with _sink(output, verbose=verbose) as sink:
            watched = anyio.run(_watch_all, frames, sink.show)
        if watched.stopped_by is not None:
            code = _OF_SIGNAL + watched.stopped_by
            if watched.status is None:
                _say("Left before the run's end.")
        elif watched.status is None:
            _say("The stream broke off before the run's end.")
        elif watched.status == "success":
            code = 0
    except* BrokenPipeError:
        # Whoever read us has what it wanted; at exit, Python would flush into the pipe once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _BROKEN_PIPE
    except* (AppError, ServerError, ToolLoadError) as refusals:
        for refusal in refusals.exceptions:
            _say(clean(str(refusal)))
            if isinstance(refusal, NoCredentials):
                _say(f"To try things out without a key: --model {DEMO_MODEL}")
            if isinstance(refusal, ServerError) and refusal.wants_key:
                _say(f"Give your key with --key, or in the variable {KEY_VARIABLE}.")
    return code


def _sink(output: Output, *, verbose: bool) -> "LiveView | PlainText | JsonLines | LastAnswer":
    if (reconfigure := getattr(sys.stdout, "reconfigure", None)) is not None:
        reconfigure(errors="replace")  # an agent may say what the terminal's encoding has no sign for
    match output:
        case "json":
            return JsonLines(sys.stdout)
        case "last":
            return LastAnswer(sys.stdout, sys.stderr)
        case "text":
            return picture_for(sys.stdout, verbose=verbose, notes=sys.stderr)


async def _watch_all(frames: Callable[[], Frames], show: Callable[[Mapping[str, Any]], None]) -> Watched:
    return await watch(frames(), show, lambda: _say("Cancelling the run; Ctrl-C again leaves at once."))


def _settings(given: dict[str, Any]) -> Settings:
    try:
        return Settings(**given)
    except SettingsError as error:
        # A list or an object that is no JSON; the variable's value may be a secret and stays out.
        _refuse(f"These settings cannot be used: {error}")
    except ValidationError as error:
        problems = "\n".join(
            f"  {ENV_PREFIX}{str(found['loc'][0]).upper()}: {found['msg']}" for found in error.errors()
        )
        _refuse(f"These settings cannot be used:\n{problems}")


def _aliases(settings: Settings) -> dict[str, Alias]:
    try:
        return aliases_of(settings)
    except AliasError as error:
        _refuse(f"These aliases cannot be used: {error}")


def _take_in_secrets(names: Iterable[str]) -> list[str]:
    """Read the files that are to hold these variables' values; which of them others can read."""
    try:
        return read_secret_files(os.environ, names)
    except SecretFileError as error:
        _refuse(f"{error}.")


def _for_development(settings: Settings, aliases: dict[str, Alias]) -> Settings:
    if not settings.listens_on_loopback:
        _refuse(f"--dev listens on loopback only, not on {settings.host}.")
    if "default_model" not in settings.model_fields_set and not _can_be_called(settings.default_model, aliases):
        return settings.model_copy(update={"default_model": DEMO_MODEL})
    return settings


def _can_be_called(model: str, aliases: dict[str, Alias]) -> bool:
    try:
        Registry(default_model=model, environ=os.environ, aliases=aliases).resolve(model)
    except AppError:
        return False
    return True


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(_USAGE_ERROR)
