"""Results: medians, their table, the targets of the direct lane, and the file that keeps everything."""

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

from workloads import Figures

_PACKAGES = [
    "msgspec",
    "fastapi",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "sse-starlette",
    "aiohttp",
    "orjson",
    "pydantic",
]


class Row(NamedTuple):
    """A line of the table."""

    workload: str
    figure: str
    unit: str


ROWS = [
    Row("burst", "cpu_us_per_token", "µs CPU/token"),
    Row("burst-output", "cpu_us_per_token", "µs CPU/token"),
    Row("tools", "cpu_us_per_token", "µs CPU/token"),
    Row("sequential-3", "cpu_us_per_token", "µs CPU/token"),
    Row("parallel-3", "cpu_us_per_token", "µs CPU/token"),
    Row("paced-100", "cpu_us_per_token", "µs CPU/token"),
    Row("paced-100", "latency_p50_ms", "ms p50"),
    Row("paced-100", "latency_p99_ms", "ms p99"),
    Row("paced-200", "cpu_us_per_token", "µs CPU/token"),
    Row("paced-200", "latency_p50_ms", "ms p50"),
    Row("paced-200", "latency_p99_ms", "ms p99"),
    Row("paced-200", "wall_ratio", "wall ÷ ideal"),
    Row("one-token", "cpu_us_per_request", "µs CPU/request"),
    Row("first-token", "first_token_p50_ms", "ms p50"),
    Row("silent", "kb_per_stream", "kB/stream"),
    Row("readers", "latency_p50_ms", "ms p50"),
    Row("readers", "latency_p99_ms", "ms p99"),
    Row("readers", "kb_per_reader", "kB/reader"),
    Row("readers", "wall_ratio", "wall ÷ alone"),
    Row("readers", "cpu_us_per_token", "µs CPU/frame"),
    Row("idle", "mb", "MB"),
    Row("start", "seconds", "s"),
]


class Target(NamedTuple):
    """A target for a figure of the direct lane."""

    workload: str
    figure: str
    against: Literal["", "× relay", "more than relay", "× burst", "times less than afternoon", "more than memory"]
    limit: float


TARGETS = [
    Target("burst", "cpu_us_per_token", "", 10),
    Target("burst", "cpu_us_per_token", "× relay", 2),
    Target("burst", "cpu_us_per_token", "times less than afternoon", 50),
    Target("burst-output", "cpu_us_per_token", "", 15),
    Target("tools", "cpu_us_per_token", "× burst", 1.1),
    Target("sequential-3", "cpu_us_per_token", "× burst", 1.25),
    Target("parallel-3", "cpu_us_per_token", "× burst", 1.25),
    Target("paced-100", "cpu_us_per_token", "× relay", 1.3),
    Target("paced-100", "cpu_us_per_token", "times less than afternoon", 10),
    Target("paced-100", "latency_p50_ms", "", 2),
    Target("paced-100", "latency_p99_ms", "", 15),
    Target("paced-100", "cpu_us_per_token", "more than memory", 3),
    Target("paced-100", "latency_p99_ms", "more than memory", 2),
    Target("paced-200", "wall_ratio", "", 1.15),
    Target("one-token", "cpu_us_per_request", "× relay", 2),
    Target("first-token", "first_token_p50_ms", "more than relay", 1.5),
    Target("silent", "kb_per_stream", "× relay", 1.3),
    Target("readers", "latency_p99_ms", "", 100),
    Target("readers", "kb_per_reader", "", 30),
    Target("readers", "wall_ratio", "", 1.05),
    Target("idle", "mb", "", 80),
    Target("start", "seconds", "", 0.8),
]


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of a workload of a contender in a round."""

    round: int
    contender: str
    workload: str
    figures: Figures


@dataclass(slots=True)
class Results:
    """All figures."""

    measured: list[Measured] = field(default_factory=list[Measured])
    errors: list[str] = field(default_factory=list[str])

    def values(self, contender: str, workload: str, figure: str) -> list[float]:
        return [
            one.figures[figure]
            for one in self.measured
            if (one.contender, one.workload) == (contender, workload) and figure in one.figures
        ]

    def median(self, contender: str, workload: str, figure: str) -> float | None:
        values = self.values(contender, workload, figure)
        return median(values) if values else None

    @property
    def contenders(self) -> list[str]:
        return list(dict.fromkeys(one.contender for one in self.measured))


def table(results: Results, rounds: int) -> Iterator[str]:
    """Render medians, in brackets as multiples of the relay's; a star marks a single round."""
    names = results.contenders
    lines = [["", "", *names]]
    has_star = False
    for row in ROWS:
        cells: list[str] = []
        relay = results.median("relay", row.workload, row.figure)
        for name in names:
            values = results.values(name, row.workload, row.figure)
            star = "*" if len(values) < rounds else ""
            has_star |= bool(values and star)
            cells.append(_cell(median(values), relay if name != "relay" else None) + star if values else "–")
        if set(cells) != {"–"}:
            lines.append([row.workload, row.unit, *cells])
    yield from _aligned(lines)
    if has_star:
        yield f"* in fewer than {rounds} rounds: what takes a contender long is measured once"
    yield from _own_costs(results, names)


def _cell(value: float, relay: float | None) -> str:
    return f"{_number(value)} ({_number(value / relay)}×)" if relay else _number(value)


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = [
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _own_costs(results: Results, names: Sequence[str]) -> Iterator[str]:
    """Render the measuring's own share of the machine, from the workload that disturbs it least."""
    for workload in ("burst", "paced-100"):
        provider = results.median(names[0], workload, "provider_us_per_token")
        client = results.median(names[0], workload, "client_us_per_token")
        if provider is not None and client is not None:
            yield f"{workload}: provider and client take {provider:.1f} and {client:.1f} µs CPU/token"


def judged(results: Results, contender: str) -> Iterator[tuple[Target, float, bool]]:
    """Yield each target with the figure that was measured, and whether that is enough."""
    for target in TARGETS:
        value = results.median(contender, target.workload, target.figure)
        reached = _against(results, contender, target, value) if value is not None else None
        if reached is not None:
            is_least = target.against == "times less than afternoon"
            yield target, reached, reached >= target.limit if is_least else reached <= target.limit


def _against(results: Results, contender: str, target: Target, value: float) -> float | None:
    if not target.against:
        return value
    if target.against == "× burst":
        other = results.median(contender, "burst", target.figure)
    else:
        other = results.median(target.against.split()[-1], target.workload, target.figure)
    if not other:
        return None
    match target.against:
        case "more than relay" | "more than memory":
            return value - other
        case "times less than afternoon":
            return other / value
        case _:
            return value / other


def targets(results: Results, contender: str) -> Iterator[str]:
    units = {(row.workload, row.figure): row.unit for row in ROWS}
    lines = [[f"{contender} is to reach", "", "limit", "reached", ""]]
    for target, reached, is_enough in judged(results, contender):
        unit = units[target.workload, target.figure]
        what = f"{unit}, {target.against}" if target.against else unit
        sign = "≥" if target.against == "times less than afternoon" else "≤"
        lines.append(
            [target.workload, what, f"{sign} {target.limit:g}", _number(reached), "ok" if is_enough else "over"]
        )
    if len(lines) > 1:
        yield from _aligned(lines)


def document(results: Results, options: dict[str, Any]) -> dict[str, Any]:
    """Return everything, for a file."""
    medians: dict[str, dict[str, Figures]] = {}
    for one in results.measured:
        workload = medians.setdefault(one.contender, {}).setdefault(one.workload, {})
        for figure in one.figures:
            workload[figure] = median(results.values(one.contender, one.workload, figure))
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": dict(_versions()),
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "options": options,
        "medians": medians,
        "targets": [
            {**target._asdict(), "reached": reached, "ok": is_enough}
            for target, reached, is_enough in judged(results, "direct")
        ],
        "errors": results.errors,
        "rounds": [
            {"round": one.round, "contender": one.contender, "workload": one.workload, **one.figures}
            for one in results.measured
        ],
    }


def _versions() -> Iterator[tuple[str, str]]:
    for package in ["swarmstream", "litellm", *_PACKAGES]:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
