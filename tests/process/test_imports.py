"""The modules at the ground import little, so that everything else can import them."""

import subprocess
import sys
import threading

import pytest
from anyio import create_task_group, fail_after, from_thread, lowlevel

from swarmstream.lazy import LazyImport

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
