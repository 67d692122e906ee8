"""What the whole suite has: the count of the moments at which processes were killed, at the end of a run."""

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
