"""Budgets: their marks are told once each, whoever looks, and at the last one the cluster is ended."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute import Cluster, ClusterState, Event
from multicompute.engine.recovery.reap import reap
from multicompute.engine.upkeep.refresh import refresh, refresh_all
from multicompute.errors import LedgerError
from multicompute.ledger import Ledger
from multicompute.testing import FakeCloud
from tests.unit.ledger.ledger_records import cluster as a_cluster
from tests.unit.ledger.ledger_records import event as an_event
from tests.unit.ledger.postgres_server import server


def marks(cluster: Cluster) -> list[tuple[object, str]]:
    return [(event.data["percent"], event.message) for event in cluster.events() if event.kind == "budget"]


def said(percent: int) -> tuple[object, str]:
    return percent, f"{percent} % of the budget of $100.00 is spent"


def until(cloud: FakeCloud, cluster: Cluster, usd: float) -> None:
    """Let time pass until the cluster has cost as much."""
    cloud.advance(timedelta(hours=(usd - cluster.accrued_cost) / cluster.hourly_cost, seconds=1))


@pytest.fixture(name="dear")
def _dear(fake_cloud: FakeCloud) -> Cluster:
    return Cluster.request(gpus=8, type="h100", name="dear", ttl="7d", budget=100, clouds=["aws"])


LOOKS: dict[str, Callable[[FakeCloud], object]] = {
    "refresh": lambda cloud: Cluster.get("dear").refresh(),
    "refresh_all": lambda cloud: refresh_all(cloud.session),
    "reap": lambda cloud: reap(cloud.session),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_each_mark_is_told_once_at_whatever_look_comes_first(
    fake_cloud: FakeCloud, dear: Cluster, look: Callable[[FakeCloud], object]
) -> None:
    until(fake_cloud, dear, 45)
    look(fake_cloud)
    assert marks(dear) == []
    until(fake_cloud, dear, 50)
    look(fake_cloud)
    look(fake_cloud)
    assert marks(dear) == [said(50)]
    until(fake_cloud, dear, 80)
    look(fake_cloud)
    until(fake_cloud, dear, 85)
    look(fake_cloud)
    assert marks(dear) == [said(50), said(80)]
    dear.terminate()
    assert fake_cloud.alive() == []


def test_reap_ends_what_has_cost_its_budget_and_tells_every_mark_that_nobody_saw(
    fake_cloud: FakeCloud, dear: Cluster
) -> None:
    until(fake_cloud, dear, 99)
    assert reap(fake_cloud.session).terminated == []
    until(fake_cloud, dear, 100)
    assert reap(fake_cloud.session, dry_run=True).terminated == ["dear"]
    assert marks(dear) == [said(50), said(80)]
    assert reap(fake_cloud.session).terminated == ["dear"]
    assert marks(dear) == [said(50), said(80), said(100)]
    assert dear.refresh().state is ClusterState.TERMINATED
    assert dear.reason == "budget of $100.00 reached"
    assert fake_cloud.alive() == []


def test_a_look_tells_that_all_is_spent_and_leaves_the_end_to_reap(fake_cloud: FakeCloud, dear: Cluster) -> None:
    until(fake_cloud, dear, 101)
    assert dear.refresh().state is ClusterState.READY
    assert marks(dear) == [said(50), said(80), said(100)]
    assert reap(fake_cloud.session).terminated == ["dear"]
    assert marks(dear) == [said(50), said(80), said(100)]
    assert fake_cloud.alive() == []


def test_whoever_watches_is_told(fake_cloud: FakeCloud, dear: Cluster) -> None:
    until(fake_cloud, dear, 60)
    told: list[Event] = []
    refresh(fake_cloud.session, dear.id, watch=told.append)
    refresh(fake_cloud.session, dear.id, watch=told.append)
    assert [(event.kind, event.data["percent"]) for event in told] == [("budget", 50)]
    dear.terminate()
    assert fake_cloud.alive() == []


def test_without_a_budget_there_is_nothing_to_tell(fake_cloud: FakeCloud) -> None:
    with Cluster.request(gpus=8, type="h100", ttl="7d", clouds=["aws"]) as cluster:
        fake_cloud.advance("6d")
        refresh_all(fake_cloud.session)
        assert marks(cluster.refresh()) == []
    assert fake_cloud.alive() == []


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_of_several_that_tell_a_mark_at_once_one_does(engine: str, tmp_path: Path) -> None:
    url = server().url() if engine == "postgres" else f"sqlite:///{tmp_path}/state.db"
    ledgers = [Ledger(url) for _ in range(6)]
    ledgers[0].claim(a_cluster())
    start = threading.Barrier(len(ledgers))
    added: list[bool] = []

    def tell(ledger: Ledger) -> None:
        start.wait(10)
        added.append(ledger.append_once(an_event("budget")))

    threads = [threading.Thread(target=tell, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [False] * 5 + [True]
    assert ledgers[0].events("c-1") == [an_event("budget")]
    for ledger in ledgers:
        ledger.close()


def test_a_spent_budget_ends_machines_although_the_ledger_can_not_be_written(
    fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster.request(gpus=8, type="h100", ttl="7d", budget=100)
    fake_cloud.advance("3h")

    def full(*arguments: object, **named: object) -> None:
        raise LedgerError("database or disk is full")

    with monkeypatch.context() as patch:
        for write in ("append", "append_once", "update_cluster", "end_cluster"):
            patch.setattr(fake_cloud.session.ledger, write, full)
        assert "disk is full" in str(reap(fake_cloud.session).failed)
    assert fake_cloud.alive() == []
    assert reap(fake_cloud.session).failed == {}
    assert Cluster.get(cluster.name).state is ClusterState.TERMINATED
