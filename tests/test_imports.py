"""What the package's edges import: little, so that they can stand under everything else."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import {module}
ours = [module for name, module in sys.modules.items() if name.startswith("swarmstream.")]
print(*[module.__name__ for module in ours if not hasattr(module, "__path__")])
"""


def imported_by(module: str) -> set[str]:
    """The modules of ours that an interpreter has when it has imported this one."""
    program = PROGRAM.format(module=module)
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return set(ran.stdout.split()) - {module}


@pytest.mark.parametrize(("module", "limit"), [("swarmstream", 0), ("swarmstream.llm.base", 3)])
def test_a_module_at_the_ground_imports_no_more_of_ours_than_its_limit(module: str, limit: int) -> None:
    assert len(imported := imported_by(module)) <= limit, imported
