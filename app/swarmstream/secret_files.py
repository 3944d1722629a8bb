"""Secrets that stand in files, as container platforms hand them out: what `X_FILE` names becomes the variable `X`."""

import os
import re
import stat
from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path

from swarmstream.settings import API_KEYS_VARIABLE

SUFFIX = "_FILE"
READABLE_BY_ALL = "every user of this machine can read the file that %s names; to close it: chmod 600"
_MAX_BYTES = 64 * 1024
_KEY = re.compile(r"[!-~]+")


class SecretFileError(Exception):
    """A file that is to hold a secret cannot be used. The message names the variable, and nothing of what is in it."""


def read_secret_files(environ: MutableMapping[str, str], names: Iterable[str]) -> list[str]:
    """Set each of these variables whose `_FILE` is set; the names of such variables whose files others can read.

    White space around a secret is no part of it. Setting a variable of this process leaves `/proc/self/environ` and
    whatever started the process without it.

    Raises:
        SecretFileError: a file cannot be read, holds no secret or is no file of a secret, or both variables are set.
    """
    open_to_others: list[str] = []
    for name in sorted(names):
        variable = f"{name}{SUFFIX}"
        if not (path := environ.get(variable)):
            continue
        if environ.get(name):
            raise SecretFileError(f"both {name} and {variable} are set: unset one of them")
        content, is_open = _read(variable, Path(path))
        environ[name] = _keys(variable, content) if name == API_KEYS_VARIABLE else _one(variable, content)
        if is_open:
            open_to_others.append(variable)
    return open_to_others


def _keys(variable: str, content: str) -> str:
    """Keys, one a line or comma-separated; lines that begin with `#` are comments."""
    lines = [line.strip() for line in content.splitlines()]
    keys = [key.strip() for line in lines if not line.startswith("#") for key in line.split(",")]
    keys = [key for key in keys if key]
    if not keys:
        raise SecretFileError(f"{variable}: there is no key in the file")
    if any(not _KEY.fullmatch(key) for key in keys):
        raise SecretFileError(f"{variable}: one of the keys in the file is not printable ASCII without white space")
    return ",".join(keys)


def _one(variable: str, content: str) -> str:
    """A secret; only credentials that are a document of their own have several lines."""
    if "\n" in content and not content.startswith(("{", "-----BEGIN")):
        raise SecretFileError(f"{variable}: the file holds more than one line, and a key is one")
    return content


def _read(variable: str, path: Path) -> tuple[str, bool]:
    """The content, and whether others than its owner can read what is ours."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise SecretFileError(f"{variable}: {path} cannot be read: {error.strerror}") from error
    if problem := next(_problems(content), None):
        raise SecretFileError(f"{variable}: {path} {problem}")
    # Platforms that mount secrets as another user's files leave them readable: nobody else is in the container.
    return content.decode("utf-8-sig").strip(), found.st_uid == os.geteuid() and bool(found.st_mode & stat.S_IROTH)


def _problems(content: bytes) -> Iterator[str]:
    if len(content) > _MAX_BYTES:
        yield f"is larger than {_MAX_BYTES // 1024} kB, which no secret is"
    if not content.strip():
        yield "is empty"
    if b"\0" in content:
        yield "is no text"
    try:
        content.decode()
    except UnicodeDecodeError:
        yield "is no text in UTF-8"
