"""What the tests of real engines need: three hosts with networks of their own, and an environment with the engines."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from multicompute.remote.launchers.job import Job, probe
from multicompute.remote.launchers.layout import Layout, Member
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.output import LineOutput, Stream
from tests.remote.hosts import Host, has_namespaces, missing, started

# Only where it is asked for: these tests take ten minutes.
ENGINES = Path(os.environ.get("MULTICOMPUTE_ENGINES") or "/none") / "bin"


class Lines:
    """The output of all ranks, as it came."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Stream, str]] = []
        self.output = LineOutput(lambda rank, stream, line: self.seen.append((rank, stream, line)))

    def with_text(self, text: str) -> list[tuple[int, str]]:
        """Return the lines that contain a text, by rank."""
        return sorted((rank, line) for rank, _, line in self.seen if text in line)


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter that has torch, JAX and Ray."""
    if not (ENGINES / "python").exists():
        pytest.skip("no real torchrun, JAX, Open MPI and Ray: `make test-remote` installs and runs them")
    return str(ENGINES / "python")


@pytest.fixture(scope="session")
def machines(python: str) -> Iterator[list[Host]]:
    if reason := missing():
        pytest.skip(reason)
    if not has_namespaces():
        pytest.skip("hosts with networks of their own need root and iproute2: no engine was run on several hosts")
    with started(3) as running:
        yield running


@pytest.fixture(autouse=True)
def _machines_left_as_found(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "machines" in request.fixturenames:
        for host in request.getfixturevalue("machines"):
            host.restore()


@pytest.fixture
def nodes(machines: list[Host]) -> Iterator[RemoteNodes]:
    with RemoteNodes([host.target() for host in machines]) as opened:
        yield opened


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def job(nodes: RemoteNodes, machines: list[Host], lines: Lines) -> Job:
    layout = Layout("demo", tuple(Member(host.index, host.address) for host in machines))
    plain = Job(nodes, layout, env={"PATH": f"{ENGINES}:{os.environ['PATH']}"}, output=lines.output)
    return replace(plain, facts=probe(nodes))


def running(machines: list[Host]) -> list[str]:
    """Return what still runs on the hosts."""
    return [line for host in machines for line in host.commands()]
