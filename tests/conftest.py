"""Hooks and fixtures for the complete suite: no test affects a test of another module."""

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterator

import pytest

# SDKs and local clouds create many objects that stay. Each module of tests ends with a collection of its own.
gc.set_threshold(50_000, 20, 100)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report at how many points of each cloud the tests killed processes, and what was skipped."""
    killed: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        # A test has several reports, which all have its properties.
        for report in (report for report in reports if getattr(report, "when", "") == "call"):
            killed.update(dict(value for name, value in getattr(report, "user_properties", ()) if name == "killed"))
    if killed:
        clouds = ", ".join(f"{cloud} {count}" for cloud, count in sorted(killed.items()))
        terminalreporter.write_line(f"killed at {killed.total()} points on {len(killed)} clouds: {clouds}")
    _write_skips(terminalreporter)


def _write_skips(terminalreporter: pytest.TerminalReporter) -> None:
    """Report how many tests were skipped for each reason."""
    # For a skipped test, `longrepr` is its file, line and reason.
    reasons = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple)
    )
    if reasons:
        terminalreporter.section("skipped tests, by reason")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5}  {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Pause the garbage collector: the modules and their thousands of tests stay, and it would walk them repeatedly."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Free what a failed test left open, without a second report.

    pytest keeps the traceback of a failed test, and with it the test's variables, until the next test begins. There, the
    warnings about unclosed files, sockets or processes would fail a test that has nothing to do with them.
    """
    failed_before = item.session.testsfailed
    result = yield
    if item.session.testsfailed > failed_before:
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            vars(sys).pop(name, None)
        report_unraisable, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
        try:
            gc.collect()
        finally:
            sys.unraisablehook = report_unraisable
    return result


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_to_collect() -> Iterator[None]:
    """Free what a module left in reference cycles, so that warnings about it fail a test of this module."""
    # Older objects, most of them of the SDKs, are not searched: with them, a collection takes a quarter of a second.
    gc.freeze()
    yield
    gc.collect()
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _environment_left_as_found() -> Iterator[None]:
    """Check that the module leaves no cloud or server in the environment, where later tests would use it."""
    before = dict(os.environ)
    yield
    after = dict(os.environ)
    # pytest sets this variable to the name of the current test.
    left = {name for name, value in after.items() ^ before.items() if name != "PYTEST_CURRENT_TEST"}
    assert not left, f"this module left changes in the environment of the process: {', '.join(sorted(left))}"


@pytest.fixture(scope="session", autouse=True)
def _default_sigint() -> Iterator[None]:
    """Give SIGINT its default effect in the tests and in the processes that they start.

    A shell starts `nohup make test &` with SIGINT ignored. Processes inherit that, and Python then installs no handler
    that raises KeyboardInterrupt.
    """
    is_ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if is_ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    if is_ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
