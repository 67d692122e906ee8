"""Renders the state of a cluster for `multicompute watch`, in lines that fit into a terminal. Pure, except for `facts`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from multicompute.cost.billing import accrued, rounded
from multicompute.engine.teardown import blocked_on
from multicompute.ledger import ClusterRecord
from multicompute.node import ClusterState, Event, Metric, Node, NodeState, Sample
from multicompute.session import Session
from multicompute.text import Narrowing, bar, short_id, table
from multicompute.units import format_instant, format_usd

if TYPE_CHECKING:
    from rich.text import Text

NODES: Final = 16
"""The highest number of nodes shown."""
EVENTS: Final = 5
_SHOWN: Final = ((Metric.CPU, "cpu"), (Metric.ACCELERATOR, "accel"), (Metric.ACCELERATOR_MEMORY, "memory"))
_BAR: Final = 3
"""Blocks of a bar: with three of them, a node id of the usual length fits into 80 columns."""
_WIDE: Final = 90
_NARROWING: Final = Narrowing(drop=("memory", "instance type", "cpu", "rank"), shorten=("node",))
"""The columns to leave out on a narrow terminal. The state and the load of the accelerators always stay."""
_STYLES: Final[Mapping[str, str]] = {
    ClusterState.READY: "green",
    ClusterState.DEGRADED: "yellow",
    ClusterState.TERMINATING: "bold red",
    NodeState.IMPAIRED: "yellow",
    NodeState.STOPPING: "red",
    NodeState.STOPPED: "red",
    NodeState.GONE: "red",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """A cluster as the ledger has it, with its nodes and costs.

    Attributes:
        cluster: The cluster.
        nodes: For each rank the live node, or else the lost one; then nodes that have no rank yet.
        hourly_cost, accrued_cost: USD.
        why: Why it has ended, or what its teardown waits for; "" for a live cluster.
    """

    cluster: ClusterRecord
    nodes: tuple[Node, ...]
    hourly_cost: float
    accrued_cost: float
    why: str = ""


def facts(session: Session, cluster_id: str) -> Facts:
    """Return a cluster with its nodes and costs, without calling a cloud."""
    record = session.ledger.cluster(cluster_id)
    known = session.ledger.nodes(cluster_id)
    # Reversed, so that a live node replaces a lost one: live ones come first.
    by_rank = {node.rank: node.as_node() for node in reversed(known) if node.rank >= 0}
    booting = [node.as_node() for node in known if node.rank < 0 and node.ended_at is None]
    hourly = sum(node.hourly_cost for node in known if node.ended_at is None)
    is_terminating = record.state is ClusterState.TERMINATING
    why = blocked_on(session.ledger.events(cluster_id)) if is_terminating else ""
    nodes = (*(by_rank[rank] for rank in sorted(by_rank)), *booting)
    return Facts(record, nodes, hourly, rounded(accrued(session, cluster_id)), why or record.reason)


def view(
    facts: Facts,
    samples: Sequence[Sample],
    events: Sequence[Event],
    now: datetime,
    *,
    width: int = 80,
    nodes: int = NODES,
    note: str = "",
    blocks: bool = True,
) -> "Text":
    """Return the cluster as lines of at most `width` columns.

    Args:
        facts: The cluster.
        samples: Recent samples of its nodes, oldest first; what was not measured is shown as "-".
        events: Its events, oldest first; the last ones are shown.
        now: The current time.
        width: Columns of the terminal, at least 40.
        nodes: The highest number of nodes shown; of more, failing nodes and then the busiest.
        note: What could not be read.
        blocks: Whether the terminal can draw blocks; else bars consist of "#".

    Returns:
        A renderable for rich.
    """
    # Imported only when there is something to draw: it takes 40 ms.
    from rich.text import Text

    measured = _latest_values(samples)
    lines = [*_head(facts, now)]
    if facts.nodes:
        lines += [Text(), *_node_lines(facts.nodes, measured, width=width, most=nodes, blocks=blocks)]
    if events:
        lines.append(Text())
        lines += [Text.assemble((f"{e.at:%H:%M:%S} ", "dim"), _plain(e.message)) for e in events[-EVENTS:]]
    if note:
        lines += [Text(), Text(_plain(note), "yellow")]
    for line in lines:
        line.truncate(max(width, 1), overflow="ellipsis")
    return Text("\n").join(lines)


def _head(facts: Facts, now: datetime) -> Iterable["Text"]:
    from rich.text import Text

    record = facts.cluster
    place = " ".join(filter(None, (record.provider, record.zone or record.region)))
    gang = [node for node in facts.nodes if node.rank >= 0] or facts.nodes
    live = sum(node.state not in (NodeState.GONE, NodeState.STOPPED) for node in gang)
    size = f"{live} of {len(gang)}" if live < len(gang) else str(live)
    state = (record.state.value, _STYLES.get(record.state, ""))
    yield Text.assemble(
        (record.name, "bold"), "  ", state, f"  {place or 'nowhere yet'}  {size} node{'' if len(gang) == 1 else 's'}"
    )
    cost = f"{format_usd(facts.hourly_cost)} per hour, {format_usd(facts.accrued_cost)} so far"
    yield Text(f"{cost}; {_expiry(record, now)}")
    if facts.why:
        yield Text(_plain(facts.why))


def _expiry(record: ClusterRecord, now: datetime) -> str:
    if not record.state.is_live:
        return f"ended {format_instant(record.ended_at)}" if record.ended_at else "ended"
    if record.expires_at is None:
        return "does not expire"
    left = record.expires_at - now
    if left <= timedelta(0):
        return f"expired at {format_instant(record.expires_at)}"
    hours, minutes = divmod(int(left.total_seconds()) // 60, 60)
    return f"expires in {hours}h {minutes:02}m, at {format_instant(record.expires_at)}"


def _node_lines(
    every: Sequence[Node],
    measured: Mapping[tuple[str, Metric], float],
    *,
    width: int,
    most: int,
    blocks: bool,
) -> Iterable["Text"]:
    from rich.text import Text

    shown = every if len(every) <= most else sorted(every, key=lambda node: _interest(node, measured))[: max(most, 1)]
    size = _BAR if width < _WIDE else 2 * _BAR
    titles = ("rank", "node", "state", "instance type", *(title for _, title in _SHOWN))
    rows = [
        (
            str(node.rank) if node.rank >= 0 else "-",
            short_id(node.id),
            node.state.value,
            node.instance_type,
            *(_bar(measured.get((node.id, metric)), size, blocks=blocks) for metric, _ in _SHOWN),
        )
        for node in shown
    ]
    head, *lines = table(titles, rows, right=frozenset({0}), width=width, narrowing=_NARROWING).splitlines()
    yield Text(head, "bold")
    for node, line in zip(shown, lines, strict=True):
        yield Text(line, _STYLES.get(node.state, ""))
    if len(shown) < len(every):
        yield Text(f"... and {len(every) - len(shown)} more", "dim")


def _interest(node: Node, measured: Mapping[tuple[str, Metric], float]) -> tuple[bool, float, float, int]:
    """Return a sort key: failing nodes first, then the busiest."""
    accelerator, cpu = (measured.get((node.id, metric), -1.0) for metric in (Metric.ACCELERATOR, Metric.CPU))
    return node.state is NodeState.RUNNING, -accelerator, -cpu, node.rank


def _latest_values(samples: Iterable[Sample]) -> dict[tuple[str, Metric], float]:
    """Return the last value of each metric of each node: the mean if each accelerator was measured."""
    last: dict[tuple[str, Metric], dict[int | None, float]] = {}
    for sample in samples:
        last.setdefault((sample.node, sample.metric), {})[sample.accelerator] = sample.value
    return {key: sum(values.values()) / len(values) for key, values in last.items()}


def _bar(percent: float | None, size: int, *, blocks: bool) -> str:
    """Return a share as a number and a bar."""
    if percent is None:
        return "-"
    share = min(max(percent / 100, 0.0), 1.0)
    return f"{percent:3.0f}% {bar(share, size, blocks=blocks)}".ljust(size + 5)


def _plain(text: str) -> str:
    """Return a text on one line without control characters: a cloud's message must not move the cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
