"""What the tests of leases share: a node of each kind, booted with what its cloud is sent."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from multicompute_aws._boot import user_data
from multicompute_azure._userdata import custom_data
from multicompute_gcp._boot import startup_script
from tests.resilience.leases.lease_machine import Machine
from tests.resilience.leases.metadata_services import IDENTITY, TPU, Ec2, Gce, Imds, MetadataService, serving

NOW = 1_790_000_000
Sent = Callable[[MetadataService, datetime | None, str], str | bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of node: its metadata service, what it is sent at its launch, and whether it deletes itself."""

    service: type[MetadataService]
    sent: Sent
    deletes: bool = False


KINDS = {
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
}


@dataclass
class Fleet:
    """Boots nodes of one kind."""

    kind: Kind
    service: MetadataService
    folder: Path

    def sent(self, end: int | None, setup: str = "") -> str | bytes:
        """What the cloud is sent for a lease that ends at `end`."""
        return self.kind.sent(self.service, None if end is None else datetime.fromtimestamp(end, UTC), setup)

    def node(self, end: int | None, *, tag: str | None = "", setup: str = "") -> Machine:
        """A node that was launched with a lease until `end`; its tag says the same unless `tag` says otherwise."""
        self.service.say(("never" if end is None else str(end)) if tag == "" else tag)
        machine = Machine(self.folder / "machine", self.service)
        machine.boot(self.sent(end, setup))
        return machine


@pytest.fixture(params=KINDS)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    kind = KINDS[request.param]
    with serving(kind.service, NOW) as service:
        yield Fleet(kind, service, tmp_path)
        assert service.refused == []
