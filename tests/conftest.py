"""What the whole suite has: the count of the moments at which processes were killed, at the end of a run."""

import os
from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    killed: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            killed.update(dict(value for name, value in getattr(report, "user_properties", ()) if name == "killed"))
    if killed:
        clouds = ", ".join(f"{cloud} {count}" for cloud, count in sorted(killed.items()))
        terminalreporter.write_line(f"killed at {killed.total()} points on {len(killed)} clouds: {clouds}")


_BEGUN_WITH: dict[str, str] = {}


@pytest.fixture(scope="module", autouse=True)
def _environment_of_its_own() -> None:
    """Whatever clouds and servers of other modules have left in the environment of this process does not reach this one."""
    if not _BEGUN_WITH:
        _BEGUN_WITH.update(os.environ)
    for name in os.environ.keys() - _BEGUN_WITH.keys():
        del os.environ[name]
    os.environ.update(_BEGUN_WITH)
