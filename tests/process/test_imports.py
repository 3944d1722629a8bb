"""The modules at the ground import little, and test modules import no test module."""

import ast
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio import create_task_group, fail_after, from_thread, lowlevel

from swarmstream.lazy import LazyImport

TESTS = Path(__file__).resolve().parents[1]
MODULES = [path for path in sorted(TESTS.rglob("*.py")) if path.parent.name != "guide_samples"]
MAX_LINES = 500

PROGRAM = """
import sys
import {module}
ours = [module for name, module in sys.modules.items() if name.startswith("swarmstream.")]
print(*[module.__name__ for module in ours if not hasattr(module, "__path__")])
"""


def imported_by(module: str) -> set[str]:
    """Return our modules that an interpreter has loaded once it has imported this one."""
    program = PROGRAM.format(module=module)
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return set(ran.stdout.split()) - {module}


@pytest.mark.parametrize(
    ("module", "limit"), [("swarmstream", 0), ("swarmstream.llm.messages", 0), ("swarmstream.llm.base", 3)]
)
def test_a_module_at_the_ground_imports_no_more_of_ours_than_its_limit(module: str, limit: int) -> None:
    assert len(imported := imported_by(module)) <= limit, imported


@pytest.mark.anyio
async def test_concurrent_callers_share_one_lazy_import_in_a_thread() -> None:
    """Ten agents that start at once occupy one thread, not ten of the forty that there are."""
    threads: list[int] = []

    def load() -> str:
        threads.append(threading.get_ident())
        from_thread.run(lowlevel.checkpoint)  # the others come meanwhile
        return "loaded"

    needed = LazyImport(load)
    found: list[str] = []

    async def need() -> None:
        found.append(await needed.get())

    with fail_after(30):
        async with create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(need)
    assert found == ["loaded"] * 10
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.anyio
async def test_a_lazy_import_that_failed_is_tried_again() -> None:
    results = iter([False, True])

    def load() -> str:
        if not next(results):
            raise ImportError("not yet")
        return "loaded"

    needed = LazyImport(load)
    with fail_after(30):
        with pytest.raises(ImportError, match="not yet"):
            await needed.get()
        assert await needed.get() == "loaded"


def test_no_module_of_the_tests_imports_a_test_module() -> None:
    """A shared function stands in a module of its own, so that a test module can be moved, split and run alone."""
    wrong = {str(path.relative_to(TESTS)): name for path in MODULES for name in imports_of(path) if names_tests(name)}
    assert wrong == {}


def imports_of(path: Path) -> Iterator[str]:
    """Yield the dotted name of every module or object that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)


def names_tests(name: str) -> bool:
    return any(part.startswith("test_") for part in name.split("."))


def test_no_file_of_tests_is_longer_than_500_lines() -> None:
    lengths = {str(path.relative_to(TESTS)): len(path.read_bytes().splitlines()) for path in MODULES}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_every_folder_of_tests_is_a_package() -> None:
    """Two test modules of one name in folders that are no packages cannot be collected together."""
    folders = {path.parent for path in MODULES}
    assert [str(folder.relative_to(TESTS)) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []
