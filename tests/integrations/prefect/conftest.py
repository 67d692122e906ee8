"""A real Prefect server for the tests of this folder, on 127.0.0.1 and in a database of its own, and a process that runs flows."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from multicompute.testing import LocalClouds, local_clouds

# Before the first import of prefect: it reads these then.
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            # Prefect leaves its clients' connections to the garbage collector.
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(autouse=True)
def _connections_collected() -> Iterator[None]:
    """What Prefect left is collected here, where the warning is expected, and not in somebody else's test."""
    yield
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from prefect.settings import PREFECT_HOME, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        temporary_settings({PREFECT_HOME: tmp_path_factory.mktemp("prefect")}),
        prefect_test_harness(server_startup_timeout=120),
    ):
        yield


# Not for the session: tests of other modules start clouds of their own in this process, and moto is one to a process.
@pytest.fixture(scope="module", name="clouds")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("aws") as clouds:
        yield clouds


@pytest.fixture(scope="module", name="runner")
def _runner(clouds: LocalClouds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A process that runs the watched flows, each in one of its own; gives the file of what it says."""
    from prefect.settings import get_current_settings

    said = tmp_path_factory.mktemp("runner") / "said.txt"
    environment = {
        **os.environ,
        **get_current_settings().to_environment_variables(exclude_unset=True),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    with said.open("w") as output:
        # A session of its own, so that the flows' processes end with it.
        process = subprocess.Popen(
            [sys.executable, str(HERE / "watched_flows.py")],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield said
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
