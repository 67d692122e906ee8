"""Fixtures: a local cloud in virtual time, and `multicompute verify` on it with a fault."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from multicompute.cli import main
from multicompute.config import load
from multicompute.plugins import discover
from multicompute.session import Session, use_session
from multicompute.testing import FakeClock, LocalCloud, running
from multicompute.testing.local.machines import Machines
from multicompute_aws.local import AwsLocalCloud
from multicompute_azure.local import AzureLocalCloud
from multicompute_gcp.local import GcpLocalCloud
from tests.cli.conftest import Done
from tests.verify.broken import BrokenPlugin, Wrapped

CLOUDS = {"aws": AwsLocalCloud, "azure": AzureLocalCloud, "gcp": GcpLocalCloud}
REGIONS = {"aws": "us-east-1", "azure": "eastus", "gcp": "us-central1"}
OWNER = "ada.lovelace@analytical-engine"


@dataclass
class Site:
    """A local cloud, and the command on it with a fault in the provider."""

    name: str
    cloud: LocalCloud
    clock: FakeClock
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def open(self, fault: type[Wrapped]) -> Session:
        """Return the session that commands use, with an empty ledger if it is the first one of the test."""
        environment = {
            **self.cloud.environment,
            "MULTICOMPUTE_CONFIG": os.devnull,
            "MULTICOMPUTE_STATE": f"sqlite:///{self.folder / 'state.db'}",
            "MULTICOMPUTE_OWNER": OWNER,
        }
        if self.name == "aws":
            environment["MULTICOMPUTE_AWS__REGIONS"] = REGIONS["aws"]
        plugin: Any = BrokenPlugin(discover()[self.name], fault, self.clock)
        return Session(config=load(environment), plugins={self.name: plugin}, clock=self.clock)

    def verify(self, *arguments: str, fault: type[Wrapped] = Wrapped, has_timers: bool = True) -> Done:
        """Run `multicompute verify` on the cloud."""
        Machines(self.cloud, self.clock, has_timers=has_timers).install()
        region = ("--region", REGIONS[self.name])
        return self.command("verify", self.name, "--yes", *region, *arguments, fault=fault)

    def command(self, *arguments: str, fault: type[Wrapped] = Wrapped) -> Done:
        """Run a command on the cloud."""
        session = self.open(fault)
        self.capsys.readouterr()
        try:
            with use_session(session):
                status = main(arguments)
        finally:
            session.close()
        out, err = self.capsys.readouterr()
        return Done(status, out, err)


@pytest.fixture(scope="module", params=CLOUDS)
def local(request: pytest.FixtureRequest) -> Iterator[tuple[str, LocalCloud, FakeClock]]:
    clock = FakeClock()
    with running(CLOUDS[request.param](clock=clock)) as cloud:
        cloud.seed_foreign()
        yield request.param, cloud, clock


@pytest.fixture
def site(
    local: tuple[str, LocalCloud, FakeClock], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Site]:
    name, cloud, clock = local
    cloud.faults.clear()
    yield Site(name, cloud, clock, tmp_path, capsys)
    cloud.faults.clear()
    # Nodes that have ended are listed for an hour.
    clock.sleep(timedelta(hours=2))
