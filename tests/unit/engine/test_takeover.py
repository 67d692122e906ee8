"""A process that stands still for longer than its lease lasts, and those who go on with its cluster meanwhile; on clouds in memory."""

import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.operation.lease import LENGTH, holding, machine_name, process_name
from multicompute.engine.provision.request import request
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.provider import Capability
from multicompute.session import use_session
from multicompute.spec import ClusterSpec
from multicompute.testing import Call, FakeCloud, fake_cloud

# Tests are imported by their file (importmode=importlib), so neighbours have to be found by hand.
from tests.unit.engine.crashing_process import Killed, ProviderHarness


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


class _Dead(BaseException):
    pass


def once(cloud: FakeCloud, operation: str, act: Callable[[], object]) -> None:
    """Let something happen at the next call of `operation`, before it is worked on."""
    met: list[Call] = []

    def meet(call: Call) -> None:
        met.append(call)
        if len(met) == 1:
            act()

    cloud.aws.faults.hook(operation, meet)


def kinds(name: str) -> list[str]:
    return [event.kind for event in Cluster.get(name).events()]


@pytest.mark.parametrize("operation", ["quotas", "launch", "nodes"])
def test_who_was_overtaken_by_the_end_of_its_cluster_leaves_nothing_and_ends_it_only_once(
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
    # What stands beside machines that came after the end is free, and found by its tags.
    reconcile(cloud.session)
    assert cloud.alive() == []
    assert kinds("slow").count("terminated") + kinds("slow").count("failed") == 1


def test_who_was_overtaken_by_another_request_buys_nothing_beside_it(cloud: FakeCloud) -> None:
    def request() -> None:
        cloud.advance("10m")
        assert Cluster.request(gpus=16, type="h100", name="slow").state is ClusterState.READY

    once(cloud, "quotas", request)
    cluster = Cluster.request(gpus=16, type="h100", name="slow")
    assert sorted(node.id for node in cluster.nodes) == sorted(cloud.aws.running_ids())
    assert len(cluster.nodes) == 2
    cluster.terminate()
    assert cloud.alive() == []


def test_who_was_overtaken_by_one_that_died_takes_its_attempt_over_and_opens_no_second_one(cloud: FakeCloud) -> None:
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


def test_a_launch_that_was_repeated_for_long_is_in_doubt_from_its_last_call_on(cloud: FakeCloud) -> None:
    # Nothing beside the machines tells of those that are hidden.
    cloud.aws.capabilities -= {Capability.DEPENDENT_RESOURCES}
    cloud.aws.lag = timedelta(seconds=50)
    cloud.aws.faults.throttle("launch", times=7)
    cloud.aws.faults.lose_answer("launch")

    def die(_: object) -> None:
        raise _Dead

    cloud.aws.faults.hook("nodes", lambda _: (cloud.aws.faults.hook("*", die), die(_)))
    with pytest.raises(_Dead):
        Cluster.request(gpus=16, type="h100", name="busy")
    assert cloud.aws.faults.count("launch") == 8
    assert len(cloud.clusters_alive()) == 1
    cloud.aws.faults.clear()
    for _ in range(3):
        # The attempt's first call is older than the consistency window, its last one is not, and listings show nothing of it yet.
        report = reconcile(cloud.session)
        assert Cluster.get("busy").state.is_live or cloud.alive() == []
        cloud.advance("30s")
    assert report.in_doubt == []
    if Cluster.get("busy").state.is_live:
        Cluster.get("busy").terminate()
    assert cloud.alive() == []


def test_a_gang_that_listings_do_not_show_yet_is_not_taken_for_one_that_is_cut_off(cloud: FakeCloud) -> None:
    cloud.aws.lag = timedelta(seconds=50)
    cluster = Cluster.request(gpus=16, type="h100", name="fresh", wait=False)
    assert reconcile(cloud.session).in_doubt == ["fresh"]
    cloud.advance("1m")
    assert reconcile(cloud.session).adopted == ["fresh"]
    assert len(cloud.aws.running_ids()) == 2
    cluster.terminate()
    assert cloud.alive() == []


def test_a_teardown_that_fails_while_a_cluster_is_waited_for_tells_the_clouds_reason(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="h100", wait=False)
    cluster.terminate(wait=False)
    cloud.aws.faults.fail("terminate", "denied")
    with pytest.raises(errors.AccessDeniedError):
        cluster.wait()
    assert Cluster.get(cluster.name).state is ClusterState.TERMINATING
    cluster.terminate()
    assert cloud.alive() == []


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> Iterator[ProviderHarness]:
    world = ProviderHarness(tmp_path)
    yield world
    world.close()


def test_a_launch_that_is_not_listed_yet_keeps_its_cluster_open_until_it_must_have_shown(
    world: ProviderHarness,
) -> None:
    cloud = world.clouds["aws"]
    # Without a group that stands in the way of the end for as long as hidden machines live.
    cloud.capabilities -= {Capability.DEPENDENT_RESOURCES}
    cloud.lag = timedelta(seconds=50)
    first, second = world.process(), world.process()
    first.fate.arm(1, "after launch", lambda where: first.fate.kill())
    spec = ClusterSpec.of({"gpus": 8, "type": "h100", "name": "hidden", "clouds": ["aws"]})
    with pytest.raises(Killed):
        request(first.session, spec)
    first.bury(where_all_see_it=True)
    assert cloud.running_ids() == [] and len(world.ours()) > 0, "launched, and neither running nor listed"
    began = world.clock.now()
    with use_session(second.session):
        Cluster.get("hidden").terminate()
    assert world.clock.now() >= began + cloud.lag
    world.clock.advance("10m")
    assert world.ours() == []
    assert world.broken == []
    second.session.close()


def test_nobody_else_works_on_a_cluster_between_its_claim_and_its_first_attempt(world: ProviderHarness) -> None:
    mine, other = world.process(), world.process()
    reports = []

    def meanwhile(where: str) -> bool:
        reports.append(reconcile(other.session))
        return len(reports) == 2

    mine.fate.arm(1, "after a commit", meanwhile)
    spec = ClusterSpec.of({"gpus": 8, "type": "h100", "name": "claimed", "clouds": ["aws"]})
    record = request(mine.session, spec)
    assert record.state is ClusterState.READY
    assert [report.terminated for report in reports] == [[], []]
    assert [report.clusters for report in reports] == [["claimed"], ["claimed"]]
    assert world.broken == []
    for process in (mine, other):
        process.session.close()


@pytest.mark.parametrize("is_buried", [True, False])
def test_the_lease_of_a_dead_process_is_free_at_once_also_where_nobody_has_waited_for_it(
    cloud: FakeCloud, is_buried: bool
) -> None:
    cluster = Cluster.request(gpus=8, type="h100", clouds=["aws"])
    ledger, clock = cloud.session.ledger, cloud.clock
    child = subprocess.Popen(["sleep", "60"])
    assert ledger.take_lease(cluster.id, f"{process_name(child.pid)}:1", now=clock.now(), length=LENGTH) != ""
    with holding(cloud.session, cluster.id) as lease:
        assert lease is None, "it lives"
    child.kill()
    # Waits for the end, and leaves it to be waited for, as a container without an init does.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    if is_buried:
        child.wait()
    with holding(cloud.session, cluster.id) as lease:
        assert lease is not None
    child.wait()
    cluster.terminate()
    assert cloud.alive() == []


@pytest.mark.parametrize("part", [0, 1, 2], ids=["host", "boot", "container"])
def test_a_process_of_another_machine_boot_or_container_may_be_alive_whatever_its_id(
    cloud: FakeCloud, part: int
) -> None:
    cluster = Cluster.request(gpus=8, type="h100", clouds=["aws"])
    names = machine_name().split(".")
    names[part - 3] += "0"
    holder = f"{'.'.join(names)}:999999:1:1"
    cloud.session.ledger.take_lease(cluster.id, holder, now=cloud.clock.now(), length=LENGTH)
    with holding(cloud.session, cluster.id) as lease:
        assert lease is None
    cloud.clock.advance(LENGTH)
    cluster.terminate()
    assert cloud.alive() == []
