"""`swarmstream backup FILE`: the runs of a server that goes on, in one file that can be put back."""

import os
import stat
from pathlib import Path

import anyio
import pytest

from swarmstream.journal.sqlite.backup import DamagedRuns, back_up
from swarmstream.journal.sqlite.data_directory import FILE
from swarmstream.llm.providers.demo.model import DemoModel
from tests.clients.process import run
from tests.conftest import client, serving
from tests.journal.test_sqlite_store import old_store

pytestmark = pytest.mark.anyio

QUICK = {"demo": DemoModel(first_token_seconds=0, token_seconds=0)}
PAYLOAD = {"agent_config": {"agent_name": "A", "model_name": "demo/swarm"}, "task": "go"}


async def test_a_backup_of_a_running_server_can_be_put_back(tmp_path: Path) -> None:
    data, restored, file = tmp_path / "data", tmp_path / "restored", tmp_path / "backup"
    async with serving(data_dir=data, models=QUICK) as url, client(url) as http:
        job_id = (await http.post("/v1/agent/completions", json=PAYLOAD)).json()["job_id"]
        before = await http.get(f"/v1/runs/{job_id}/stream")
        done, again = [
            await anyio.to_thread.run_sync(lambda: run("backup", str(file), SWARMSTREAM_DATA_DIR=str(data)))
            for _ in range(2)
        ]
        assert (await http.post("/v1/agent/completions", json=PAYLOAD)).status_code == 200, "the server goes on"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{file}: {file.stat().st_size:,} bytes, 1 run\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (again.returncode, again.stderr) == (2, f"{file} is there already.\n")
    assert sorted(os.listdir(tmp_path)) == ["backup", "data"], "nothing stands beside it"

    restored.mkdir(mode=0o700)
    file.rename(restored / FILE)
    async with serving(data_dir=restored, models=QUICK) as url, client(url) as http:
        [found] = (await http.get("/v1/runs")).json()["data"]
        assert found["job_id"] == job_id
        assert (await http.get(f"/v1/runs/{job_id}/stream")).content == before.content


def test_runs_that_have_not_ended_are_counted_and_a_server_need_not_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    old_store(data, runs=3, body=b"{}")
    made = back_up(data, tmp_path / "backup")
    assert (made.runs, made.live) == (4, 1)
    done = run("backup", str(tmp_path / "other"), SWARMSTREAM_DATA_DIR=str(data))
    assert done.stdout.endswith(" bytes, 4 runs, 1 of them not ended\n")


def test_no_backup_is_made_of_damage_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "backup"
    data.mkdir(mode=0o700)
    old_store(data, runs=40, body=b"x" * 10_000)
    content = bytearray((data / FILE).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8192] = b"\xff" * 8192
    (data / FILE).write_bytes(content)
    with pytest.raises(DamagedRuns, match=FILE):
        back_up(data, file)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    failed = run("backup", str(file), SWARMSTREAM_DATA_DIR=str(data))
    assert failed.returncode == 1
    assert failed.stderr.startswith("No backup was made: ")


def test_where_there_is_nothing_to_copy_or_nowhere_to_write_no_file_is_made(tmp_path: Path) -> None:
    for folder, target, code in ((str(tmp_path / "none"), "backup", 2), ("", "backup", 2)):
        refused = run("backup", str(tmp_path / target), SWARMSTREAM_DATA_DIR=folder)
        assert refused.returncode == code
        assert refused.stderr
    assert not list(tmp_path.iterdir())
