"""A ledger that can't be written keeps no machine running, and hides nothing from the user."""

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from multicompute import Cluster, ClusterState, Event, errors
from multicompute.engine.recovery.reap import reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.engine.upkeep.refresh import refresh_all
from multicompute.monitor.supervise import supervise
from multicompute.testing import FakeCloud, fake_cloud

LEFT = "nothing is left running, and the ledger can't record that"


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


def set_writable(cloud: FakeCloud, is_writable: bool) -> None:
    # The lease was renewed longer ago, so that the next operation has to write.
    cloud.advance("1m")
    value = "OFF" if is_writable else "ON"
    cloud.session.ledger._database._connection.execute(f"PRAGMA query_only = {value}")  # type: ignore[attr-defined]


def test_leaving_a_with_block_tears_down_and_raises_what_the_ledger_lacks(
    cloud: FakeCloud, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(errors.LedgerError, match=LEFT), Cluster.request(gpus=64, type="h100", name="train-1"):
        set_writable(cloud, False)
    assert cloud.alive() == []
    assert "may still run" not in caplog.text
    set_writable(cloud, True)
    cloud.advance("10m")
    refresh_all(cloud.session)
    assert Cluster.get("train-1").state is ClusterState.TERMINATED


def test_an_error_in_the_block_keeps_its_place_and_gets_a_note(cloud: FakeCloud) -> None:
    with pytest.raises(ZeroDivisionError) as caught, Cluster.request(gpus=64, type="h100"):
        set_writable(cloud, False)
        raise ZeroDivisionError
    assert cloud.alive() == []
    assert [LEFT in note for note in caught.value.__notes__] == [True]


def test_a_cluster_that_a_live_process_works_on_is_left_to_it(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100")
    ledger = cloud.session.ledger
    set_writable(cloud, True)
    ledger.take_lease(cluster.id, "elsewhere:1:0:a", now=cloud.clock.now(), length=timedelta(hours=1))
    set_writable(cloud, False)
    with pytest.raises(errors.LedgerError, match="readonly"):
        cluster.terminate()
    assert len(cloud.aws.running_ids()) == 1
    cloud.advance("2h")
    with pytest.raises(errors.LedgerError, match=LEFT):
        cluster.terminate()
    assert cloud.alive() == []


def test_events_that_cannot_be_stored_are_logged(cloud: FakeCloud, caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster.request(gpus=8, type="h100")
    set_writable(cloud, False)
    cloud.aws.faults.throttle("terminate", times=2)
    with caplog.at_level(logging.WARNING, "multicompute"), pytest.raises(errors.LedgerError, match=LEFT):
        cluster.terminate()
    assert caplog.text.count("(not stored in the ledger)") == 2


def test_events_that_cannot_be_stored_reach_the_callback_of_a_request(cloud: FakeCloud) -> None:
    seen: list[Event] = []

    def callback(event: Event) -> None:
        seen.append(event)
        if event.kind == "launched":
            set_writable(cloud, False)
            cloud.aws.faults.throttle("terminate", times=2)

    with pytest.raises(errors.LedgerError):
        Cluster.request(gpus=8, type="h100", progress=callback)
    kinds = [event.kind for event in seen if event.kind != "waiting"]
    assert "retry" in kinds
    assert kinds[-1] == "failed"
    assert cloud.alive() == []


@pytest.mark.parametrize("wait", [True, False])
def test_reap_terminates_what_expired_and_reports_the_ledger(cloud: FakeCloud, *, wait: bool) -> None:
    Cluster.request(gpus=8, type="h100", name="train-1", ttl="1h")
    set_writable(cloud, False)
    cloud.advance("2h")
    report = reap(cloud.session, wait=wait)
    cloud.advance("10m")
    report = reap(cloud.session, wait=wait)
    assert cloud.alive() == []
    assert report.terminated == []
    assert LEFT in report.failed["train-1"]


def test_supervise_terminates_at_the_ttl_and_records_it_once_there_is_room(cloud: FakeCloud) -> None:
    Cluster.request(gpus=8, type="h100", name="train-1", ttl="1h")
    set_writable(cloud, False)
    cloud.advance("2h")
    supervise(cloud.session, interval=timedelta(minutes=1), rounds=3)
    assert cloud.alive() == []
    assert Cluster.get("train-1").state is ClusterState.READY
    set_writable(cloud, True)
    supervise(cloud.session, interval=timedelta(minutes=1), rounds=2)
    assert Cluster.get("train-1").state is ClusterState.TERMINATED


def test_a_request_buys_nothing(cloud: FakeCloud) -> None:
    Cluster.list()
    set_writable(cloud, False)
    with pytest.raises(errors.LedgerError, match="readonly"):
        Cluster.request(gpus=8, type="h100")
    assert cloud.aws.faults.count("launch") == 0


def test_a_refresh_notes_that_it_cannot_record_what_changed(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="h100", name="train-1", budget=5, ttl="2h")
    set_writable(cloud, False)
    cloud.advance("10m")
    cloud.aws.preempt(cluster.nodes[1].id)
    notes = refresh_all(cloud.session).notes
    assert len(notes) == 2
    assert all("readonly" in note for note in notes)


def test_reconcile_completes_a_teardown_and_records_it_later(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="train-1")
    cloud.session.ledger.request_termination(cluster.id, "by request", states=tuple(ClusterState))
    set_writable(cloud, False)
    assert any(LEFT in note for note in reconcile(cloud.session).notes)
    assert cloud.alive() == []
    set_writable(cloud, True)
    assert reconcile(cloud.session).terminated == ["train-1"]
