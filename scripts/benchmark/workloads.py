"""Workloads: each loads a server in its own way, and returns figures."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Timer
from typing import Any

from contenders import Contender, Question
from processes import BenchmarkError, Server, Worker, cpu_seconds, memory_kb

Figures = dict[str, float]

_BURST = Question("burst-2000")
_BURST_TOKENS = 2000
_RATE = 50
_SETTLE_SECONDS = 0.05
"""For a server to finish what goes on after the last byte of an answer."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the loads; `--quick` has small ones."""

    seconds: float = 1.0
    """Approximate duration of a load of requests in a row."""
    paced_share: float = 1.0
    """Number of streams that a paced load is named after."""
    paced_tokens: int = 200
    spread_seconds: float = 1.0
    first_tokens: int = 20
    open_streams: int = 1000
    readers: int = 1000
    readers_tokens: int = 500


QUICK = Sizes(
    seconds=0.2,
    paced_share=0.1,
    paced_tokens=25,
    spread_seconds=0.25,
    first_tokens=5,
    open_streams=200,
    readers=100,
    readers_tokens=100,
)


class Session:
    """A server process under load."""

    def __init__(self, contender: Contender, server: Server, provider: Worker, client: Worker, sizes: Sizes) -> None:
        self.contender = contender
        self.server = server
        self.sizes = sizes
        self._provider = provider
        self._client = client
        # Loads what a server loads with its first answer only.
        contender.check(server)
        self.ask(Question("burst-1"), 1)
        self.idle_kb = memory_kb(server.pid)

    def ask(self, question: Question, tokens: int, **load: Any) -> Figures:
        """Load the server; return the cost for the server, the provider and the client."""
        order = {"port": self.server.port, "tokens": tokens, **self.contender.order(question), **load}
        server_cpu, provider_cpu = cpu_seconds(self.server.pid), cpu_seconds(self._provider.pid)
        came = self._client.order(order)
        time.sleep(_SETTLE_SECONDS)
        server_cpu = cpu_seconds(self.server.pid) - server_cpu
        provider_cpu = cpu_seconds(self._provider.pid) - provider_cpu
        if came["errors"]:
            texts = "; ".join(came["error_texts"])
            raise BenchmarkError(f"{came['errors']} errors: {texts}\nIts log ends:\n{self.server.last_words()}")
        return {
            "answers": came["answers"],
            "wall_seconds": came["wall_seconds"],
            "cpu_us_per_token": server_cpu / came["tokens"] * 1e6,
            "cpu_us_per_request": server_cpu / came["answers"] * 1e6,
            "provider_us_per_token": provider_cpu / came["tokens"] * 1e6,
            "client_us_per_token": came["cpu_seconds"] / came["tokens"] * 1e6,
            "latency_p50_ms": came["latency_p50_ms"],
            "latency_p99_ms": came["latency_p99_ms"],
            "first_token_p50_ms": came["first_token_p50_ms"],
            "last_start_seconds": came["last_start_seconds"],
        }

    def repeat(self, question: Question, tokens: int) -> Figures:
        """Load the server with requests in a row for about a second, after one or two to warm up."""
        one = self.ask(question, tokens)["wall_seconds"]
        if one < self.sizes.seconds / 2:
            one = self.ask(question, tokens)["wall_seconds"]
        return self.ask(question, tokens, requests=max(1, round(self.sizes.seconds / one)))

    def hold(self, streams: int) -> int:
        """Open more silent streams; return the server's memory with them."""
        self.ask(Question("silent"), 1, streams=streams, spread_seconds=1.0, deadline_seconds=40.0, holds=True)
        time.sleep(1)
        return memory_kb(self.server.pid)

    def release(self) -> int:
        return self._client.order({})["open"]


def start(session: Session) -> Figures:
    return {"seconds": session.server.start_seconds}


def idle(session: Session) -> Figures:
    return {"mb": session.idle_kb / 1024}


def one_token(session: Session) -> Figures:
    return session.repeat(Question("burst-1"), 1)


def first_token(session: Session) -> Figures:
    return session.ask(Question("burst-1"), 1, requests=session.sizes.first_tokens, pause_seconds=0.05)


def burst(session: Session) -> Figures:
    return session.repeat(_BURST, _BURST_TOKENS)


def burst_with_output(session: Session) -> Figures:
    return session.repeat(Question(_BURST.model, include_output=True), _BURST_TOKENS)


def tools(session: Session) -> Figures:
    """Two answers with a tool call between them; the figure includes its cost, and that of the second request."""
    offered = ("calculator", "clock", "query_json")
    return session.repeat(Question(f"tools-{_BURST_TOKENS}", tools=offered), 2 * _BURST_TOKENS)


def sequential_3(session: Session) -> Figures:
    return session.repeat(Question(_BURST.model, "SequentialWorkflow"), 3 * _BURST_TOKENS)


def parallel_3(session: Session) -> Figures:
    return session.repeat(Question(_BURST.model, "ConcurrentWorkflow"), 3 * _BURST_TOKENS)


def paced_100(session: Session) -> Figures:
    return _paced(session, 100)


def paced_200(session: Session) -> Figures:
    return _paced(session, 200)


def _paced(session: Session, streams: int) -> Figures:
    """Streams that begin at random moments, so that their tokens do not come in step."""
    count = session.sizes.paced_tokens
    streams = round(streams * session.sizes.paced_share)
    session.ask(Question("paced-5-50"), 5, streams=streams)
    figures = session.ask(
        Question(f"paced-{count}-{_RATE}"), count, streams=streams, spread_seconds=session.sizes.spread_seconds
    )
    ideal_seconds = figures["last_start_seconds"] + (count - 1) / _RATE
    return {**figures, "wall_ratio": figures["wall_seconds"] / ideal_seconds}


def silent(session: Session) -> Figures:
    """Two moments of the same process, so that what it takes without any stream does not count."""
    many = min(session.sizes.open_streams, session.contender.open_streams)
    few = many // 5
    with_few = session.hold(few)
    with_many = session.hold(many - few)
    if (count := session.release()) != many:
        raise BenchmarkError(f"only {count} of {many} silent streams were still open")
    return {"kb_per_stream": (with_many - with_few) / (many - few)}


def readers(session: Session) -> Figures:
    """A run with many readers; memory is measured in the middle of it."""
    count, tokens = session.sizes.readers, session.sizes.readers_tokens
    alone = session.ask(Question(f"paced-{tokens}-{_RATE}"), tokens)
    found: list[int] = []
    before = memory_kb(session.server.pid)
    look = Timer(0.7 * tokens / _RATE, lambda: found.append(memory_kb(session.server.pid)))
    look.start()
    figures = session.ask(Question(f"paced-{tokens}-{_RATE}"), tokens, readers=count)
    look.join()
    return {
        **figures,
        "kb_per_reader": (found[0] - before) / count,
        "wall_ratio": figures["wall_seconds"] / alone["wall_seconds"],
    }


@dataclass(frozen=True, slots=True)
class Workload:
    """A row of the table, before it is measured."""

    measure: Callable[[Session], Figures]
    is_fresh: bool = False
    """It needs a process that has done nothing else."""
    only_ours: bool = False


WORKLOADS = {
    "start": Workload(start),
    "idle": Workload(idle),
    "one-token": Workload(one_token),
    "first-token": Workload(first_token),
    "burst": Workload(burst),
    "burst-output": Workload(burst_with_output, only_ours=True),
    "tools": Workload(tools, only_ours=True),
    "sequential-3": Workload(sequential_3, only_ours=True),
    "parallel-3": Workload(parallel_3, only_ours=True),
    "paced-100": Workload(paced_100),
    "paced-200": Workload(paced_200),
    "readers": Workload(readers, only_ours=True),
    "silent": Workload(silent, is_fresh=True),
}
