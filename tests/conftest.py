"""What the whole suite has: the count of the moments at which processes were killed, at the end of a run."""

import os
from collections import Counter
from collections.abc import Iterator

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    killed: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            killed.update(dict(value for name, value in getattr(report, "user_properties", ()) if name == "killed"))
    if killed:
        clouds = ", ".join(f"{cloud} {count}" for cloud, count in sorted(killed.items()))
        terminalreporter.write_line(f"killed at {killed.total()} points on {len(killed)} clouds: {clouds}")


@pytest.fixture(scope="module", autouse=True)
def _environment_left_as_found() -> Iterator[None]:
    """A cloud or server that a module leaves in the environment of this process would be used by the tests of others."""
    before = dict(os.environ)
    yield
    after = dict(os.environ)
    # pytest's own, of the test that runs.
    left = {name for name, value in after.items() ^ before.items() if name != "PYTEST_CURRENT_TEST"}
    assert not left, f"this module left in the environment of the process, or took from it: {', '.join(sorted(left))}"
