"""Hosts with real SSH servers; what is left out where there is none."""

from collections.abc import Iterator

import pytest

from multicompute.remote.nodes import RemoteNodes
from tests.remote.hosts import Host, missing, started


@pytest.fixture(scope="session")
def hosts() -> Iterator[list[Host]]:
    """Three hosts; a test that cuts one off restores it."""
    if reason := missing():
        pytest.skip(reason)
    with started(3) as running:
        yield running


@pytest.fixture
def nodes(hosts: list[Host]) -> Iterator[RemoteNodes]:
    with RemoteNodes([host.target() for host in hosts]) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _hosts_left_as_found(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "hosts" in request.fixturenames:
        for host in request.getfixturevalue("hosts"):
            host.restore()
