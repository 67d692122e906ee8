"""A session whose only provider is own machines, with a ledger and a configuration of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from multicompute.clock import SystemClock
from multicompute.config import checked, read
from multicompute.session import Session, use_session
from multicompute_static import plugin
from tests.providers.static.machines import Machines, machines
from tests.remote.hosts import has_namespaces


@pytest.fixture(scope="session")
def running_machines() -> Iterator[Machines]:
    if not has_namespaces():
        pytest.skip(
            "machines with processes of their own need root, ip and unshare; the conformance suite runs without"
        )
    with machines(3) as running:
        yield running


@pytest.fixture
def own(running_machines: Machines) -> Iterator[Machines]:
    yield running_machines
    running_machines.reset()


@pytest.fixture
def inventory(own: Machines, tmp_path: Path) -> Path:
    """Three machines with 8 H100 and InfiniBand at one site."""
    lines = 'accelerator = "h100"\naccelerators = 8\nfabric = "infiniband"\nsite = "lab-1"\nlabels = { rack = "a1" }'
    return own.inventory(tmp_path / "hosts.toml", [(index, lines) for index in range(3)])


def open_session(inventory: Path, *, state: str = "") -> Session:
    """Return a session as another process or another machine of the user would have it."""
    environment = {
        "HOME": str(inventory.parent),
        "USER": "me",
        "MULTICOMPUTE_OWNER": "me@here",
        "MULTICOMPUTE_STATE": state or f"sqlite:///{inventory.parent}/state.db",
        "MULTICOMPUTE_STATIC__INVENTORY": str(inventory),
        "MULTICOMPUTE_STATIC__SSH_CONFIG": "none",
    }
    return Session(config=checked(read(environment)), plugins={"static": plugin}, clock=SystemClock())


@pytest.fixture
def session(inventory: Path) -> Iterator[Session]:
    opened = open_session(inventory)
    with use_session(opened):
        yield opened
    opened.close()
