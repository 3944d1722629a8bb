"""swarmstream as a package among others: it takes one name, and leaves `app` to its users."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import swarmstream
from swarmstream import library

ROOT = Path(__file__).parents[2]
PROJECT = {"app/__init__.py": "", "app/tools.py": 'def add(a: int, b: int) -> int:\n    "Add."\n    return a + b\n'}
PROGRAM = """
import app.tools
from swarmstream import Agent
from swarmstream.tools.loading import load_tools
print(Agent("A", tools=[app.tools.add]).tools[0].name, load_tools(["app.tools:add"])["add"].name)
"""

TYPED = """
from typing import assert_type
from swarmstream import Agent, AgentRearrange, ConcurrentWorkflow, Failed, RunHandle

agent = Agent("A", max_loops="auto")
assert_type(agent.run("go"), str)
assert_type(agent.start("go"), RunHandle[str])
assert_type(AgentRearrange([agent], flow="A").run("go"), str)
assert_type(ConcurrentWorkflow([agent]).run("go"), list[dict[str, str]])
for event in agent.run_stream("go", with_events=True):
    if event["type"] == "token":
        assert_type(event["token"], str)
def show(failed: Failed) -> None:
    assert_type(failed.agent, str | None)
"""
MISTYPED = """
from swarmstream import Agnet
from swarmstream import Agent

Agent("A", max_loops="many")
"""


def test_a_project_with_a_package_called_app_has_both(tmp_path: Path) -> None:
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (0, "add add\n"), ran.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = f"import uv_build; uv_build.build_wheel({str(folder)!r})"
    path = os.pathsep.join(
        (str(Path(sys.executable).parent), os.environ["PATH"])
    )  # uv_build looks for its program there
    subprocess.run(
        [sys.executable, "-c", build], cwd=ROOT, env={"PATH": path}, check=True, capture_output=True, timeout=60
    )
    [made] = folder.glob("*.whl")
    return made


def test_the_public_names_are_those_of_the_library_and_no_others() -> None:
    for name in library.__all__:
        assert getattr(swarmstream, name) is getattr(library, name)
    assert getattr(swarmstream, "__all__") is library.__all__  # noqa: B009
    for name in ("Agnet", "frames_of_payload", "__path_of_nothing__"):
        with pytest.raises(AttributeError, match=name):
            getattr(swarmstream, name)


def test_the_wheel_installs_swarmstream_and_nothing_else(wheel: Path) -> None:
    assert wheel.stat().st_size < 1_000_000
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"swarmstream"}
    packaged = {name for name in names if name.startswith("swarmstream/") and not name.endswith("/")}
    source = ROOT / "app"
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert packaged == {name for name in files if "__pycache__" not in name}


def test_type_checkers_know_the_names_of_the_wheel_and_the_types_behind_them(wheel: Path, tmp_path: Path) -> None:
    packages = tmp_path / "venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    zipfile.ZipFile(wheel).extractall(packages)
    (packages / "dependencies.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    (tmp_path / "typed.py").write_text(TYPED)
    (tmp_path / "mistyped.py").write_text(MISTYPED)
    settings = {"venvPath": ".", "venv": "venv", "include": ["*.py"], "typeCheckingMode": "strict"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    checked = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson"],
        cwd=tmp_path,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = [(Path(each["file"]).stem, each.get("rule")) for each in json.loads(checked.stdout)["generalDiagnostics"]]
    assert {file for file, _ in found} == {"mistyped"}, found
    assert {"reportAttributeAccessIssue", "reportArgumentType"} <= {rule for _, rule in found}
