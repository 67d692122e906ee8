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
def _environment_of_its_own() -> Iterator[None]:
    """Whatever a module's clouds and servers leave in the environment of this process ends with the module."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
