"""The supervisor terminates and repairs, survives failures, and stops; on clouds in memory."""

import logging
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.operation.cancellation import Cancellation
from multicompute.engine.operation.lease import Lease
from multicompute.monitor.supervise import INTERVAL, SWEEP_EVERY, Round, supervise
from multicompute.provider import TAG_EXPIRES_AT, Capability, expiry_tag
from multicompute.testing import FakeCloud, fake_cloud
from multicompute.testing.provider_harness import launch_request


@pytest.fixture(name="cloud")
def _cloud(caplog: pytest.LogCaptureFixture) -> Iterator[FakeCloud]:
    caplog.set_level(logging.INFO, logger="multicompute")
    # Only a supervisor terminates anything here.
    with fake_cloud("aws", "gcp") as cloud:
        for provider in cloud.providers.values():
            provider.capabilities -= {Capability.EXPIRY}
        yield cloud


def a_round(cloud: FakeCloud, rounds: int = 1) -> Round:
    last = supervise(cloud.session, rounds=rounds)
    assert last is not None
    return last


def is_leased(cloud: FakeCloud, cluster: Cluster) -> bool:
    """Return whether any process holds the lease of the cluster."""
    lease = Lease(cloud.session, cluster.id)
    is_free = lease.acquire()
    lease.release()
    return not is_free


def test_a_cluster_over_its_ttl_is_terminated_within_a_round(cloud: FakeCloud) -> None:
    short = Cluster.request(gpus=16, type="h100", ttl="1h", clouds=["aws"])
    long = Cluster.request(gpus=8, type="h100", ttl="3h", clouds=["gcp"])
    cloud.advance("61m")
    assert a_round(cloud).done == [f"{short.name}: terminated: expired at 2027-01-01 01:00 UTC"]
    assert cloud.clusters_alive() == [long.name]
    long.terminate()
    assert cloud.alive() == []


def test_a_cluster_that_has_spent_its_budget_is_terminated_and_its_marks_are_reported(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", ttl="7d", budget=100, clouds=["aws"])
    cloud.advance(timedelta(hours=60 / cluster.hourly_cost))
    assert a_round(cloud).done == [f"{cluster.name}: 50 % of the budget of $100.00 is spent"]
    cloud.advance("2h")
    assert f"{cluster.name}: terminated: budget of $100.00 reached" in a_round(cloud).done
    assert cloud.alive() == []


def test_limits_are_enforced_in_every_round_and_not_only_in_those_that_list_everything(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", ttl="3m")
    listed: list[tuple[int, int]] = []
    supervise(
        cloud.session,
        rounds=SWEEP_EVERY + 1,
        on_round=lambda last: listed.append((last.number, cloud.aws.faults.count("resources"))),
    )
    ended = Cluster.get(cluster.name)
    assert ended.state is ClusterState.TERMINATED
    assert cloud.alive() == []
    late = next(event.at for event in ended.events() if event.kind == "terminating") - (
        cluster.expires_at or ended.created_at
    )
    assert late <= INTERVAL
    # If nothing is due, all regions of all clouds are listed only in every tenth round.
    counts = dict(listed)
    assert counts[1] == counts[2]
    assert counts[SWEEP_EVERY - 1] == counts[5]
    assert counts[SWEEP_EVERY] > counts[SWEEP_EVERY - 1]


def test_a_lost_node_is_reported_once(cloud: FakeCloud, caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster.request(gpus=16, type="h100", clouds=["aws"])
    lost = cluster.nodes[1].id
    cloud.advance("5m")
    cloud.aws.preempt(lost)
    (line,) = a_round(cloud).done
    assert line.startswith(f"{cluster.name}: 1 of 2 nodes are gone: {lost} (rank 1)")
    assert a_round(cloud).done == []
    # The event of the cluster, which is logged as well, is no report of the supervisor.
    assert [record.message for record in caplog.records if not hasattr(record, "event")].count(line) == 1
    assert Cluster.get(cluster.name).state is ClusterState.DEGRADED
    cluster.terminate()


def test_a_cluster_whose_process_did_not_wait_is_moved_on(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", wait=False)
    cloud.advance("5m")
    (done,) = a_round(cloud).done
    assert done.startswith(f"{cluster.name}: ready: 1 x ")
    assert Cluster.get(cluster.name).state is ClusterState.READY
    cluster.terminate()


def test_a_cloud_that_fails_does_not_delay_the_others(cloud: FakeCloud) -> None:
    here = Cluster.request(gpus=8, type="h100", ttl="1h", clouds=["aws"])
    there = Cluster.request(gpus=8, type="h100", ttl="1h", clouds=["gcp"])
    cloud.advance("61m")
    cloud.gcp.faults.fail("*", "denied", times=None)
    assert a_round(cloud, rounds=3).errors > 0
    assert cloud.clusters_alive() == [there.name]
    assert Cluster.get(here.name).state is ClusterState.TERMINATED
    cloud.gcp.faults.clear()
    assert a_round(cloud).errors == 0
    assert cloud.alive() == []


def test_a_slow_teardown_delays_only_the_last_round(cloud: FakeCloud) -> None:
    clusters = [Cluster.request(gpus=8, type="h100", ttl="1h", clouds=["aws"]) for _ in range(3)]
    cloud.advance("61m")
    cloud.aws.shutdown_time = timedelta(minutes=20)
    began = cloud.clock.now()
    deletes: list[timedelta] = []
    cloud.aws.faults.hook("terminate", lambda call: deletes.append(cloud.clock.now() - began))
    last = a_round(cloud, rounds=6)
    # Five rounds at their interval, and in each of them the deletes of all clusters.
    assert deletes[:15] == [number * INTERVAL for number in range(5) for _ in clusters]
    assert [line.split(": expired")[0] for line in last.done] == [f"{cluster.name}: terminated" for cluster in clusters]
    assert any(event.kind == "stuck" for event in clusters[0].events()), "when it takes longer than usual"
    assert cloud.alive() == []


def test_a_failure_is_logged_once_until_it_has_worked_in_between(
    cloud: FakeCloud, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster.request(gpus=8, type="h100", clouds=["gcp"])
    errors_of: list[int] = []

    def on_round(last: Round) -> None:
        errors_of.append(last.errors)
        if last.number == 2:
            cloud.gcp.faults.clear()
        if last.number == 3:
            cloud.gcp.faults.fail("nodes", "denied", times=None)

    cloud.gcp.faults.fail("nodes", "denied", times=None)
    supervise(cloud.session, rounds=6, on_round=on_round)
    assert [errors > 0 for errors in errors_of] == [True, True, True, False, True, True]
    assert len([line for line in caplog.messages if line.startswith(f"gcp {cluster.region}: could not")]) == 2
    cloud.gcp.faults.clear()
    cluster.terminate()


def test_a_bug_in_one_step_does_not_keep_machines_running(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Cluster.request(gpus=8, type="h100", ttl="1h")
    cloud.advance("61m")

    def broken(session: object) -> None:
        raise ZeroDivisionError

    # Patched, since the test doubles raise only errors of this package.
    monkeypatch.setattr("multicompute.monitor.supervise.refresh_all", broken)
    assert a_round(cloud).errors == 1
    assert "ZeroDivisionError" in caplog.text
    assert cloud.alive() == []


def test_a_ledger_that_can_not_be_opened_stops_it_at_once(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked() -> None:
        raise errors.LedgerError("the disk is gone")

    monkeypatch.setattr(cloud.session.ledger, "clusters", locked)
    with pytest.raises(errors.LedgerError):
        supervise(cloud.session, rounds=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("operation", ["nodes", "resources"])
def test_a_signal_stops_it_after_the_current_step(
    cloud: FakeCloud, number: int, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster.request(gpus=8, type="h100")
    cloud.advance("5m")
    cloud.aws.faults.hook(operation, lambda call: signal.raise_signal(number))
    supervise(cloud.session)
    assert caplog.messages[-1] == "stopped"
    assert not is_leased(cloud, cluster)
    assert Cluster.get(cluster.name).state is ClusterState.READY
    cluster.terminate()


def test_a_signal_in_a_teardown_stops_it_after_the_deletes_are_sent(cloud: FakeCloud) -> None:
    first = Cluster.request(gpus=8, type="h100", ttl="1h", clouds=["aws"])
    second = Cluster.request(gpus=8, type="h100", ttl="1h", clouds=["gcp"])
    cloud.advance("61m")
    calls: list[object] = []

    def once(call: object) -> None:
        if not calls:
            signal.raise_signal(signal.SIGTERM)
        calls.append(call)

    cloud.aws.faults.hook("terminate", once)
    supervise(cloud.session)
    assert Cluster.get(first.name).state is ClusterState.TERMINATING
    assert Cluster.get(second.name).state is ClusterState.READY
    cloud.advance(INTERVAL)
    assert (cloud.aws.running_ids(), len(cloud.gcp.running_ids())) == ([], 1)
    assert not is_leased(cloud, second)
    a_round(cloud)
    assert cloud.alive() == []


def test_another_thread_can_stop_it(cloud: FakeCloud) -> None:
    cancellation = Cancellation()
    rounds: list[int] = []

    def on_round(last: Round) -> None:
        rounds.append(last.number)
        if len(rounds) == 3:
            cancellation.request(KeyboardInterrupt())

    supervise(cloud.session, cancellation=cancellation, on_round=on_round)
    assert rounds == [0, 1, 2]


def test_several_supervisors_at_once_terminate_each_cluster_once(cloud: FakeCloud) -> None:
    names = [Cluster.request(gpus=8, type="h100", ttl="1h", clouds=["aws"]).name for _ in range(6)]
    cloud.advance("61m")
    done: list[str] = []

    def work() -> None:
        last = supervise(cloud.session, rounds=3)
        assert last is not None
        done.append("")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    for name in names:
        ended = Cluster.get(name)
        assert ended.state is ClusterState.TERMINATED
        assert [event.kind for event in ended.events()].count("terminated") == 1
    assert cloud.alive() == []


def test_a_cluster_that_another_process_works_on_is_left_alone(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", ttl="1h")
    cloud.advance("61m")
    lease = Lease(cloud.session, cluster.id)
    assert lease.acquire()
    last = a_round(cloud)
    assert f"{cluster.name}: another process works on it" in last.notes
    assert last.errors == 0
    assert cloud.clusters_alive() == [cluster.name]
    lease.release()
    a_round(cloud)
    assert cloud.alive() == []


def test_an_orphan_is_noted_and_deleted_when_it_has_expired(cloud: FakeCloud) -> None:
    candidate = Cluster.plan(8, "h100", clouds=["aws"]).candidates[0]
    request = launch_request(candidate.parts[0].offer, cluster="stray", owner=cloud.session.config.owner)
    end = cloud.clock.now() + timedelta(hours=1)
    cloud.aws.launch(replace(request, expires_at=end, tags={**request.tags, TAG_EXPIRES_AT: expiry_tag(end)}))
    (note,) = a_round(cloud).notes
    assert note.startswith("stray: an orphan in aws")
    assert cloud.clusters_alive() == ["stray"]
    cloud.advance("61m")
    assert a_round(cloud).done == ["stray: an expired orphan, deleted"]
    assert cloud.alive() == []
