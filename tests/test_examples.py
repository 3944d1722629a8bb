"""The programs in scripts/examples run as their first lines say, with the demo model."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from websockets.asyncio.client import connect

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parent.parent / "scripts" / "examples"
ANSWER = "This is swarmstream's built-in demo model"


def command(name: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]


@dataclass
class Outputs:
    """What the examples print, once they have ended well, and the file that one of them writes."""

    log: Path
    texts: dict[str, str]


@pytest.fixture(scope="module")
async def outputs(tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    """All examples that end by themselves, run at once: each waits for its model most of the time."""
    ran = Outputs(tmp_path_factory.mktemp("examples") / "run.jsonl", {})
    environ = {**os.environ, "COLUMNS": "120", "PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "error"}

    async def run(name: str, *arguments: str | Path) -> None:
        ended = await anyio.run_process(command(name, "tea", *arguments), env=environ, check=False)
        assert ended.returncode == 0, ended.stderr.decode()
        ran.texts[name] = ended.stdout.decode()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, "progress_bar", "--tokens", "1000")
            tasks.start_soon(run, "file_logging", ran.log)
            tasks.start_soon(run, "custom_panel")
            tasks.start_soon(run, "agent_panels")
    return ran


def test_each_example_is_run_here() -> None:
    run = {"websocket_bridge", "progress_bar", "file_logging", "custom_panel", "agent_panels"}
    assert {path.stem for path in EXAMPLES.iterdir() if path.suffix == ".py"} == run
    assert all(os.access(path, os.X_OK) for path in EXAMPLES.glob("*.py"))


def test_the_progress_bar_is_full_at_the_end(outputs: Outputs) -> None:
    bar, answer = outputs.texts["progress_bar"].split("\n", 1)
    assert bar.startswith("tokens ")
    assert bar.split()[-2] == str(len(answer.split()))
    assert answer.startswith(ANSWER)


def test_every_event_is_logged(outputs: Outputs) -> None:
    events = [json.loads(line) for line in outputs.log.read_text().splitlines()]
    assert [event["type"] for event in events if event["type"] != "token"] == [
        *("metadata", "start", "agent_start", "agent_end", "agent_start", "agent_end", "usage", "end")
    ]
    said = "".join(event["token"] for event in events if event.get("agent") == "Writer" and event["type"] == "token")
    assert f"Writer:\n{said}\n" in outputs.texts["file_logging"]
    assert all(event["at"].endswith("+00:00") for event in events)


def test_a_panel_of_ones_own_holds_the_whole_answer(outputs: Outputs) -> None:
    drawn = outputs.texts["custom_panel"]
    assert "─ done ─" in drawn
    assert ANSWER in drawn


def test_each_agent_has_a_panel(outputs: Outputs) -> None:
    drawn = outputs.texts["agent_panels"]
    for name in ("Optimist", "Pessimist", "Judge"):
        assert f" {name} ─" in drawn


async def test_a_websocket_gets_every_event_of_each_task() -> None:
    async with await anyio.open_process(command("websocket_bridge", "--port", "0")) as bridge:
        try:
            assert bridge.stdout
            with anyio.fail_after(20):
                url = (await bridge.stdout.receive()).decode().strip()
                async with connect(url) as websocket:
                    for task in ("tea", "coffee"):
                        await websocket.send(task)
                        events = [json.loads(await websocket.recv())]
                        while events[-1]["type"] != "end":
                            events.append(json.loads(await websocket.recv()))
                        said = "".join(event["token"] for event in events if event["type"] == "token")
                        assert f'The task is "{task}"' in said
                        assert events[-1]["status"] == "success"
        finally:
            bridge.terminate()
