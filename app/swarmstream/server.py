"""The process of `swarmstream serve`, from its settings to its exit code."""

import errno
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial

from fastapi import FastAPI
from pydantic import SecretStr

from swarmstream.address import check_address
from swarmstream.descriptors import Capacity, capacity_within, raise_limit
from swarmstream.dev_key import DevKey, dev_key
from swarmstream.dev_welcome import dev_welcome
from swarmstream.draining_server import DrainingServer
from swarmstream.errors import AppError
from swarmstream.journal.base import Journal
from swarmstream.journal.opening import create_journal
from swarmstream.journal.sqlite.data_directory import DirectoryInUse
from swarmstream.llm.aliases import key_variables, load_aliases
from swarmstream.llm.registry import Registry
from swarmstream.logs import configure_logging, secret_values
from swarmstream.main import create_app
from swarmstream.secret_files import READABLE_BY_ALL
from swarmstream.settings import ENV_PREFIX, MIN_KEY_LENGTH, Settings, misspelt_settings
from swarmstream.tools.errors import ToolLoadError

logger = logging.getLogger(__name__)

_USAGE_ERROR = 2


class _CannotStart(Exception):
    """The server cannot start with these settings. The message is for the operator's terminal."""


def run_server(settings: Settings, *, dev: bool, preload: bool, open_secrets: Sequence[str] = ()) -> int:
    """Serve until a signal comes; return the process's exit code.

    With `dev`, a key is made if there is none, and printed; where another server uses the data directory, runs are
    kept in memory. `open_secrets` are the variables whose files every user of the machine can read.
    """
    try:
        _check_address(settings)
        key = dev_key(settings) if dev else None
        if key is not None:
            settings = settings.model_copy(update={"api_keys": settings.api_keys or (SecretStr(key.value),)})
        _configure_logging(settings)
        _warn(settings, open_secrets)
        settings, capacity = _within_capacity(settings)
        settings, app = _create_app(settings, dev=dev, preload=preload)
    except _CannotStart as error:
        print(error, file=sys.stderr)
        return _USAGE_ERROR
    _warn_without_default_model(settings)
    on_listening = partial(_print_welcome, settings, key) if key is not None else None
    return _serve(DrainingServer(app, settings, max_connections=capacity.connections, on_listening=on_listening))


def _check_address(settings: Settings) -> None:
    try:
        check_address(settings.host, settings.port)
    except OSError as error:
        where = f"{settings.host}, port {settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise _CannotStart(
                f"{where}: another program listens there. --port takes another port, --port 0 one that is free."
            ) from error
        raise _CannotStart(
            f"{where}: nobody can listen there: {error.strerror}. --host and --port say where to."
        ) from error


def _configure_logging(settings: Settings) -> None:
    secrets = {key.get_secret_value() for key in settings.api_keys}
    secrets |= secret_values(os.environ, also=key_variables(load_aliases(settings)))
    configure_logging(level=settings.log_level, layout=settings.log_format, secrets=secrets)


def _warn(settings: Settings, open_secrets: Sequence[str]) -> None:
    """Log what may be wrong with the settings: misspelt names, secrets that others can read, short keys."""
    for sentence in misspelt_settings(os.environ):
        logger.warning("%s", sentence)
    for variable in open_secrets:
        logger.warning(READABLE_BY_ALL, variable)
    if settings.short_keys:
        logger.warning("%d of the API keys: fewer than %d characters", settings.short_keys, MIN_KEY_LENGTH)


def _within_capacity(settings: Settings) -> tuple[Settings, Capacity]:
    """Raise the limit on file descriptors, and lower `max_runs` to what they suffice for."""
    limit = raise_limit()
    capacity = capacity_within(limit, max_runs=settings.max_runs)
    if capacity.runs < settings.max_runs:
        text = "The system gives %d file descriptors (ulimit -n): at most %d connections and %d runs at once, not %d"
        logger.warning(text, limit, capacity.connections, capacity.runs, settings.max_runs)
        settings = settings.model_copy(update={"max_runs": capacity.runs})
    return settings, capacity


def _create_app(settings: Settings, *, dev: bool, preload: bool) -> tuple[Settings, FastAPI]:
    """Open the journal and make the app; the settings come back with the data directory that is in use."""
    try:
        settings, journal = _with_journal(settings, may_do_without=dev)
        return settings, create_app(settings, journal=journal, preload=preload, dev=dev)
    except ToolLoadError as error:
        raise _CannotStart(f"These tools cannot be used: {error}") from error
    except DirectoryInUse as error:
        raise _CannotStart(f"{error}. Stop it, or set {ENV_PREFIX}DATA_DIR.") from error


def _with_journal(settings: Settings, *, may_do_without: bool) -> tuple[Settings, Journal]:
    """Make the journal; return it with the settings that it follows.

    Raises:
        DirectoryInUse: another server has the directory, and this one may not do without.
    """
    try:
        return settings, create_journal(settings)
    except DirectoryInUse as error:
        if not may_do_without:
            raise
        logger.warning("%s: this one keeps its runs in memory, where they end with it", error)
        settings = settings.model_copy(update={"data_dir": None})
        return settings, create_journal(settings)


def _warn_without_default_model(settings: Settings) -> None:
    try:
        registry = Registry(
            default_model=settings.default_model,
            environ=os.environ,
            aliases=load_aliases(settings),
            backend=settings.lane,
        )
        registry.resolve(settings.default_model)
    except AppError as error:
        logger.warning("agents that name no model are refused: %s", error.detail)


def _print_welcome(settings: Settings, key: DevKey, url: str) -> None:
    print(dev_welcome(url, key, settings.data_dir, is_terminal=sys.stdout.isatty()), flush=True)


def _serve(server: DrainingServer) -> int:
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _ignore_repeated_signal)
    # Whoever has started us with nohup wants us to outlive the terminal.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminate)
    server.run()
    # Nothing is left to do; collecting litellm's objects one last time would take most of a second.
    gc.freeze()
    gc.disable()
    return 0 if server.started else 1


def _ignore_repeated_signal(*_: object) -> None:
    """Do nothing: uvicorn raises a signal again once it has shut down for it, and being stopped is not a failure."""


def _terminate(*_: object) -> None:
    """Stop as on SIGTERM: that a terminal was closed is no reason to cut streams."""
    signal.raise_signal(signal.SIGTERM)
