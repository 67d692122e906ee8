"""Processes that are suspended for longer than their lease, while others take their cluster over; on clouds in memory."""

import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.operation.lease import LEASE_LENGTH, hold_lease, machine_name, process_name
from multicompute.engine.provision.request import request
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.provider import Capability
from multicompute.session import use_session
from multicompute.spec import ClusterSpec
from multicompute.testing import Call, FakeCloud, fake_cloud
from tests.unit.engine.crashing_process import InvariantHarness, Killed


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


class _Dead(BaseException):
    pass


def once(cloud: FakeCloud, operation: str, act: Callable[[], object]) -> None:
    """Call `act` when the next call of `operation` reaches the cloud, before the cloud works on it."""
    calls: list[Call] = []

    def hook(call: Call) -> None:
        calls.append(call)
        if len(calls) == 1:
            act()

    cloud.aws.faults.hook(operation, hook)


def kinds(name: str) -> list[str]:
    return [event.kind for event in Cluster.get(name).events()]


@pytest.mark.parametrize("operation", ["quotas", "launch", "nodes"])
def test_a_process_whose_cluster_was_terminated_by_another_leaves_nothing_and_ends_it_only_once(
    cloud: FakeCloud, operation: str
) -> None:
    def end() -> None:
        cloud.advance("10m")
        Cluster.get("slow").terminate()

    once(cloud, operation, end)
    with pytest.raises(errors.ClusterNotFound):
        Cluster.request(gpus=16, type="h100", name="slow")
    cloud.advance("1m")
    assert [item for item in cloud.alive() if item.billable] == []
    # Dependent resources that were created after the end cost nothing, and are found by their tags.
    reconcile(cloud.session)
    assert cloud.alive() == []
    assert kinds("slow").count("terminated") + kinds("slow").count("failed") == 1


def test_a_process_whose_cluster_was_brought_up_by_another_buys_nothing_more(cloud: FakeCloud) -> None:
    def request() -> None:
        cloud.advance("10m")
        assert Cluster.request(gpus=16, type="h100", name="slow").state is ClusterState.READY

    once(cloud, "quotas", request)
    cluster = Cluster.request(gpus=16, type="h100", name="slow")
    assert sorted(node.id for node in cluster.nodes) == sorted(cloud.aws.running_ids())
    assert len(cluster.nodes) == 2
    cluster.terminate()
    assert cloud.alive() == []


def test_the_attempt_of_a_process_that_took_the_cluster_over_and_died_is_continued_and_no_second_one_opened(
    cloud: FakeCloud,
) -> None:
    def die_in_a_launch() -> None:
        cloud.advance("10m")

        def die(_: object) -> None:
            raise _Dead

        cloud.aws.faults.lose_answer("launch")
        once(cloud, "nodes", lambda: cloud.aws.faults.hook("*", die))
        with pytest.raises(_Dead):
            Cluster.request(gpus=16, type="h100", name="slow")
        cloud.aws.faults.clear()
        cloud.session.ledger.update_cluster(Cluster.get("slow").id, state=ClusterState.PROVISIONING)
        cloud.advance("10m")

    once(cloud, "quotas", die_in_a_launch)
    cluster = Cluster.request(gpus=16, type="h100", name="slow")
    assert len(cloud.aws.running_ids()) == len(cluster.nodes) == 2
    cluster.terminate()
    assert cloud.alive() == []


def test_a_launch_that_was_repeated_for_long_is_in_doubt_since_its_last_call(cloud: FakeCloud) -> None:
    # No dependent resource shows that nodes are missing from listings.
    cloud.aws.capabilities -= {Capability.DEPENDENT_RESOURCES}
    cloud.aws.lag = timedelta(seconds=50)
    cloud.aws.faults.throttle("launch", times=7)
    cloud.aws.faults.lose_answer("launch")

    def die(_: object) -> None:
        raise _Dead

    def die_and_stay_dead(call: object) -> None:
        cloud.aws.faults.hook("*", die)
        die(call)

    cloud.aws.faults.hook("nodes", die_and_stay_dead)
    with pytest.raises(_Dead):
        Cluster.request(gpus=16, type="h100", name="busy")
    assert cloud.aws.faults.count("launch") == 8
    assert len(cloud.clusters_alive()) == 1
    cloud.aws.faults.clear()
    for _ in range(3):
        # The attempt's first call is older than the consistency window, its last one is not, and listings do not show it yet.
        report = reconcile(cloud.session)
        assert Cluster.get("busy").state.is_live or cloud.alive() == []
        cloud.advance("30s")
    assert report.in_doubt == []
    if Cluster.get("busy").state.is_live:
        Cluster.get("busy").terminate()
    assert cloud.alive() == []


def test_a_gang_that_listings_do_not_show_yet_does_not_count_as_interrupted(cloud: FakeCloud) -> None:
    cloud.aws.lag = timedelta(seconds=50)
    cluster = Cluster.request(gpus=16, type="h100", name="fresh", wait=False)
    assert reconcile(cloud.session).in_doubt == ["fresh"]
    cloud.advance("1m")
    assert reconcile(cloud.session).adopted == ["fresh"]
    assert len(cloud.aws.running_ids()) == 2
    cluster.terminate()
    assert cloud.alive() == []


def test_a_teardown_that_fails_during_a_wait_raises_the_error_of_the_cloud(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="h100", wait=False)
    cluster.terminate(wait=False)
    cloud.aws.faults.fail("terminate", "denied")
    with pytest.raises(errors.AccessDeniedError):
        cluster.wait()
    assert Cluster.get(cluster.name).state is ClusterState.TERMINATING
    cluster.terminate()
    assert cloud.alive() == []


@pytest.fixture(name="harness")
def _harness(tmp_path: Path) -> Iterator[InvariantHarness]:
    harness = InvariantHarness(tmp_path)
    yield harness
    harness.close()


def test_a_launch_that_is_not_listed_yet_keeps_its_cluster_open_until_it_must_have_shown(
    harness: InvariantHarness,
) -> None:
    cloud = harness.clouds["aws"]
    # Else a group could not be deleted while hidden nodes run, and would keep the teardown waiting.
    cloud.capabilities -= {Capability.DEPENDENT_RESOURCES}
    cloud.lag = timedelta(seconds=50)
    first, second = harness.process(), harness.process()
    first.crash_point.arm(1, "after launch", lambda step: first.crash_point.kill())
    spec = ClusterSpec.of({"gpus": 8, "type": "h100", "name": "hidden", "clouds": ["aws"]})
    with pytest.raises(Killed):
        request(first.session, spec)
    first.close_killed(is_on_this_machine=True)
    assert cloud.running_ids() == [] and len(harness.ours()) > 0, "launched, and neither running nor listed"
    began = harness.clock.now()
    with use_session(second.session):
        Cluster.get("hidden").terminate()
    assert harness.clock.now() >= began + cloud.lag
    harness.clock.advance("10m")
    assert harness.ours() == []
    assert harness.broken == []
    second.session.close()


def test_no_other_process_works_on_a_cluster_between_its_claim_and_its_first_attempt(harness: InvariantHarness) -> None:
    mine, other = harness.process(), harness.process()
    reports = []

    def reconcile_twice(step: str) -> bool:
        reports.append(reconcile(other.session))
        return len(reports) == 2

    mine.crash_point.arm(1, "after a commit", reconcile_twice)
    spec = ClusterSpec.of({"gpus": 8, "type": "h100", "name": "claimed", "clouds": ["aws"]})
    record = request(mine.session, spec)
    assert record.state is ClusterState.READY
    assert [report.terminated for report in reports] == [[], []]
    assert [report.clusters for report in reports] == [["claimed"], ["claimed"]]
    assert harness.broken == []
    for process in (mine, other):
        process.session.close()


@pytest.mark.parametrize("is_reaped", [True, False])
def test_the_lease_of_a_dead_process_is_free_at_once_even_if_it_is_a_zombie(cloud: FakeCloud, is_reaped: bool) -> None:
    cluster = Cluster.request(gpus=8, type="h100", clouds=["aws"])
    ledger, clock = cloud.session.ledger, cloud.clock
    child = subprocess.Popen(["sleep", "60"])
    assert ledger.take_lease(cluster.id, f"{process_name(child.pid)}:1", now=clock.now(), length=LEASE_LENGTH) != ""
    with hold_lease(cloud.session, cluster.id) as lease:
        assert lease is None, "it lives"
    child.kill()
    # The dead child stays a zombie, as it does in a container without an init process.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    if is_reaped:
        child.wait()
    with hold_lease(cloud.session, cluster.id) as lease:
        assert lease is not None
    child.wait()
    cluster.terminate()
    assert cloud.alive() == []


@pytest.mark.parametrize("part", [0, 1, 2], ids=["host", "boot", "container"])
def test_a_process_of_another_machine_boot_or_container_counts_as_alive_whatever_its_id(
    cloud: FakeCloud, part: int
) -> None:
    cluster = Cluster.request(gpus=8, type="h100", clouds=["aws"])
    names = machine_name().split(".")
    names[part - 3] += "0"
    holder = f"{'.'.join(names)}:999999:1:1"
    cloud.session.ledger.take_lease(cluster.id, holder, now=cloud.clock.now(), length=LEASE_LENGTH)
    with hold_lease(cloud.session, cluster.id) as lease:
        assert lease is None
    cloud.clock.advance(LEASE_LENGTH)
    cluster.terminate()
    assert cloud.alive() == []
