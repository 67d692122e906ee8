"""A real Prefect server on 127.0.0.1 with its own database, and a process that runs flows."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from multicompute.testing import LocalClouds, local_clouds

# Set before the first import of prefect, which reads them.
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            # Prefect does not close its clients' connections; the garbage collector does.
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(autouse=True)
def _connections_collected() -> Iterator[None]:
    """Collect the garbage of Prefect here, where its warnings are expected, and not in another test."""
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


# Not for the session: tests of other modules start their own clouds in this process, which can run only one moto.
@pytest.fixture(scope="module", name="clouds")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("aws") as clouds:
        yield clouds


@pytest.fixture(scope="module", name="runner")
def _runner(clouds: LocalClouds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start a process that runs the watched flows, each in its own process; return the file with its output."""
    from prefect.settings import get_current_settings

    log = tmp_path_factory.mktemp("runner") / "log.txt"
    environment = {
        **os.environ,
        **get_current_settings().to_environment_variables(exclude_unset=True),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    with log.open("w") as output:
        # In its own session, so that killing it also ends the flows' processes.
        process = subprocess.Popen(
            [sys.executable, str(HERE / "watched_flows.py")],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
