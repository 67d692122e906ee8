"""The end of a lease while several processes work on the cluster: an extended one lives, others end once; on clouds in memory."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.operation.lease import LEASE_LENGTH
from multicompute.engine.recovery.reap import ReapReport, reap
from multicompute.node import Event
from multicompute.provider import TAG_EXPIRES_AT, Capability
from multicompute.session import use_session
from multicompute.testing import FakeCloud, fake_cloud


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        # So that only this package ends what has expired.
        cloud.aws.capabilities -= {Capability.EXPIRY}
        yield cloud


def once(cloud: FakeCloud, operation: str, action: Callable[[], object]) -> None:
    """Call `action` in the middle of the next call of `operation`, as another process might."""
    done: list[bool] = []

    def act(call: object) -> None:
        if not done:
            done.append(True)
            action()

    cloud.aws.faults.hook(operation, act)


def expired(cloud: FakeCloud, *names: str) -> list[Cluster]:
    clusters = [Cluster.request(gpus=16, type="h100", name=name, ttl="1h") for name in names]
    cloud.advance("61m")
    return clusters


def kinds(events: list[Event] | tuple[Event, ...]) -> list[str]:
    return [event.kind for event in events if event.kind in ("terminating", "terminated", "failed", "extended")]


def test_a_reap_spares_a_cluster_that_was_extended_after_it_was_listed_as_expired(cloud: FakeCloud) -> None:
    _, second = expired(cloud, "first", "second")
    once(cloud, "terminate", lambda: Cluster.get("second").extend("2h"))
    assert reap(cloud.session).terminated == ["first"]
    assert second.refresh().state is ClusterState.READY
    assert cloud.aws.running_ids() == [node.id for node in second.nodes]
    assert kinds(second.events()) == ["extended"]
    cloud.advance("121m")
    assert reap(cloud.session).terminated == ["second"]
    assert cloud.alive() == []


def test_a_reap_in_the_middle_of_an_extension_leaves_the_cluster_alone(cloud: FakeCloud) -> None:
    (cluster,) = expired(cloud, "late")
    reports: list[ReapReport] = []
    once(cloud, "set_expiry", lambda: reports.append(reap(cloud.session)))
    end = cluster.extend("2h")
    (report,) = reports
    assert (report.terminated, report.failed, report.orphans) == ([], {}, [])
    assert (report.not_due, report.notes) == (["late"], ["late: another process works on it"])
    assert cluster.refresh().state is ClusterState.READY
    assert {item.tags[TAG_EXPIRES_AT] for item in cloud.alive() if item.kind == "node"} == {str(int(end.timestamp()))}
    assert reap(cloud.session).terminated == []
    cluster.terminate()
    assert cloud.alive() == []


def test_a_cluster_that_another_reap_has_ended_is_not_ended_again(cloud: FakeCloud) -> None:
    first, second = expired(cloud, "first", "second")
    others: list[ReapReport] = []
    once(cloud, "terminate", lambda: others.append(reap(cloud.session)))
    report = reap(cloud.session)
    assert (report.terminated, report.failed, report.notes) == (["first"], {}, [])
    assert (others[0].terminated, others[0].failed) == (["second"], {})
    assert others[0].notes == ["first: another process works on it"]
    for cluster in (first, second):
        assert kinds(cluster.events()) == ["terminating", "terminated"]
        assert Cluster.get(cluster.name).state is ClusterState.TERMINATED
    assert cloud.alive() == []


def test_a_reap_spares_a_new_cluster_of_the_name_of_an_expired_one(cloud: FakeCloud) -> None:
    expired(cloud, "first", "second")

    def reap_and_request_again() -> None:
        reap(cloud.session)
        Cluster.request(gpus=8, type="h100", name="second", ttl="5h")

    once(cloud, "terminate", reap_and_request_again)
    assert reap(cloud.session).terminated == ["first"]
    again = Cluster.get("second")
    assert again.state is ClusterState.READY
    assert cloud.aws.running_ids() == [node.id for node in again.nodes]
    again.terminate()
    assert cloud.alive() == []


def test_a_refresh_of_a_cluster_that_was_terminated_meanwhile_does_not_make_it_ready_again(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="refreshed")
    twin = Cluster.get("refreshed")
    once(cloud, "nodes", lambda: twin.terminate(wait=False))
    cluster.refresh()
    reap(cloud.session)
    assert cluster.refresh().state is ClusterState.TERMINATED
    assert kinds(cluster.events())[-1] == "terminated"
    assert kinds(cluster.events()).count("terminated") == 1
    assert cloud.alive() == []


@pytest.mark.parametrize("operation", ["terminate", "terminate without wait", "refresh", "reap"])
def test_a_cluster_that_was_ended_before_the_lease_was_acquired_stays_ended(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    (cluster,) = expired(cloud, "quick")
    _terminate_before_the_next_lease(cloud, monkeypatch)
    act: dict[str, Callable[[], object]] = {
        "terminate": cluster.terminate,
        "terminate without wait": lambda: cluster.terminate(wait=False),
        "refresh": cluster.refresh,
        "reap": lambda: reap(cloud.session),
    }
    act[operation]()
    assert Cluster.get("quick").state is ClusterState.TERMINATED
    assert kinds(cluster.events()) == ["terminating", "terminated"]
    assert cloud.alive() == []


def test_an_extension_of_a_cluster_that_was_ended_before_the_lease_was_acquired_is_refused(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="quick", ttl="1h")
    _terminate_before_the_next_lease(cloud, monkeypatch)
    with pytest.raises(errors.ClusterNotFound, match="TERMINATED"):
        cluster.extend("1h")
    assert Cluster.get("quick").state is ClusterState.TERMINATED
    assert cloud.alive() == []


def test_two_extensions_count_even_if_one_waited_for_the_lease(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="longer", ttl="1h")
    before = cluster.expires_at
    assert before is not None
    _before_the_next_lease(cloud, monkeypatch, lambda: Cluster.get("longer").extend("2h"))
    assert cluster.extend("1h") == before + timedelta(hours=3)
    cluster.terminate()
    assert cloud.alive() == []


def _terminate_before_the_next_lease(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    _before_the_next_lease(cloud, monkeypatch, lambda: Cluster.list()[0].terminate())


def _before_the_next_lease(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Call `action`, as another process might, after the next operation has read the ledger and before it acquires the lease."""
    # Patched, since no test double is involved between the two.
    ledger = cloud.session.ledger
    take = ledger.take_lease

    def act_and_take(*args: Any, **kwargs: Any) -> str:
        monkeypatch.undo()
        action()
        return take(*args, **kwargs)

    monkeypatch.setattr(ledger, "take_lease", act_and_take)


def test_an_extension_of_a_cluster_whose_termination_is_requested_meanwhile_fails(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="ending", ttl="1h")
    once(cloud, "set_expiry", lambda: Cluster.get("ending").terminate(wait=False))
    with pytest.raises(errors.ClusterNotFound, match="by request"):
        cluster.extend("1h")
    assert reap(cloud.session).terminated == ["ending"]
    assert cloud.alive() == []


def test_an_extension_that_can_not_acquire_the_lease_fails_and_changes_nothing(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="busy", ttl="1h")
    before = cluster.expires_at
    cloud.session.ledger.take_lease(cluster.id, "elsewhere:1:2:3", now=cloud.clock.now(), length=LEASE_LENGTH)
    with pytest.raises(errors.ClusterNotFound, match="another process works on it"):
        cluster.extend("1h")
    assert Cluster.get("busy").expires_at == before
    cloud.advance(LEASE_LENGTH)
    assert before is not None
    assert cluster.extend("1h") == before + timedelta(hours=1)
    cluster.terminate()
    assert cloud.alive() == []


def test_an_expired_cluster_whose_process_on_another_host_fell_silent_is_ended_when_its_lease_is_over(
    cloud: FakeCloud,
) -> None:
    (cluster,) = expired(cloud, "left-behind")
    cloud.session.ledger.take_lease(cluster.id, "elsewhere:1:2:3", now=cloud.clock.now(), length=LEASE_LENGTH)
    report = reap(cloud.session)
    assert (report.terminated, report.notes) == ([], ["left-behind: another process works on it"])
    cloud.advance(LEASE_LENGTH)
    assert reap(cloud.session).terminated == ["left-behind"]
    assert cloud.alive() == []


def test_a_cluster_that_expires_while_it_comes_up_is_ended_by_the_process_that_brings_it_up(cloud: FakeCloud) -> None:
    def expire() -> None:
        cloud.advance("90s")
        assert reap(cloud.session).notes == ["slow: another process works on it"]

    once(cloud, "launch", expire)
    with pytest.raises(errors.MulticomputeError, match="expired"):
        Cluster.request(gpus=8, type="h100", name="slow", ttl="1m")
    cluster = Cluster.get("slow")
    assert "expired" in cluster.reason
    assert cloud.alive() == []


def test_a_spent_budget_ends_the_cluster_and_its_events_say_so(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="dear", ttl="7d", budget=100)
    hours = 100 / cluster.hourly_cost
    cloud.advance(timedelta(hours=hours) - timedelta(minutes=3))
    assert reap(cloud.session).terminated == []
    assert cluster.refresh().state is ClusterState.READY
    cloud.advance("4m")
    assert reap(cloud.session, dry_run=True).terminated == ["dear"]
    assert reap(cloud.session).terminated == ["dear"]
    assert [event.message for event in cluster.events() if event.kind in ("terminating", "terminated")] == [
        "terminating: budget of $100.00 reached",
        "terminated: budget of $100.00 reached; nothing is left running",
    ]
    assert cloud.alive() == []


def test_an_extended_cluster_still_ends_at_its_budget(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="dear", ttl="1h", budget=100)
    cluster.extend("7d")
    cloud.advance(timedelta(hours=101 / cluster.hourly_cost))
    assert reap(cloud.session).terminated == ["dear"]
    assert cloud.alive() == []


def test_an_expired_orphan_that_its_own_ledger_extends_meanwhile_is_spared(cloud: FakeCloud) -> None:
    with fake_cloud("aws", clock=cloud.clock) as other:
        # Another ledger of the same owner in the same account.
        other.session._providers["aws"] = cloud.aws
        other.session.random = Random(1)
        theirs = Cluster.request(gpus=8, type="h100", ttl="1h", name="theirs")
        with use_session(cloud.session):
            expired(cloud, "ours")
            # After it was listed, and before it is deleted: expired clusters of this ledger are terminated first.
            once(cloud, "terminate", lambda: theirs.extend("2h"))
            report = reap(cloud.session)
        assert (report.terminated, report.orphans, report.failed) == (["ours"], [], {})
        assert cloud.clusters_alive() == ["theirs"]
        assert theirs.refresh().state is ClusterState.READY
        cloud.advance("121m")
        assert reap(cloud.session).orphans == ["theirs"]
    assert cloud.alive() == []
