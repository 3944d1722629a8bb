"""swarmstream as a package among others: it takes one name, and leaves `app` to its users."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = {"app/__init__.py": "", "app/tools.py": 'def add(a: int, b: int) -> int:\n    "Add."\n    return a + b\n'}
PROGRAM = """
import app.tools
from swarmstream import Agent
from swarmstream.tools.loading import load_tools
print(Agent("A", tools=[app.tools.add]).tools[0].name, load_tools(["app.tools:add"])["add"].name)
"""


def test_a_project_with_a_package_called_app_has_both(tmp_path: Path) -> None:
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (0, "add add\n"), ran.stderr


def test_the_wheel_installs_swarmstream_and_nothing_else(tmp_path: Path) -> None:
    build = f"import uv_build; uv_build.build_wheel({str(tmp_path)!r})"
    path = os.pathsep.join(
        (str(Path(sys.executable).parent), os.environ["PATH"])
    )  # uv_build looks for its program there
    subprocess.run(
        [sys.executable, "-c", build], cwd=ROOT, env={"PATH": path}, check=True, capture_output=True, timeout=60
    )
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 1_000_000
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"swarmstream"}
    packaged = {name for name in names if name.startswith("swarmstream/") and not name.endswith("/")}
    source = ROOT / "app"
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert packaged == {name for name in files if "__pycache__" not in name}
