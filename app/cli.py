"""The command line: `swarmstream serve | run | vacuum | openapi`."""

import codecs
import json
import logging
import os
import secrets
import sqlite3
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import anyio
import orjson
import typer
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsError

from app import __version__
from app.errors import AppError, NoCredentials
from app.llm.aliases import Alias, AliasError, aliases_of, key_variables
from app.llm.registry import DEMO_MODEL, Registry
from app.logs import configure_logging, secret_values
from app.settings import ENV_PREFIX, KEY_VARIABLE, MIN_KEY_LENGTH, Settings, misspelt_settings
from app.terminal.choice import picture_for
from app.terminal.lines import JsonLines
from app.terminal.plain import PlainText
from app.terminal.untrusted import clean
from app.terminal.watch import Frames, Watched, watch

if TYPE_CHECKING:
    from app.terminal.picture import Picture

cli = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Teams of LLM agents, streamed token by token.",
)

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
        bool, typer.Option("--dev", help="For trying things out: loopback only, with a key made for this run.")
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
    given: dict[str, Any] = {"host": host, "port": port, "expire": expire}
    settings = _settings({name: value for name, value in given.items() if value is not None})
    aliases = _aliases(settings)
    dev_key = None
    if dev:
        dev_key = f"dev-{secrets.token_urlsafe(18)}"
        settings = _for_development(settings, aliases, dev_key)
    elif not settings.api_keys:
        _refuse(
            f"No API keys. Set {ENV_PREFIX}API_KEYS to a comma-separated list of keys that clients may use,\n"
            "or try things out with: swarmstream serve --dev"
            + "".join(f"\n{sentence}" for sentence in misspelt_settings(os.environ))
        )
    if settings.short_keys and not settings.listens_on_loopback:
        _refuse(
            f"{settings.short_keys} of the keys in {ENV_PREFIX}API_KEYS: fewer than {MIN_KEY_LENGTH} characters, which "
            f"can be guessed.\nServing on {settings.host} takes longer ones, such as: openssl rand -hex 24"
        )
    # Imported here so that --help and a refusal come at once.
    from app.server import run_server

    sys.exit(run_server(settings, dev_key=dev_key, preload=preload))


@cli.command()
def run(
    *,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="JSON, as /v1/swarm/completions takes it, or /v1/agent/completions if it has an agent_config; "
            "- reads standard input.",
        ),
    ],
    task: Annotated[str | None, typer.Option(help="The task, instead of the file's.")] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Run it on this server; without it, it runs in this process.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(envvar=KEY_VARIABLE, show_default=False, help="Your key for that server.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what models think, too.")] = False,
) -> None:
    """Run a swarm or an agent and watch it: as panels on a terminal, else as plain text.

    Ctrl-C cancels the run, a second one leaves at once.

    The exit code is 0 if the run succeeded, 1 if it did not, 2 if FILE or an option is wrong, 130 after Ctrl-C.
    """
    payload = _payload(file, task)
    frames = _in_this_process(payload) if server is None else _on_server(server, key, payload)
    raise typer.Exit(_watch(frames, as_json=as_json, verbose=verbose))


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
    from app.runs.journal import DirectoryInUse
    from app.runs.sqlite_vacuum import NoRuns, vacuumed

    configure_logging(level="WARNING", layout="text", secrets=frozenset())
    try:
        before, after = vacuumed(folder)
    except (DirectoryInUse, NoRuns) as refusal:
        _refuse(f"{refusal}.")
    except (OSError, sqlite3.Error) as error:
        _say(f"{folder} could not be vacuumed, and is as it was: {error}")
        raise typer.Exit(_FAILED) from None
    typer.echo(f"{folder}: {before:,} bytes before, {after:,} bytes now")


@cli.command()
def openapi() -> None:
    """Print the API's OpenAPI document."""
    from app.main import create_app

    typer.echo(json.dumps(create_app(Settings.model_construct()).openapi(), indent=2))


def _payload(file: str, task: str | None) -> dict[str, Any]:
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
    fields = cast(dict[str, Any], payload)
    return fields if task is None else {**fields, "task": task}


def _on_server(server: str, key: str | None, payload: dict[str, Any]) -> Callable[[], Frames]:
    import httpx

    from app.client import ServerRun

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

    def frames() -> Frames:
        from app.library import frames_of_payload

        # Only now: a live picture has taken over stderr by then, so that log lines go above it.
        hidden = secret_values(os.environ, also=key_variables(aliases))
        level = settings.log_level if "log_level" in settings.model_fields_set else "WARNING"
        configure_logging(level=level, layout=settings.log_format, secrets=hidden)
        return cast(Frames, frames_of_payload(payload, environ=os.environ))

    return frames


def _watch(frames: Callable[[], Frames], *, as_json: bool, verbose: bool) -> int:
    """Watch a run to its end; the exit code."""
    from app.client import ServerError
    from app.tools.errors import ToolLoadError

    code = _FAILED
    try:
        with _sink(as_json=as_json, verbose=verbose) as sink:
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
                _say(f"To try things out without a key: {ENV_PREFIX}DEFAULT_MODEL={DEMO_MODEL}")
    return code


def _sink(*, as_json: bool, verbose: bool) -> "Picture | PlainText | JsonLines":
    if (reconfigure := getattr(sys.stdout, "reconfigure", None)) is not None:
        reconfigure(errors="replace")  # an agent may say what the terminal's encoding has no sign for
    return JsonLines(sys.stdout) if as_json else picture_for(sys.stdout, verbose=verbose)


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


def _for_development(settings: Settings, aliases: dict[str, Alias], key: str) -> Settings:
    if not settings.listens_on_loopback:
        _refuse(f"--dev listens on loopback only, not on {settings.host}.")
    changes: dict[str, Any] = {"api_keys": (*settings.api_keys, SecretStr(key))}
    if "default_model" not in settings.model_fields_set and not _can_be_called(settings.default_model, aliases):
        changes["default_model"] = DEMO_MODEL
    return settings.model_copy(update=changes)


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
