"""`swarmstream serve`: the HTTP server."""

import os
import sys
from typing import Annotated

import typer

from swarmstream.cli.configuration import configured_aliases, load_secret_files, load_settings
from swarmstream.cli.console import refuse
from swarmstream.errors import AppError
from swarmstream.llm.aliases import Alias, key_variables
from swarmstream.llm.credentials import secret_variables
from swarmstream.llm.registry import DEMO_MODEL, Registry
from swarmstream.settings import (
    API_KEYS_FILE_VARIABLE,
    API_KEYS_VARIABLE,
    ENV_PREFIX,
    MIN_KEY_LENGTH,
    Settings,
    misspelt_settings,
)


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
    readable_by_others = load_secret_files([API_KEYS_VARIABLE])
    settings = load_settings(host=host, port=port, expire=expire)
    aliases = configured_aliases(settings)
    readable_by_others += load_secret_files({*secret_variables(), *key_variables(aliases)})
    if dev:
        settings = _for_development(settings, aliases)
    _check_keys(settings, dev=dev)
    # Imported here so that --help and a refusal come at once.
    from swarmstream.server import run_server

    sys.exit(run_server(settings, dev=dev, preload=preload, open_secrets=readable_by_others))


def _check_keys(settings: Settings, *, dev: bool) -> None:
    """Refuse to serve without API keys, or to others than this machine with keys that can be guessed."""
    if not dev and not settings.api_keys:
        refuse(
            f"No API keys. Set {ENV_PREFIX}API_KEYS to a comma-separated list of keys that clients may use,\n"
            f"or {API_KEYS_FILE_VARIABLE} to a file that holds them, or try things out with: swarmstream serve --dev"
            + "".join(f"\n{sentence}" for sentence in misspelt_settings(os.environ))
        )
    if settings.short_keys and not settings.listens_on_loopback:
        refuse(
            f"{settings.short_keys} of the keys in {ENV_PREFIX}API_KEYS: fewer than {MIN_KEY_LENGTH} characters, which "
            f"can be guessed.\nServing on {settings.host} takes longer ones, such as: openssl rand -hex 24"
        )


def _for_development(settings: Settings, aliases: dict[str, Alias]) -> Settings:
    """Return the settings with the demo as default model if the one that is built in lacks credentials."""
    if not settings.listens_on_loopback:
        refuse(f"--dev listens on loopback only, not on {settings.host}.")
    if "default_model" not in settings.model_fields_set and not _is_callable(settings.default_model, aliases):
        return settings.model_copy(update={"default_model": DEMO_MODEL})
    return settings


def _is_callable(model: str, aliases: dict[str, Alias]) -> bool:
    try:
        Registry(default_model=model, environ=os.environ, aliases=aliases).resolve(model)
    except AppError:
        return False
    return True
