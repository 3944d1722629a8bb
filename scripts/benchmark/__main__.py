"""Measures what a token, a request and an open stream cost: `scripts/bench`."""

import argparse
import json
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from contenders import CONTENDERS, Contender, has_proxy
from processes import BenchmarkError, Worker
from report import ROWS, Measured, Results, document, table, targets
from workloads import QUICK, WORKLOADS, Figures, Session, Sizes

_LONG_SECONDS = 10.0
"""A workload that takes a contender longer is not measured again."""

_WITHOUT_PROXY = f"""\
proxy: left out, its packages are not installed. With uv, from the project's folder:
  uv run --no-sync --with 'litellm[proxy]=={version("litellm")}' python scripts/benchmark"""


class Options(argparse.Namespace):
    """The command line."""

    rounds: int
    only: list[str]
    contenders: list[str]
    quick: bool
    json: Path
    steps: bool


class Benchmark:
    """Rounds in which every contender is measured with every workload."""

    def __init__(self, contenders: Sequence[Contender], workloads: Sequence[str], sizes: Sizes) -> None:
        self.results = Results()
        self.contenders = contenders
        self._workloads = workloads
        self._sizes = sizes
        self._done: set[tuple[str, str]] = set()

    def run(self, rounds: int) -> None:
        with Worker("provider.py") as provider, Worker("client.py") as client:
            url = f"http://127.0.0.1:{provider.answer()['port']}/v1"
            for number in range(1, rounds + 1):
                for contender in self.contenders:
                    for is_fresh in (False, True):
                        self._measure(number, contender, url, provider, client, is_fresh=is_fresh)

    def _measure(
        self, number: int, contender: Contender, url: str, provider: Worker, client: Worker, *, is_fresh: bool
    ) -> None:
        """Return the workloads for a used process, or those for a fresh one."""
        names = [name for name in self._workloads if self._is_due(contender, name, is_fresh=is_fresh)]
        if not names:
            return
        try:
            with contender.serve(url) as server:
                session = Session(contender, server, provider, client, self._sizes)
                for name in names:
                    self._take(number, session, name)
        except BenchmarkError as error:
            self._fail(number, contender.name, "start", error)

    def _is_due(self, contender: Contender, name: str, *, is_fresh: bool) -> bool:
        workload = WORKLOADS[name]
        applies = contender.is_ours or not workload.only_ours
        return applies and workload.is_fresh == is_fresh and (contender.name, name) not in self._done

    def _take(self, number: int, session: Session, name: str) -> None:
        began = time.monotonic()
        try:
            figures = WORKLOADS[name].measure(session)
        except BenchmarkError as error:
            self._fail(number, session.contender.name, name, error)
            return
        if time.monotonic() - began > _LONG_SECONDS:
            self._done.add((session.contender.name, name))
        self.results.measured.append(Measured(number, session.contender.name, name, figures))
        _tell(f"round {number}, {session.contender.name}, {name}: {_brief(name, figures)}")

    def _fail(self, number: int, contender: str, name: str, error: BenchmarkError) -> None:
        self.results.errors.append(f"round {number}, {contender}, {name}: {error}")
        _tell(self.results.errors[-1])


def _brief(name: str, figures: Figures) -> str:
    return ", ".join(f"{figures[row.figure]:.4g} {row.unit}" for row in ROWS if row.workload == name)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    names = [contender.name for contender in CONTENDERS]
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender has its turn [3]")
    parser.add_argument(
        "--only",
        type=_list_of(WORKLOADS),
        default=list(WORKLOADS),
        metavar="WORK,...",
        help=f"of {', '.join(WORKLOADS)}",
    )
    parser.add_argument(
        "--contenders", type=_list_of(names), default=names, metavar="A,...", help=f"of {', '.join(names)}"
    )
    parser.add_argument("--quick", action="store_true", help="one small round: whether it works, not what it costs")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where all rounds go [bench.json]")
    parser.add_argument("--steps", action="store_true", help="only the steps of a token's way inside the process")
    return parser.parse_args(namespace=Options())


def _list_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        given = text.split(",")
        if strange := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(strange)}: there are only {', '.join(known)}")
        return given

    return names


def _competitors(names: Sequence[str]) -> list[Contender]:
    """Return the contenders of these names that can be run here, in the order of the table."""
    chosen = [contender for contender in CONTENDERS if contender.name in names]
    if "proxy" in names and not has_proxy():
        return [contender for contender in chosen if contender.name != "proxy"]
    return chosen


def _show(benchmark: Benchmark, rounds: int) -> None:
    print()
    for contender in benchmark.contenders:
        print(f"{contender.name}: {contender.meaning}")
    for block in (table(benchmark.results, rounds), targets(benchmark.results, "direct")):
        print("\n".join(["", *block]))


def _stop(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def main() -> int:
    options = _options()
    if options.steps:
        from steps import measure  # imports the server's own modules

        for line in measure():
            print(line)
        return 0
    signal.signal(signal.SIGTERM, _stop)
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # for every process that is started
    rounds = 1 if options.quick else options.rounds
    benchmark = Benchmark(_competitors(options.contenders), options.only, QUICK if options.quick else Sizes())
    began = time.monotonic()
    try:
        benchmark.run(rounds)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    seconds = round(time.monotonic() - began)
    results = benchmark.results
    given = {"rounds": rounds, "quick": options.quick, "only": options.only, "seconds": seconds}
    options.json.write_text(json.dumps(document(results, given), indent=1) + "\n")
    _show(benchmark, rounds)
    if "proxy" in options.contenders and not any(contender.name == "proxy" for contender in benchmark.contenders):
        print(f"\n{_WITHOUT_PROXY}")
    print(f"\n{rounds} round{'s' * (rounds > 1)} in {seconds} s; all that was measured is in {options.json}")
    for error in results.errors:
        print(f"BROKEN: {error}", file=sys.stderr)
    return 1 if results.errors else 0


if __name__ == "__main__":
    sys.exit(main())
