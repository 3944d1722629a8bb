"""Processes: their start, their cost, their end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

_START_SECONDS = 60.0
_POLL_SECONDS = 0.002
_LAST_WORDS_BYTES = 2000
_LISTENING = re.compile(rb"Uvicorn running on http://[^:]+:(\d+)")


class BenchmarkError(Exception):
    """A process broke, and the figures of its workload do not count."""


def tree(pid: int) -> list[int]:
    """Return the process and its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
    found = [pid]
    for parent in found:
        found += [child for child, its in parents.items() if its == parent]
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of the process and its children so far, user and system, to the nanosecond."""
    total = 0.0
    for member in tree(pid):
        with suppress(OSError):
            total += time.clock_gettime((~member << 3) | 2)  # Linux' number for the CPU clock of another process
    return total


def memory_kb(pid: int) -> int:
    """Return the resident memory of the process and its children, exactly where the kernel counts so."""
    total = 0
    for member in tree(pid):
        with suppress(OSError):
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
            total += int(rollup.partition("\nRss:")[2].split()[0])
    return total


class Worker:
    """A process of the benchmark's own, which takes orders and gives answers, a line of JSON each."""

    def __init__(self, script: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, HERE / script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the benchmark, which ends its processes itself
        )
        self.pid = self._process.pid

    def order(self, order: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError("a process of the benchmark's own has died")
        return json.loads(line)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True, slots=True)
class Server:
    """A server process that answers."""

    pid: int
    port: int
    start_seconds: float
    """Seconds from its start to its first answer with status 200."""
    log: IO[bytes]

    def last_words(self) -> str:
        """Return the end of its log."""
        return _last_words(self.log)


@contextmanager
def server(name: str, command: Sequence[str | Path], environ: Mapping[str, str], health: str) -> Generator[Server]:
    """Run a server until the end of the block. Its log goes to a file, and is shown if it does not start."""
    with TemporaryFile() as log:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], **environ},
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            while not (port := _port(log)) or _status(port, health) != 200:
                if process.poll() is not None or time.monotonic() - began > _START_SECONDS:
                    raise BenchmarkError(f"{name} does not start:\n{_last_words(log)}")
                time.sleep(_POLL_SECONDS)
            yield Server(process.pid, port, time.monotonic() - began, log)
        finally:
            for member in tree(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
            process.wait()


def _written(log: IO[bytes]) -> bytes:
    return os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0)


def _last_words(log: IO[bytes]) -> str:
    return _written(log)[-_LAST_WORDS_BYTES:].decode(errors="replace")


def _port(log: IO[bytes]) -> int | None:
    found = _LISTENING.search(_written(log))
    return int(found[1]) if found else None


def _status(port: int, path: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()
