"""Finds clusters that have been idle for as long as they were allowed to be; what was not measured is never taken for idleness."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from multicompute.errors import MulticomputeError
from multicompute.ledger import ClusterRecord
from multicompute.monitor.metrics import metrics
from multicompute.node import ClusterState, Event, Metric, Node, Sample
from multicompute.provider import Capability
from multicompute.session import Session
from multicompute.units import parse_duration

QUIET: Final = 5.0
"""Percent of the time; an accelerator that is at work for no more than this does no work that anybody waits for."""
GAP: Final = timedelta(minutes=10)
"""How far two measurements may lie apart at most, and the last one back: clouds measure by five minutes and lag by some more."""
RECENT: Final = 2 * GAP
"""A look at the last minutes is enough to see that most clusters are at work."""
_UP_AGAIN: Final = ("ready", "healed", "recovered", "adopted")

Readings = Mapping[str, Sequence[Sample]]
"""Node -> what was measured of it lately, perhaps nothing; nodes of which no cloud could be asked are missing."""


@dataclass(frozen=True, slots=True)
class Case:
    """A cluster whose idleness is to be judged: it has a limit, and has been READY for as long."""

    cluster: ClusterRecord
    nodes: tuple[Node, ...]
    up_since: datetime
    limit: timedelta


def is_idle(
    nodes: Collection[Node], samples: Iterable[Sample], *, up_since: datetime, now: datetime, limit: timedelta
) -> bool:
    """Whether every accelerator of every node is known to have done nothing for the whole of `limit`.

    Each needs samples from beginning to end, no further apart than `GAP` (for a short limit, than half of it), and none
    above `QUIET`. A sample of the node as a whole stands for all of its accelerators.

    Args:
        nodes: those that live.
        samples: of these nodes and perhaps others, in any order.
        up_since: since when all of them are there.
        limit: how long it has to have been idle.
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


def cases(session: Session, *, told: list[str], notes: list[str]) -> list[Case]:
    """The clusters that may be idle by their age. One whose clouds don't measure is told of, once in its story and in `told`."""
    found = []
    for record in session.ledger.clusters():
        limit = record.spec.get("idle_timeout")
        if record.state is not ClusterState.READY or not isinstance(limit, str):
            continue
        try:
            case = _case(session, record, parse_duration(limit, what="idle_timeout"), told)
        except MulticomputeError as error:
            notes.append(f"{record.name}: {error}")
        else:
            found += [case] if case is not None else []
    return found


def _case(session: Session, record: ClusterRecord, limit: timedelta, told: list[str]) -> Case | None:
    up_since = _up_since(session, record)
    if up_since > session.clock.now() - limit:
        return None
    nodes = [node for node in session.ledger.nodes(record.id) if node.ended_at is None and node.rank >= 0]
    case = Case(record, tuple(node.as_node() for node in nodes), up_since, limit)
    blind = [name for name in sorted({node.provider for node in nodes}) if not _measures(session, name)]
    if blind:
        _tell_once(session, case, f"{', '.join(blind)} does not measure accelerators", told)
        return None
    return case


def recent(session: Session, nodes: Iterable[Node], notes: list[str]) -> dict[str, list[Sample]]:
    """What was measured of nodes in the last minutes; a place that can't be asked becomes a note."""
    places: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        places.setdefault((node.provider, node.region), []).append(node)
    readings: dict[str, list[Sample]] = {}
    for place, there in places.items():
        try:
            samples = metrics(session, there, window=RECENT)
        except MulticomputeError as error:
            notes.append(f"{' '.join(place)}: its monitoring could not be asked: {error}")
            continue
        readings |= {node.id: [] for node in there}
        for sample in samples:
            readings[sample.node].append(sample)
    return readings


def idle(
    session: Session, judged: Iterable[Case], readings: Readings, *, told: list[str], notes: list[str]
) -> dict[str, str]:
    """The ids of the clusters that have to end -> why; the clouds are asked for the whole time only of those that look idle."""
    ending = {}
    for case in judged:
        if any(node.id not in readings or _is_busy(readings[node.id]) for node in case.nodes):
            continue
        try:
            samples = metrics(session, case.nodes, window=case.limit)
        except MulticomputeError as error:
            notes.append(f"{case.cluster.name}: its monitoring could not be asked: {error}")
            continue
        now = session.clock.now()
        if is_idle(case.nodes, samples, up_since=case.up_since, now=now, limit=case.limit):
            since = f"{now - case.limit:%Y-%m-%d %H:%M} UTC"
            ending[case.cluster.id] = f"idle: no accelerator above {QUIET:g} % since {since}"
        elif not any(sample.metric is Metric.ACCELERATOR for sample in samples):
            _tell_once(session, case, "nothing was measured of its accelerators", told)
    return ending


def _is_busy(samples: Iterable[Sample]) -> bool:
    return any(sample.metric is Metric.ACCELERATOR and sample.value > QUIET for sample in samples)


def _up_since(session: Session, record: ClusterRecord) -> datetime:
    """Since when the cluster has been whole: a node that was replaced has not been there all the time."""
    ups = (event.at for event in session.ledger.events(record.id) if event.kind in _UP_AGAIN)
    return max(ups, default=record.created_at)


def _measures(session: Session, provider: str) -> bool:
    return Capability.METRICS in session.provider(provider).capabilities


def _tell_once(session: Session, case: Case, why: str, told: list[str]) -> None:
    message = f"idle_timeout can't be judged here: {why}"
    line = Event(session.clock.now(), "note", message, case.cluster.id, {"idle_timeout": why})
    if session.ledger.append_once(line):
        told.append(f"{case.cluster.name}: {message}")
