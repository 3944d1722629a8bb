"""`serve --dev` and `scripts/serve`: what somebody meets who tries things out."""

import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from swarmstream.dev_key import dev_key
from swarmstream.journal.sqlite.data_directory import DEV_KEY, take_lock
from swarmstream.settings import Settings
from tests.clients.process import run, server_process
from tests.conftest import KEY, ROOT, client

pytestmark = pytest.mark.anyio


def made(**fields: Any) -> Settings:
    return Settings.model_construct(**fields)


async def test_a_second_server_in_one_folder_has_the_same_key_and_keeps_its_runs_in_memory(tmp_path: Path) -> None:
    environ = {"SWARMSTREAM_DATA_DIR": "data"}
    async with (
        server_process("--dev", environ=environ, cwd=tmp_path, nohup=True) as first,
        server_process("--dev", environ=environ, cwd=tmp_path) as second,
    ):
        key, *origin = (await first.printed("  key:")).split()[1:]
        assert " ".join(origin) == f"(kept in {Path('data', DEV_KEY)})"
        assert (await second.printed("  key:")).split()[1] == key
        assert (await first.printed("  runs:")).endswith(f"written down in {tmp_path / 'data'}")
        assert "in memory" in await second.printed("  runs:")
        assert "WARNING swarmstream.server: another process serves the data directory data" in second.log
        assert "WARNING" not in first.log
        async with client(second.url, key=key) as http:
            answer = await http.get("/v1/runs")
        assert answer.status_code == 200

        port = first.url.rpartition(":")[2]
        taken = await anyio.to_thread.run_sync(lambda: run("serve", "--dev", "--port", port, cwd=tmp_path))
        assert (taken.returncode, taken.stdout) == (2, "")
        assert taken.stderr == (
            f"127.0.0.1, port {port}: another program listens there. --port takes another port, --port 0 one that is "
            "free.\n"
        )

        second.process.send_signal(signal.SIGHUP)
        assert await second.stopped(30) == 0
        assert "Stopping: no new runs" in second.log, "as at any other signal, runs may end"
        ignored = int(
            (await anyio.Path(f"/proc/{first.process.pid}/status").read_text()).split("SigIgn:")[1].split()[0], 16
        )
        assert ignored & 1 << signal.SIGHUP - 1, "what nohup started outlives its terminal"
    assert key not in first.log + second.log


async def test_the_operators_own_key_is_used_and_not_written_to_a_file_that_collects_what_is_printed() -> None:
    async with server_process("--dev", environ={"SWARMSTREAM_API_KEYS": f"{KEY},other"}) as server:
        assert (await server.printed("  key:")).split(maxsplit=1)[1] == "$KEY  (from SWARMSTREAM_API_KEYS)"
        assert ' -H "x-api-key: $KEY" ' in await server.printed("curl ")
        assert "in memory" in await server.printed("  runs:")
        assert KEY not in server.out + server.log
        async with client(server.url) as http:
            assert (await http.get("/v1/runs")).status_code == 200


def test_a_dev_key_is_its_owners_only_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    first, again = dev_key(made(data_dir=folder)), dev_key(made(data_dir=folder))
    assert first == again
    assert first.value.startswith("dev-")
    assert stat.S_IMODE((folder / DEV_KEY).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", DEV_KEY]


@pytest.mark.parametrize("content", [b"", b"dev-short\n", b"\xff" * 28, b"dev-" + b"x" * 24 + b"\ny"])
def test_a_damaged_dev_key_is_made_anew(content: bytes, tmp_path: Path) -> None:
    (tmp_path / DEV_KEY).write_bytes(content)
    made_anew = dev_key(made(data_dir=tmp_path))
    assert made_anew == dev_key(made(data_dir=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".gitignore", DEV_KEY]
    assert (tmp_path / ".gitignore").read_text() == "*\n", "neither key nor prompts are committed by mistake"


def test_where_no_key_can_be_kept_each_start_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, origin in (
        (None, "for this run only"),
        (tmp_path / "file" / "data", "cannot be used, Not a directory"),
    ):
        one, other = dev_key(made(data_dir=folder)), dev_key(made(data_dir=folder))
        assert one.value != other.value
        assert origin in one.origin


def test_the_operators_first_key_is_the_dev_key(tmp_path: Path) -> None:
    key = dev_key(made(api_keys=(SecretStr("mine"), SecretStr("other")), data_dir=tmp_path))
    assert (key.value, key.is_operators) == ("mine", True)
    assert not list(tmp_path.iterdir())


def test_without_dev_a_directory_in_use_is_no_reason_to_forget_runs(tmp_path: Path) -> None:
    take_lock(tmp_path)
    refused = run("serve", "--port=0", SWARMSTREAM_API_KEYS=KEY, SWARMSTREAM_DATA_DIR=str(tmp_path))
    assert refused.returncode == 2
    assert refused.stderr.endswith("Stop it, or set SWARMSTREAM_DATA_DIR.\n")


@pytest.mark.parametrize("host", ["192.0.2.1", "nobody.invalid"])
def test_an_address_that_is_not_ours_is_named_before_anything_else(host: str) -> None:
    refused = run("serve", SWARMSTREAM_HOST=host, SWARMSTREAM_API_KEYS=KEY)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"{host}, port 8000: nobody can listen there: ")
    assert refused.stderr.count("\n") == 1


def test_scripts_serve_stays_in_the_callers_folder(tmp_path: Path) -> None:
    """In a copy of the checkout as far as the script needs it, so that nothing is installed."""
    checkout, project = tmp_path / "a checkout", tmp_path / "project"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "serve", checkout / "scripts" / "serve")
    (checkout / "scripts" / "venv").write_text("#!/bin/sh\n")
    (checkout / "scripts" / "venv").chmod(0o755)
    (checkout / ".venv").symlink_to(sys.prefix)
    project.mkdir()
    # It is imported and then refused: the server need not start.
    (project / "orders.py").write_text("raise RuntimeError('found the one in the project')\n")
    refused = subprocess.run(
        ["../a checkout/scripts/serve", "--port=0"],
        cwd=project,
        env={"PATH": "/usr/bin:/bin", "SWARMSTREAM_TOOLS": "orders:find_orders"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 2
    assert "found the one in the project" in refused.stderr
    assert (project / ".swarmstream" / DEV_KEY).is_file()
