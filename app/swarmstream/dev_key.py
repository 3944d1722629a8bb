"""The key of `serve --dev`, kept in the data directory so that the next start has the same one."""

import os
import re
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swarmstream.journal.sqlite.data_directory import DEV_KEY
from swarmstream.settings import ENV_PREFIX, Settings

_KEY = re.compile(r"dev-[\w-]{24}", re.ASCII)
_FOR_THIS_RUN = "for this run only"


@dataclass(frozen=True, slots=True)
class DevKey:
    """The key of a server for development."""

    value: str
    origin: str
    """Its source, for people."""
    is_configured: bool = False
    """True if the operator has set it: it may be in use elsewhere."""


def dev_key(settings: Settings) -> DevKey:
    """Return the operator's own key if there is one, else the one that the data directory keeps; make it if need be."""
    if settings.api_keys:
        return DevKey(settings.api_keys[0].get_secret_value(), f"from {ENV_PREFIX}API_KEYS", is_configured=True)
    if settings.data_dir is None:
        return DevKey(_new_key(), _FOR_THIS_RUN)
    path = settings.data_dir / DEV_KEY
    try:
        return DevKey(_kept_key(path), f"kept in {path}")
    except OSError as error:
        return DevKey(_new_key(), f"{_FOR_THIS_RUN}: {path} cannot be used, {error.strerror}")


def _kept_key(path: Path) -> str:
    if key := _read_key(path):
        return key
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError), (path.parent / ".gitignore").open("x") as ignored:
        ignored.write("*\n")  # the directory may be in a repository: neither key nor prompts are to be committed
    descriptor, new = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # for its owner only
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{_new_key()}\n")
        # Two servers may start at once: the file appears whole or not at all, and the first one's stays.
        try:
            os.link(new, path)
        except FileExistsError:
            if _read_key(path) is None:
                os.replace(new, path)
    finally:
        Path(new).unlink(missing_ok=True)
    return _read_key(path) or _new_key()


def _read_key(path: Path) -> str | None:
    """Read the key; None if there is no file, or no key in it."""
    try:
        with path.open("rb") as file:
            content = file.read(100).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    return content if _KEY.fullmatch(content) else None


def _new_key() -> str:
    return f"dev-{secrets.token_urlsafe(18)}"
