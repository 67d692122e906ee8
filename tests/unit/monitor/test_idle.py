"""A cluster that is known to be idle is terminated, and one that was not measured never is."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from multicompute import Cluster, ClusterState
from multicompute.engine.recovery.reap import reap
from multicompute.monitor.idle import is_idle
from multicompute.monitor.supervise import supervise
from multicompute.node import Metric, Node, NodeState, Sample
from multicompute.provider import Capability
from multicompute.testing import FakeCloud, fake_cloud

NOW = datetime(2027, 1, 1, 12, tzinfo=UTC)
LIMIT = timedelta(minutes=30)
LONG_AGO = NOW - timedelta(days=1)
BY_FIVE = range(1, 30, 5)
"""Minutes ago at which a cloud that measures every five minutes has samples."""


def a_node(name: str = "i-0", accelerators: float = 1) -> Node:
    return Node(name, 0, "aws", "p5.4xlarge", "us-east-1", "us-east-1a", NodeState.RUNNING, accelerators=accelerators)


def measured(
    minutes: Iterable[float],
    *,
    value: float = 1.0,
    node: str = "i-0",
    accelerator: int | None = 0,
    metric: Metric = Metric.ACCELERATOR,
) -> list[Sample]:
    return [Sample(metric, node, NOW - timedelta(minutes=ago), value, accelerator) for ago in minutes]


QUIET = measured(BY_FIVE)
CASES: dict[str, tuple[bool, list[Node], list[Sample]]] = {
    "quiet all the time": (True, [a_node()], QUIET),
    "at exactly 5 %": (True, [a_node()], measured(BY_FIVE, value=5.0)),
    "busy once": (False, [a_node()], [*QUIET, *measured([17], value=5.1)]),
    "busy before the window": (True, [a_node()], [*QUIET, *measured([30, 31, 45], value=99.0)]),
    "a CPU that is busy is no accelerator": (True, [a_node()], [*QUIET, *measured([3], value=99.0, metric=Metric.CPU)]),
    "nothing measured": (False, [a_node()], []),
    "only the CPU is measured": (False, [a_node()], measured(BY_FIVE, metric=Metric.CPU)),
    "begins ten minutes late": (True, [a_node()], measured([20, 11, 2])),
    "begins later than that": (False, [a_node()], measured([19.9, 11, 2])),
    "a gap of ten minutes": (True, [a_node()], measured([29, 19, 9])),
    "a gap of more": (False, [a_node()], measured([29, 19.5, 9])),
    "lags by ten minutes": (True, [a_node()], measured([28, 19, 10])),
    "no recent sample": (False, [a_node()], measured([28, 20, 10.1])),
    "two nodes, both quiet": (True, [a_node(), a_node("i-1")], [*QUIET, *measured(BY_FIVE, node="i-1")]),
    "two nodes, one not measured": (False, [a_node(), a_node("i-1")], QUIET),
    "two nodes, one at work": (False, [a_node(), a_node("i-1")], [*QUIET, *measured(BY_FIVE, node="i-1", value=80)]),
    "one accelerator of two measured": (False, [a_node(accelerators=2)], QUIET),
    "both accelerators quiet": (True, [a_node(accelerators=2)], [*QUIET, *measured(BY_FIVE, accelerator=1)]),
    "one of two at work": (False, [a_node(accelerators=2)], [*QUIET, *measured(BY_FIVE, accelerator=1, value=60)]),
    "one of two has no recent sample": (False, [a_node(accelerators=2)], [*QUIET, *measured([28, 20], accelerator=1)]),
    "measured as a whole": (True, [a_node(accelerators=8)], measured(BY_FIVE, accelerator=None)),
    "a share of an accelerator": (True, [a_node(accelerators=0.25)], QUIET),
    "what is not a number is not quiet": (False, [a_node()], [*QUIET, *measured([3], value=float("nan"))]),
    "a foreign node is at work": (True, [a_node()], [*QUIET, *measured(BY_FIVE, node="i-9", value=90)]),
    "no nodes": (False, [], QUIET),
}


@pytest.mark.parametrize(("expected", "nodes", "samples"), CASES.values(), ids=CASES)
def test_a_cluster_is_idle_if_it_was_measured_all_the_time_and_did_nothing(
    expected: bool, nodes: list[Node], samples: list[Sample]
) -> None:
    assert is_idle(nodes, samples, up_since=LONG_AGO, now=NOW, limit=LIMIT) is expected
    # In any order of the samples.
    assert is_idle(nodes, samples[::-1], up_since=LONG_AGO, now=NOW, limit=LIMIT) is expected


@pytest.mark.parametrize(("minutes", "expected"), [(31, True), (30, True), (29, False), (0, False)])
def test_a_cluster_that_has_not_been_up_for_so_long_is_not_idle(minutes: int, expected: bool) -> None:
    since = NOW - timedelta(minutes=minutes)
    assert is_idle([a_node()], QUIET, up_since=since, now=NOW, limit=LIMIT) is expected


def test_a_short_limit_needs_closer_samples() -> None:
    limit = timedelta(minutes=10)
    assert not is_idle([a_node()], measured([6]), up_since=LONG_AGO, now=NOW, limit=limit)
    assert is_idle([a_node()], measured([6, 2]), up_since=LONG_AGO, now=NOW, limit=limit)


# --- from request to termination, in virtual time -----------------------------------------------------------------------------


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


def load(cloud: FakeCloud, cluster: Cluster, percent: float) -> None:
    for node in cluster.nodes:
        cloud.aws.set_load(node.id, {Metric.ACCELERATOR: percent, Metric.CPU: 50.0})


def a_round(cloud: FakeCloud) -> None:
    supervise(cloud.session, rounds=1)


def test_a_cluster_that_does_nothing_is_terminated_after_its_limit_with_the_reason(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="h100", idle_timeout="30m")
    load(cloud, cluster, 2.0)
    cloud.advance("29m")
    a_round(cloud)
    assert Cluster.get(cluster.name).state is ClusterState.READY
    cloud.advance("2m")
    a_round(cloud)
    ended = Cluster.get(cluster.name)
    assert ended.state is ClusterState.TERMINATED
    assert ended.reason == "idle: no accelerator above 5 % since 2027-01-01 00:01 UTC"
    assert any(ended.reason in event.message for event in ended.events())
    assert cloud.alive() == []


def test_a_cluster_with_one_busy_node_lives(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="h100", idle_timeout="30m")
    load(cloud, cluster, 2.0)
    cloud.aws.set_load(cluster.nodes[1].id, {Metric.ACCELERATOR: 70.0})
    cloud.advance("3h")
    a_round(cloud)
    assert Cluster.get(cluster.name).state is ClusterState.READY
    cluster.terminate()


def test_a_cluster_that_was_not_measured_lives_and_has_one_event_that_says_so(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", idle_timeout="30m")
    cloud.advance("2h")
    a_round(cloud)
    cloud.advance("1h")
    a_round(cloud)
    assert Cluster.get(cluster.name).state is ClusterState.READY
    notes = [event.message for event in cluster.events() if event.kind == "note"]
    assert notes == ["idle_timeout has no effect: its accelerators were not measured"]
    cluster.terminate()


def test_a_cluster_in_a_cloud_that_does_not_measure_lives_and_has_one_event_that_says_so(cloud: FakeCloud) -> None:
    cloud.aws.capabilities -= {Capability.METRICS}
    cluster = Cluster.request(gpus=8, type="h100", idle_timeout="30m")
    load(cloud, cluster, 0.0)
    cloud.advance("2h")
    a_round(cloud)
    a_round(cloud)
    assert Cluster.get(cluster.name).state is ClusterState.READY
    notes = [event.message for event in cluster.events() if event.kind == "note"]
    assert notes == ["idle_timeout has no effect: aws does not measure accelerators"]
    assert cloud.aws.faults.count("metrics") == 0
    cluster.terminate()


def test_monitoring_that_fails_terminates_nothing(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", idle_timeout="30m")
    load(cloud, cluster, 0.0)
    cloud.advance("2h")
    cloud.aws.faults.fail("metrics", "denied", times=1)
    a_round(cloud)
    assert Cluster.get(cluster.name).state is ClusterState.READY
    a_round(cloud)
    assert Cluster.get(cluster.name).state is ClusterState.TERMINATED
    assert cloud.alive() == []


def test_a_cluster_with_a_lost_node_lives_and_its_idle_time_starts_anew_when_it_is_healed(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="h100", idle_timeout="30m")
    load(cloud, cluster, 0.0)
    cloud.advance("20m")
    cloud.aws.preempt(cluster.nodes[1].id)
    cluster.refresh()
    cloud.advance("2h")
    a_round(cloud)
    assert Cluster.get(cluster.name).state is ClusterState.DEGRADED
    cluster.heal()
    load(cloud, cluster, 0.0)
    cloud.advance("20m")
    a_round(cloud)
    assert Cluster.get(cluster.name).state is ClusterState.READY
    cloud.advance("15m")
    a_round(cloud)
    assert Cluster.get(cluster.name).state is ClusterState.TERMINATED
    assert cloud.alive() == []


def test_a_cluster_that_is_degraded_since_it_was_found_idle_lives(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="h100", idle_timeout="30m")
    cloud.advance("2h")
    cloud.aws.preempt(cluster.nodes[1].id)
    cluster.refresh()
    assert reap(cloud.session, idle={cluster.id: "idle"}).terminated == []
    assert Cluster.get(cluster.name).state is ClusterState.DEGRADED
    cluster.terminate()


def test_without_an_idle_timeout_nothing_is_measured(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100")
    load(cloud, cluster, 0.0)
    cloud.advance("2h")
    a_round(cloud)
    assert cloud.aws.faults.count("metrics") == 0
    assert Cluster.get(cluster.name).state is ClusterState.READY
    cluster.terminate()


def test_only_the_last_minutes_of_a_busy_cluster_are_read(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", idle_timeout="1h")
    load(cloud, cluster, 90.0)
    cloud.advance("2h")
    a_round(cloud)
    assert cloud.aws.faults.count("metrics") == 1
    load(cloud, cluster, 0.0)
    a_round(cloud)
    assert cloud.aws.faults.count("metrics") == 3
    assert cloud.alive() == []
