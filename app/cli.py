"""The command line: `swarmstream serve | openapi`."""

import json
import os
import secrets
import sys
from typing import Annotated, Any, NoReturn

import typer
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsError

from app import __version__
from app.errors import AppError
from app.llm.aliases import Alias, AliasError, aliases_of
from app.llm.registry import DEMO_MODEL, Registry
from app.settings import ENV_PREFIX, Settings

cli = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Teams of LLM agents, streamed token by token.",
)

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_USAGE_ERROR = 2


def main() -> None:
    """The console script."""
    cli()


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
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C."""
    given: dict[str, Any] = {"host": host, "port": port}
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
        )
    # Imported here so that --help and a refusal come at once.
    from app.server import run_server

    sys.exit(run_server(settings, dev_key=dev_key, preload=preload))


@cli.command()
def openapi() -> None:
    """Print the API's OpenAPI document."""
    from app.main import create_app

    typer.echo(json.dumps(create_app(Settings.model_construct()).openapi(), indent=2))


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
    if settings.host not in _LOOPBACK:
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


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(_USAGE_ERROR)
