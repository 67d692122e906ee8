"""Finds clusters that have been idle for their `idle_timeout`. An accelerator that was not measured never counts as idle."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from multicompute.engine.operation.regions import by_region
from multicompute.errors import MulticomputeError
from multicompute.ledger import ClusterRecord
from multicompute.monitor.metrics import metrics
from multicompute.node import ClusterState, Event, Metric, Node, Sample
from multicompute.provider import Capability
from multicompute.session import Session
from multicompute.units import parse_duration

QUIET: Final = 5.0
"""The highest utilisation, in percent, of an accelerator that counts as idle."""
GAP: Final = timedelta(minutes=10)
"""The longest gap between two samples, and since the last one: clouds measure every five minutes, and publish some minutes late."""
RECENT: Final = 2 * GAP
"""The window of the first samples, which show that most clusters are busy."""
_UP_AGAIN: Final = ("ready", "healed", "recovered", "adopted")

Readings = Mapping[str, Sequence[Sample]]
"""Node id -> its recent samples, perhaps none; nodes whose cloud did not answer are missing."""


@dataclass(frozen=True, slots=True)
class Case:
    """A cluster that may be idle: it has an `idle_timeout`, and has been READY for that long."""

    cluster: ClusterRecord
    nodes: tuple[Node, ...]
    up_since: datetime
    limit: timedelta


def is_idle(
    nodes: Collection[Node], samples: Iterable[Sample], *, up_since: datetime, now: datetime, limit: timedelta
) -> bool:
    """Return whether every accelerator of every node is known to have been idle for the last `limit`.

    Each accelerator needs samples for the complete period, no further apart than `GAP` (or half of a shorter limit), and none
    above `QUIET`. A sample without an accelerator number stands for all accelerators of its node.

    Args:
        nodes: The live nodes.
        samples: Samples of these nodes and perhaps others, in any order.
        up_since: The time since which all these nodes have been running.
        now: The end of the period.
        limit: The length of the period.
    """
    start = now - limit
    if not nodes or up_since > start:
        return False
    series: dict[str, dict[int | None, list[Sample]]] = {node.id: {} for node in nodes}
    for sample in samples:
        if sample.metric is Metric.ACCELERATOR and sample.node in series and start < sample.at <= now:
            series[sample.node].setdefault(sample.accelerator, []).append(sample)
    gap = min(GAP, limit / 2)
    return all(
        (None in of_node or len(of_node) >= max(math.ceil(node.accelerators), 1))
        and all(_is_quiet(each, start=start, end=now, gap=gap) for each in of_node.values())
        for node in nodes
        for of_node in (series[node.id],)
    )


def _is_quiet(samples: Iterable[Sample], *, start: datetime, end: datetime, gap: timedelta) -> bool:
    known = sorted(samples, key=lambda sample: sample.at)
    instants = [start, *(sample.at for sample in known), end]
    is_covered = all(later - earlier <= gap for earlier, later in pairwise(instants))
    return is_covered and all(sample.value <= QUIET for sample in known)


def cases(session: Session, *, done: list[str], notes: list[str]) -> list[Case]:
    """Return the clusters that are old enough to be idle; add a line to `done`, once, for each that can't be measured."""
    found = []
    for record in session.ledger.clusters():
        limit = record.spec.get("idle_timeout")
        if record.state is not ClusterState.READY or not isinstance(limit, str):
            continue
        try:
            case = _case(session, record, parse_duration(limit, what="idle_timeout"), done)
        except MulticomputeError as error:
            notes.append(f"{record.name}: {error}")
        else:
            found += [case] if case is not None else []
    return found


def _case(session: Session, record: ClusterRecord, limit: timedelta, done: list[str]) -> Case | None:
    up_since = _up_since(session, record)
    if up_since > session.clock.now() - limit:
        return None
    nodes = [node for node in session.ledger.nodes(record.id) if node.ended_at is None and node.rank >= 0]
    case = Case(record, tuple(node.as_node() for node in nodes), up_since, limit)
    unmeasured = [name for name in sorted({node.provider for node in nodes}) if not _measures(session, name)]
    if unmeasured:
        _note_once(session, case, f"{', '.join(unmeasured)} does not measure accelerators", done)
        return None
    return case


def recent(session: Session, nodes: Iterable[Node], notes: list[str]) -> dict[str, list[Sample]]:
    """Return the recent samples of nodes; a region that can't be read becomes a note."""
    readings: dict[str, list[Sample]] = {}
    for where, members in by_region(nodes).items():
        try:
            samples = metrics(session, members, window=RECENT)
        except MulticomputeError as error:
            notes.append(f"{where}: its monitoring could not be read: {error}")
            continue
        readings |= {node.id: [] for node in members}
        for sample in samples:
            readings[sample.node].append(sample)
    return readings


def idle(
    session: Session, candidates: Iterable[Case], readings: Readings, *, done: list[str], notes: list[str]
) -> dict[str, str]:
    """Return the ids of the idle clusters -> the reason for their termination.

    The samples of the complete `idle_timeout` are read only for clusters whose recent samples are idle.
    """
    ending = {}
    for case in candidates:
        if any(node.id not in readings or _is_busy(readings[node.id]) for node in case.nodes):
            continue
        try:
            samples = metrics(session, case.nodes, window=case.limit)
        except MulticomputeError as error:
            notes.append(f"{case.cluster.name}: its monitoring could not be read: {error}")
            continue
        now = session.clock.now()
        if is_idle(case.nodes, samples, up_since=case.up_since, now=now, limit=case.limit):
            since = f"{now - case.limit:%Y-%m-%d %H:%M} UTC"
            ending[case.cluster.id] = f"idle: no accelerator above {QUIET:g} % since {since}"
        elif not any(sample.metric is Metric.ACCELERATOR for sample in samples):
            _note_once(session, case, "its accelerators were not measured", done)
    return ending


def _is_busy(samples: Iterable[Sample]) -> bool:
    return any(sample.metric is Metric.ACCELERATOR and sample.value > QUIET for sample in samples)


def _up_since(session: Session, record: ClusterRecord) -> datetime:
    """Return the time since which the gang has been complete: a replacement node has not run for as long as the others."""
    ups = (event.at for event in session.ledger.events(record.id) if event.kind in _UP_AGAIN)
    return max(ups, default=record.created_at)


def _measures(session: Session, provider: str) -> bool:
    return Capability.METRICS in session.provider(provider).capabilities


def _note_once(session: Session, case: Case, why: str, done: list[str]) -> None:
    message = f"idle_timeout has no effect: {why}"
    event = Event(session.clock.now(), "note", message, case.cluster.id, {"idle_timeout": why})
    if session.ledger.append_once(event):
        done.append(f"{case.cluster.name}: {message}")
