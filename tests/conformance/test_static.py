"""The provider of own machines keeps every promise of the seam: real sshd, a real ledger, and markers in real home folders."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

from multicompute.clock import Clock, SystemClock
from multicompute.ledger import Ledger
from multicompute.node import Metric, Node
from multicompute.offer import Offer, Purchase
from multicompute.provider import Provider, Resource, Settings
from multicompute.testing import FailureKind, ProviderConformance
from multicompute_static import plugin
from multicompute_static._provider import StaticProvider
from tests.providers.static.machines import Machines, machines, run

NEAR, FAR = 'site = "lab-1"', 'site = "lab-2"'
LARGE, SMALL = 'accelerator = "h100"\naccelerators = 8', 'accelerator = "h100"\naccelerators = 4'
# Site and type are all that an offer of own machines has: in place of another zone there is another type.
ENTRIES = [(index, f"{NEAR}\n{LARGE}") for index in range(8)]
ENTRIES += [(8, f"{NEAR}\n{SMALL}"), (9, f"{NEAR}\n{SMALL}"), (10, f"{FAR}\n{LARGE}"), (11, f"{FAR}\n{LARGE}")]
FOREIGN = "user's own work"


@dataclass
class OwnMachines:
    """The harness: what is alive is what the machines themselves have in their home folders."""

    machines: Machines
    path: Path
    settings: Settings
    provider: Provider
    offers: Mapping[tuple[int, int], Offer]
    clock: Clock = field(default_factory=SystemClock)
    page_nodes: int = 5

    def offer(self, purchase: Purchase = "on_demand", *, zone: int = 0, region: int = 0) -> Offer:
        return self.offers[region, zone]

    def alive(self) -> Sequence[Resource]:
        found = [(index, marker) for index, _ in ENTRIES if (marker := self.machines.marker(index))]
        return [Resource("static", "host", self.machines.id(index), "", True, tags) for index, (_, tags) in found]

    def _fitting(self, offer: Offer) -> list[int]:
        wanted = [f"{NEAR if offer.region == 'lab-1' else FAR}\n{LARGE if offer.instance.accelerators == 8 else SMALL}"]
        return [index for index, lines in ENTRIES if lines in wanted]

    def limit_capacity(self, offer: Offer, nodes: int) -> None:
        """Break the GPUs of all machines but so many."""
        for index in self._fitting(offer)[nodes:]:
            self.machines.set_gpus(index, "none")

    def refuse_launch(self, kind: FailureKind) -> None:
        if kind is FailureKind.CAPACITY:
            self.limit_capacity(self.offer(), 1)
        elif kind is FailureKind.NOT_OFFERED:
            self.machines.inventory(self.path, [entry for entry in ENTRIES if entry[0] not in range(8)])
        elif kind is FailureKind.AUTH:
            for host in self.machines.hosts[:1]:
                (host.folder / "authorized_keys").write_text("")
        elif kind is FailureKind.TRANSIENT:
            for index, _ in ENTRIES:
                self.machines.lose(index, "before")
        else:
            raise NotImplementedError(f"own machines never refuse in this way: {kind}")

    def lose_launch_answer(self) -> None:
        self.machines.lose(0, "after")

    def delay_listing(self) -> None:
        """Do nothing: a lease is listed from the moment it is in the ledger."""

    def add_foreign(self) -> None:
        for index, _ in ENTRIES[:2]:
            (self.machines.home(index) / "data").write_text(FOREIGN)
            line = "setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $! >foreign.pid"
            run(self.machines.hosts[index], line)

    def foreign_intact(self) -> bool:
        line = "cat data; kill -s 0 $(cat foreign.pid) && echo , runs"
        expected = f"{FOREIGN}, runs\n"
        return all(run(self.machines.hosts[index], line) == expected for index, _ in ENTRIES[:2])

    def other_account(self) -> Provider:
        raise NotImplementedError("own machines belong to no account")

    def stop(self, node_id: str) -> None:
        raise NotImplementedError("a machine that is switched off can't be told from one that is cut off")

    def remove_tags(self, node_id: str) -> None:
        self.machines.remove_marker(self.machines.index(node_id))

    def protect(self, node_id: str) -> None:
        raise NotImplementedError("nothing protects a lease of an own machine")

    def unprotect(self, node_id: str) -> None:
        raise NotImplementedError("nothing protects a lease of an own machine")

    def reach_expiry(self) -> None:
        self.machines.reach_expiry()

    def preempt(self, node_id: str) -> None:
        raise AssertionError("not declared")

    def measure(self, node: Node, load: Mapping[Metric, float]) -> None:
        raise AssertionError("not declared")

    def impair(self, node: Node) -> None:
        self.machines.set_gpus(self.machines.index(node.id), 7)

    def reserve(self, offer: Offer, nodes: int) -> str:
        raise AssertionError("not declared")


@pytest.fixture(scope="module")
def started_machines() -> Iterator[Machines]:
    with machines(len(ENTRIES)) as running:
        yield running


class TestStaticProvider(ProviderConformance):
    provider_name = "static"

    @pytest.fixture
    def harness(self, started_machines: Machines, tmp_path: Path) -> Iterator[OwnMachines]:
        path = started_machines.inventory(tmp_path / "hosts.toml", ENTRIES)
        for index in (8, 9):
            started_machines.set_gpus(index, 4)
        keys = started_machines.hosts[0].folder / "authorized_keys"
        authorized = keys.read_text()
        ledger = Ledger(f"sqlite:///{tmp_path}/state.db")
        settings = Settings(
            values={"inventory": str(path), "ssh_config": "none"},
            environment={"HOME": str(tmp_path)},
            host_book=lambda: ledger.host_book("static"),
        )
        found = plugin.own_offers(settings, today=date(2026, 11, 30))
        assert found is not None
        by_key = {(line.region.name, line.instance.name): line.offers[0] for line in found.listings}
        offers = {
            (0, 0): by_key["lab-1", "8xh100"],
            (0, 1): by_key["lab-1", "4xh100"],
            (1, 0): by_key["lab-2", "8xh100"],
        }
        try:
            yield OwnMachines(started_machines, path, settings, StaticProvider(settings), offers)
        finally:
            keys.write_text(authorized)
            for index in (0, 1):
                home = started_machines.home(index)
                if (home / "foreign.pid").exists():
                    run(started_machines.hosts[index], "kill $(cat foreign.pid); rm -f foreign.pid data")
            started_machines.reset()
            ledger.close()
