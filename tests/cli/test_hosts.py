"""`hosts` lists the user's own machines with state, lease and reason, checks them, and forgets those that are gone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from multicompute import Cluster
from multicompute.session import Session, use_session
from tests.providers.static.conftest import open_session
from tests.providers.static.machines import Machines, machines

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def running() -> Iterator[Machines]:
    with machines(2) as found:
        yield found


@pytest.fixture
def own(running: Machines) -> Iterator[Machines]:
    yield running
    running.reset()


@pytest.fixture
def session(own: Machines, tmp_path: Path) -> Iterator[Session]:
    lines = 'accelerator = "h100"\naccelerators = 8\nsite = "lab-1"\nhourly_usd = 2.5\nlabels = { rack = "a1" }'
    path = own.inventory(tmp_path / "hosts.toml", [(0, lines), (1, lines)])
    opened = open_session(path)
    with use_session(opened):
        yield opened
        for cluster in Cluster.list():
            cluster.terminate()
    opened.close()


def test_hosts_lists_machines_with_state_lease_and_price(run: Run, own: Machines, session: Session) -> None:
    assert [host["state"] for host in run("hosts", "--json").document] == ["free", "free"]
    cluster = Cluster.request(gpus=8, type="h100", name="train-1", ttl="1h")
    first, second = run("hosts", "--json").document
    assert (first["host"], first["site"], first["instance_type"]) == (own.id(0), "lab-1", "8xh100")
    assert (first["hourly_usd"], first["labels"], first["state"]) == (2.5, {"rack": "a1"}, "leased")
    assert (first["lease"]["cluster"], first["lease"]["cluster_id"]) == ("train-1", cluster.id)
    assert first["lease"]["owner"] == "me@here"
    assert (second["state"], second["lease"], second["checked"], second["ok"]) == ("free", None, False, None)
    shown = run("hosts", "--wide")
    assert shown.status == 0
    assert "train-1" in shown.out and "$2.50" in shown.out


@pytest.mark.parametrize("command", [("hosts",), ("plan", "--gpus", "8", "--type", "h100", "--cloud", "static")])
def test_without_an_inventory_the_error_says_where_to_write_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run(*command)
    assert done.status == 2
    assert "no inventory: write your own machines into ~/.config/multicompute/hosts.toml" in done.err


def test_a_check_sets_failing_machines_aside_and_exits_with_1(run: Run, own: Machines, session: Session) -> None:
    own.set_gpus(1, 6)
    done = run("hosts", "--check", "--json")
    assert done.status == 1
    assert [(host["state"], host["ok"], host["reason"]) for host in done.document] == [
        ("free", True, ""),
        ("set_aside", False, "has 6 accelerators, the inventory says 8"),
    ]
    assert f"1 of 2 machines failed the check: {own.id(1)}" in done.err
    # It is remembered, and shown without another check.
    later = run("hosts")
    assert later.status == 0
    assert "set aside until" in " ".join(later.out.split())
    own.set_gpus(1, 8)
    assert [host["state"] for host in run("hosts", "--check", "--json").document] == ["free", "free"]


def test_forget_drops_the_lease_of_a_machine_that_is_gone(run: Run, own: Machines, session: Session) -> None:
    Cluster.request(gpus=8, type="h100", name="train-1", ttl="1h")
    assert [host["state"] for host in run("hosts", "--forget", own.id(0), "--json").document] == ["free", "free"]
    done = run("hosts", "--forget", "10.9.9.9")
    assert done.status != 0
    assert "10.9.9.9: neither the inventory nor the ledger has such a machine" in done.err


def test_without_an_inventory_hosts_says_where_to_write_one(run: Run, tmp_path: Path) -> None:
    from multicompute.config import checked, read
    from multicompute_static import plugin

    environment = {"HOME": str(tmp_path), "MULTICOMPUTE_STATE": f"sqlite:///{tmp_path}/state.db"}
    with use_session(Session(config=checked(read(environment)), plugins={"static": plugin})):
        done = run("hosts")
    assert done.status == 2
    assert "no inventory: write your own machines into ~/.config/multicompute/hosts.toml" in " ".join(done.err.split())


def test_own_machines_are_in_offers_and_plans_before_dearer_clouds(run: Run, own: Machines, session: Session) -> None:
    (offer, *_) = run("offers", "h100", "--json").document
    assert "8xh100" in str(offer) and "lab-1" in str(offer)
    (candidate,) = run("plan", "--gpus", "8", "--type", "8xh100", "--region", "lab-1", "--json").document["candidates"]
    assert candidate["provider"] == "static"
