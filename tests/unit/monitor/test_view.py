"""The view of a cluster, as text."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from multicompute import Cluster, ClusterState, Event, Node, NodeState
from multicompute.ledger import ClusterRecord
from multicompute.monitor.view import Facts, facts, view
from multicompute.node import Metric, Sample
from multicompute.testing import FakeCloud

NOW = datetime(2027, 1, 1, 12, tzinfo=UTC)


def a_node(rank: int, state: NodeState = NodeState.RUNNING, id: str | None = None) -> Node:
    name = id or f"i-0123456789abc{rank:04d}"
    return Node(name, rank, "aws", "p5.48xlarge", "us-east-1", "us-east-1a", state, accelerators=8)


def a_cluster(nodes: Sequence[Node], *, state: ClusterState = ClusterState.READY, ttl: float | None = 90) -> Facts:
    record = ClusterRecord(
        id="c-1",
        name="train-1",
        state=state,
        owner="me@here",
        spec={},
        identity="{}",
        created_at=NOW,
        expires_at=None if ttl is None else NOW + timedelta(minutes=ttl),
        provider="aws",
        region="us-east-1",
        zone="us-east-1a",
    )
    return Facts(record, tuple(nodes), hourly_cost=110.08, accrued_cost=1234.5)


def a_sample(rank: int, value: float, metric: Metric = Metric.ACCELERATOR, accelerator: int = 0) -> Sample:
    return Sample(metric, f"i-0123456789abc{rank:04d}", NOW, value, accelerator)


def lines(cluster: Facts, samples: Sequence[Sample] = (), events: Sequence[Event] = (), **options: Any) -> list[str]:
    text = view(cluster, samples, events, NOW, **options)
    out = io.StringIO()
    Console(file=out, width=int(str(options.get("width", 80))), color_system=None).print(text)
    return out.getvalue().splitlines()


def test_a_cluster_of_one_node_is_shown_with_state_cost_and_utilisation() -> None:
    shown = lines(
        a_cluster([a_node(0)]),
        [a_sample(0, 40, Metric.CPU), a_sample(0, 93), a_sample(0, 50, Metric.ACCELERATOR_MEMORY)],
        [Event(NOW, "ready", "ready: all nodes run", "c-1")],
    )
    assert shown[0] == "train-1  READY  aws us-east-1a  1 node"
    assert shown[1] == "$110.08 per hour, $1,234.50 so far; expires in 1h 30m, at 2027-01-01T13:30:00Z"
    assert shown[3].split() == ["rank", "node", "state", "instance", "type", "cpu", "accel", "memory"]
    assert shown[4].split() == [
        *("0", "i-0123456789abc0000", "running", "p5.48xlarge"),
        *("40%", "█▎", "93%", "██▊", "50%", "█▌"),
    ]
    assert shown[6] == "12:00:00 ready: all nodes run"


def test_a_metric_that_was_not_measured_is_a_dash_and_a_zero_is_a_zero() -> None:
    (line,) = [line for line in lines(a_cluster([a_node(0)]), [a_sample(0, 0.0)]) if "i-0" in line]
    assert line.split()[4:] == ["-", "0%", "-"]


def test_the_last_value_is_shown_and_the_mean_of_several_accelerators() -> None:
    samples = [a_sample(0, 10), a_sample(0, 20), a_sample(0, 60, accelerator=1)]
    (line,) = [line for line in lines(a_cluster([a_node(0)]), samples) if "i-0" in line]
    assert line.split()[5] == "40%"


@pytest.mark.parametrize("count", [0, 1, 64])
@pytest.mark.parametrize("width", [80, 60, 120])
def test_no_line_is_wider_than_the_terminal(count: int, width: int) -> None:
    long = [a_node(rank, id=f"/subscriptions/{'0' * 36}/machines/train-1-{rank}") for rank in range(count)]
    samples = [Sample(metric, node.id, NOW, 100.0, 0) for node in long for metric in Metric]
    events = [Event(NOW, "note", "語" * 200, "c-1"), Event(NOW, "note", "no capacity " * 40, "c-1")]
    shown = lines(a_cluster(long), samples, events, width=width, note="it can't be asked " * 20)
    assert max(map(len, shown)) <= width
    # No line was wrapped.
    assert len(shown) == 2 + (2 + min(count, 16) + (count > 16) if count else 0) + 3 + 2


def test_nodes_that_fail_and_the_busiest_are_shown_if_there_are_many() -> None:
    every = [a_node(rank) for rank in range(64)]
    every[40] = a_node(40, NodeState.IMPAIRED)
    every[50] = a_node(50, NodeState.GONE)
    samples = [a_sample(rank, rank % 50) for rank in range(64)]
    shown = lines(a_cluster(every), samples, nodes=6)
    ranks = [int(line.split()[0]) for line in shown if "i-0" in line]
    assert ranks == [40, 50, 49, 48, 47, 46]
    assert "... and 58 more" in shown
    assert "63 of 64 nodes" in shown[0]


def test_nodes_are_shown_by_rank_if_all_fit() -> None:
    samples = [a_sample(rank, rank) for rank in range(6)]
    shown = lines(a_cluster([a_node(rank) for rank in range(6)]), samples, nodes=6)
    assert [int(line.split()[0]) for line in shown if "i-0" in line] == list(range(6))
    assert "more" not in " ".join(shown)


def test_only_the_last_events_are_shown_each_on_one_line_without_control_characters() -> None:
    events = [Event(NOW, "note", f"line {number}", "c-1") for number in range(9)]
    events.append(Event(NOW, "note", "two\nlines\x1b[2J", "c-1"))
    shown = [line for line in lines(a_cluster([]), events=events) if line.startswith("12:00:00")]
    assert shown == [*(f"12:00:00 line {number}" for number in range(5, 9)), "12:00:00 two lines [2J"]


@pytest.mark.parametrize(
    ("state", "ttl", "words"),
    [
        (ClusterState.READY, None, "does not expire"),
        (ClusterState.READY, 1501, "expires in 25h 01m"),
        (ClusterState.TERMINATING, -5, "expired at 2027-01-01T11:55:00Z"),
        (ClusterState.TERMINATED, 5, "ended"),
    ],
)
def test_the_expiry_is_shown(state: ClusterState, ttl: float | None, words: str) -> None:
    assert words in lines(a_cluster([], state=state, ttl=ttl))[1]


def test_a_terminal_without_blocks_gets_plain_bars() -> None:
    text = "\n".join(lines(a_cluster([a_node(0)]), [a_sample(0, 50)], blocks=False))
    assert "50% ##" in text
    assert text.isascii()


def test_nodes_that_boot_are_shown_before_they_have_a_rank(fake_cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="h100", clouds=["aws"], wait=False)
    found = facts(fake_cloud.session, cluster.id)
    shown = lines(found)
    assert shown[0] == f"{cluster.name}  PROVISIONING  aws us-east-1a  2 nodes"
    assert [line.split()[0::2][:2] for line in shown if "aws-node" in line] == [["-", "pending"]] * 2
    cluster.terminate()
    assert fake_cloud.alive() == []


def test_the_view_shows_the_ledger_and_a_lost_node_keeps_its_line(fake_cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="h100", clouds=["aws"])
    fake_cloud.advance("1h")
    fake_cloud.aws.preempt(cluster.nodes[1].id)
    cluster.refresh()
    found = facts(fake_cloud.session, cluster.id)
    assert [(node.rank, node.state) for node in found.nodes] == [(0, NodeState.RUNNING), (1, NodeState.GONE)]
    assert (found.hourly_cost, found.accrued_cost) == (cluster.hourly_cost, cluster.accrued_cost)
    cluster.terminate()
    assert facts(fake_cloud.session, cluster.id).why == "by request"
    assert fake_cloud.alive() == []
