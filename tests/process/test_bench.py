"""The benchmark runs and reports figures."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "benchmark", "--quick", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_quick_round_of_the_relay_and_of_us_has_figures_for_both(tmp_path: Path) -> None:
    figures = tmp_path / "bench.json"
    process = bench("--only", "burst,tools,one-token", "--contenders", "relay,direct", "--json", str(figures))
    assert process.returncode == 0, process.stderr
    medians = json.loads(figures.read_text())["medians"]
    for contender in ("relay", "direct"):
        assert medians[contender]["burst"]["cpu_us_per_token"] > 0
        assert medians[contender]["one-token"]["cpu_us_per_request"] > 0
    assert "direct is to reach" in process.stdout


def test_the_steps_of_a_tokens_path_are_measured() -> None:
    process = bench("--steps")
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("ns/token") == 5


def test_an_unknown_benchmark_is_refused() -> None:
    process = bench("--only", "nonsense")
    assert process.returncode == 2
    assert "nonsense" in process.stderr
