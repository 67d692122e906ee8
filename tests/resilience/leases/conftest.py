"""Fixtures: a node of each kind, booted with the script that its cloud receives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from multicompute_aws._boot import user_data
from multicompute_azure._boot import custom_data
from multicompute_gcp._boot import startup_script
from tests.resilience.leases.lease_machine import Machine
from tests.resilience.leases.metadata_services import (
    IDENTITY,
    TPU,
    Ec2,
    Ec2WithoutTags,
    Gce,
    Imds,
    ImdsOfUniform,
    MetadataService,
    serving,
)

NOW = 1_790_000_000
BootScript = Callable[[MetadataService, datetime | None, str], str | bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of node: its metadata service, its boot script, and whether it deletes itself."""

    service: type[MetadataService]
    boot_script: BootScript
    deletes: bool = False


KINDS = {
    "aws-groups": Kind(
        Ec2WithoutTags, lambda service, end, setup: user_data(expires_at=end, ssh_public_key=None, setup=setup)
    ),
    "aws": Kind(Ec2, lambda service, end, setup: user_data(expires_at=end, ssh_public_key=None, setup=setup)),
    "gcp": Kind(Gce, lambda service, end, setup: startup_script(setup=setup, expires_at=end)),
    "tpu": Kind(
        Gce,
        lambda service, end, setup: startup_script(
            setup=setup, expires_at=end, delete_url=f"{service.url}{TPU}?force=true"
        ),
        deletes=True,
    ),
    "azure": Kind(Imds, lambda service, end, setup: custom_data(expires_at=end, identity=None, setup=setup)),
    "azure-identity": Kind(
        Imds, lambda service, end, setup: custom_data(expires_at=end, identity=IDENTITY, setup=setup), deletes=True
    ),
    "azure-fabric": Kind(
        ImdsOfUniform,
        lambda service, end, setup: custom_data(expires_at=end, identity=None, setup=setup, is_uniform=True),
    ),
}


@dataclass
class Fleet:
    """A factory for nodes of one kind."""

    kind: Kind
    service: MetadataService
    folder: Path

    def boot_script(self, end: int | None, setup: str = "") -> str | bytes:
        """Return what the cloud receives for a lease that ends at `end`."""
        return self.kind.boot_script(self.service, None if end is None else datetime.fromtimestamp(end, UTC), setup)

    def node(self, end: int | None, *, tag: str | None = "", setup: str = "") -> Machine:
        """Return a node launched with a lease until `end`, which is also its tag unless `tag` is given."""
        self.service.set_tag(("never" if end is None else str(end)) if tag == "" else tag)
        machine = Machine(self.folder / "machine", self.service)
        machine.boot(self.boot_script(end, setup))
        return machine


@pytest.fixture(params=KINDS)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    kind = KINDS[request.param]
    with serving(kind.service, NOW) as service:
        yield Fleet(kind, service, tmp_path)
        assert service.refused == []
