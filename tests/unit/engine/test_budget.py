"""Budgets: each mark becomes one event, whichever operation finds it, and a cluster at its budget is terminated."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute import Cluster, ClusterState
from multicompute.engine.recovery.reap import reap
from multicompute.engine.upkeep.refresh import refresh_all
from multicompute.errors import BudgetError, LedgerError
from multicompute.ledger import Ledger
from multicompute.testing import FakeCloud
from tests.unit.ledger.ledger_records import cluster as a_cluster
from tests.unit.ledger.ledger_records import event as an_event
from tests.unit.ledger.postgres_server import server


def marks(cluster: Cluster) -> list[tuple[object, str]]:
    return [(event.data["percent"], event.message) for event in cluster.events() if event.kind == "budget"]


def mark(percent: int) -> tuple[object, str]:
    return percent, f"{percent} % of the budget of $100.00 is spent"


def until(cloud: FakeCloud, cluster: Cluster, usd: float) -> None:
    """Advance the clock until the cluster has cost this much."""
    cloud.advance(timedelta(hours=(usd - cluster.accrued_cost) / cluster.hourly_cost, seconds=1))


@pytest.fixture(name="dear")
def _dear(fake_cloud: FakeCloud) -> Cluster:
    return Cluster.request(gpus=16, type="h100", name="dear", ttl="7d", budget=100, clouds=["aws"])


OPERATIONS: dict[str, Callable[[FakeCloud], object]] = {
    "refresh": lambda cloud: Cluster.get("dear").refresh(),
    "refresh_all": lambda cloud: refresh_all(cloud.session),
    "reap": lambda cloud: reap(cloud.session),
}


@pytest.mark.parametrize("operate", OPERATIONS.values(), ids=OPERATIONS)
def test_each_mark_is_one_event_whichever_operation_finds_it(
    fake_cloud: FakeCloud, dear: Cluster, operate: Callable[[FakeCloud], object]
) -> None:
    until(fake_cloud, dear, 45)
    operate(fake_cloud)
    assert marks(dear) == []
    until(fake_cloud, dear, 50)
    operate(fake_cloud)
    operate(fake_cloud)
    assert marks(dear) == [mark(50)]
    until(fake_cloud, dear, 80)
    operate(fake_cloud)
    until(fake_cloud, dear, 85)
    operate(fake_cloud)
    assert marks(dear) == [mark(50), mark(80)]
    dear.terminate()
    assert fake_cloud.alive() == []


def test_reap_terminates_a_cluster_at_its_budget_and_logs_the_marks_that_were_not_logged(
    fake_cloud: FakeCloud, dear: Cluster
) -> None:
    until(fake_cloud, dear, 99)
    assert reap(fake_cloud.session).terminated == []
    until(fake_cloud, dear, 100)
    assert reap(fake_cloud.session, dry_run=True).terminated == ["dear"]
    assert marks(dear) == [mark(50), mark(80)]
    assert reap(fake_cloud.session).terminated == ["dear"]
    assert marks(dear) == [mark(50), mark(80), mark(100)]
    assert dear.refresh().state is ClusterState.TERMINATED
    assert dear.reason == "budget of $100.00 reached"
    assert fake_cloud.alive() == []


def test_a_refresh_logs_that_the_budget_is_spent_and_leaves_the_termination_to_reap(
    fake_cloud: FakeCloud, dear: Cluster
) -> None:
    until(fake_cloud, dear, 101)
    assert dear.refresh().state is ClusterState.READY
    assert marks(dear) == [mark(50), mark(80), mark(100)]
    assert reap(fake_cloud.session).terminated == ["dear"]
    assert marks(dear) == [mark(50), mark(80), mark(100)]
    assert fake_cloud.alive() == []


@pytest.mark.parametrize("operation", ["extend", "heal"])
def test_a_cluster_that_has_spent_its_budget_is_not_extended_or_healed(
    fake_cloud: FakeCloud, dear: Cluster, operation: str
) -> None:
    until(fake_cloud, dear, 101)
    fake_cloud.aws.preempt(dear.nodes[0].id)
    before = Cluster.get("dear").expires_at
    with pytest.raises(BudgetError, match=r"dear: can't be (extended|healed): its budget of \$100.00 is spent"):
        dear.extend("1h") if operation == "extend" else dear.heal()
    assert Cluster.get("dear").expires_at == before
    assert fake_cloud.aws.faults.count("launch") == 1
    assert reap(fake_cloud.session).terminated == ["dear"]
    assert fake_cloud.alive() == []


def test_healing_a_complete_cluster_is_no_budget_error(fake_cloud: FakeCloud, dear: Cluster) -> None:
    until(fake_cloud, dear, 101)
    assert dear.heal().state is ClusterState.READY
    dear.terminate()
    assert fake_cloud.alive() == []


def test_a_cluster_without_a_budget_has_no_marks(fake_cloud: FakeCloud) -> None:
    with Cluster.request(gpus=8, type="h100", ttl="7d", clouds=["aws"]) as cluster:
        fake_cloud.advance("6d")
        refresh_all(fake_cloud.session)
        assert marks(cluster.refresh()) == []
    assert fake_cloud.alive() == []


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_a_mark_that_several_processes_store_at_once_is_stored_once(engine: str, tmp_path: Path) -> None:
    url = server().url() if engine == "postgres" else f"sqlite:///{tmp_path}/state.db"
    ledgers = [Ledger(url) for _ in range(6)]
    ledgers[0].claim(a_cluster())
    start = threading.Barrier(len(ledgers))
    added: list[bool] = []

    def append(ledger: Ledger) -> None:
        start.wait(10)
        added.append(ledger.append_once(an_event("budget")))

    threads = [threading.Thread(target=append, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [False] * 5 + [True]
    assert ledgers[0].events("c-1") == [an_event("budget")]
    for ledger in ledgers:
        ledger.close()


def test_a_spent_budget_terminates_nodes_although_the_ledger_can_not_be_written(
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
