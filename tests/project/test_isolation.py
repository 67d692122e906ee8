"""A failed test fails no other test, and the suite passes in the background of a shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
ARGUMENTS = ("-p", "no:randomly", "-p", "no:xdist", "-p", "no:cacheprovider")

LEFT_OPEN = {
    "socket": "import socket; left = socket.create_server(('127.0.0.1', 0))",
    "file": "left = open(__file__)",
    "event_loop": "import asyncio; left = asyncio.new_event_loop()",
    "coroutine": "import asyncio; left = asyncio.sleep(1)",
    "process": "import subprocess; left = subprocess.Popen(['true'], stdout=subprocess.PIPE); left.wait()",
}

LEAVES = """
def test_leaves():
    {left}
    cycle = [left]
    cycle.append(cycle)
    assert not {fails}
"""

NEIGHBOUR = """
import gc

def test_neighbour():
    gc.collect()
"""


def outcomes(pytester: pytest.Pytester, *, fails: bool) -> dict[str, int]:
    """Run modules that leave something open, and one between each two that does not, with the hooks of this suite."""
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text())
    modules = {f"test_{kind}": LEAVES.format(left=left, fails=fails) for kind, left in LEFT_OPEN.items()}
    pytester.makepyfile(**modules, **{f"{name}_neighbour": NEIGHBOUR for name in modules})
    result = pytester.runpytest_subprocess(*ARGUMENTS, "-p", "no:asyncio", "-W", "error", "-rA")
    result.stdout.fnmatch_lines_random([f"PASSED {name}_neighbour.py::test_neighbour" for name in modules])
    return result.parseoutcomes()


def test_what_a_failed_test_leaves_open_does_not_fail_another_module(pytester: pytest.Pytester) -> None:
    assert outcomes(pytester, fails=True) == {"failed": len(LEFT_OPEN), "passed": len(LEFT_OPEN)}


def test_what_a_module_leaves_open_is_an_error_of_this_module(pytester: pytest.Pytester) -> None:
    assert outcomes(pytester, fails=False) == {"passed": 2 * len(LEFT_OPEN), "errors": len(LEFT_OPEN)}


@pytest.mark.parametrize(
    "tests",
    [
        pytest.param(["tests/unit/engine/test_signals.py", "-k", "ready"], id="a child process"),
        pytest.param(["tests/cli/test_watch.py", "-k", "ctrl_c"], id="this process"),
    ],
)
def test_tests_of_ctrl_c_pass_where_the_shell_ignores_it(tests: list[str]) -> None:
    """`nohup make test &` ignores SIGINT, and processes inherit that."""
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-m", "pytest", "-q", *ARGUMENTS, *tests]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
