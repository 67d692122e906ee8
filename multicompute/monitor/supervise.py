"""Looks after every cluster of the ledger, round after round: looks at nodes, ends what is over its limits, mends what differs."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from multicompute.engine.operation.cancellation import Cancellation, on_signals
from multicompute.engine.recovery.reap import over_limit, reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.engine.upkeep.refresh import refresh_all
from multicompute.errors import MulticomputeError
from multicompute.monitor.idle import Case, Readings, cases, idle, recent
from multicompute.node import ClusterState
from multicompute.session import Session

INTERVAL: Final = timedelta(minutes=1)
SWEEP_EVERY: Final = 10
"""Every so many rounds all that carries our tags is listed, in all regions: for orphans, and for what the ledger does not know."""
MEASURE_EVERY: Final = timedelta(minutes=5)
"""Clouds measure by the minute at best, some every five minutes, and some bill each figure that is read."""
_UNTOLD: Final = ("retry", "note", "terminating")
"""Kinds of lines in a story that are no news here."""

_log = logging.getLogger("multicompute")


@dataclass(slots=True)
class Round:
    """What one round came to.

    Attributes:
        done: what was done or has happened, a line for each.
        notes: what could not be asked, and what others are at.
        errors: how many steps, clusters and places failed; the next round tries again.
        readings: what was last measured of nodes, where that was asked for.
    """

    number: int
    began: datetime
    took: timedelta = timedelta(0)
    done: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: int = 0
    readings: Readings = field(default_factory=dict)

    def trouble(self, lines: Iterable[str]) -> None:
        """Note what failed."""
        for line in lines:
            self.notes.append(line)
            self.errors += 1


def supervise(
    session: Session,
    *,
    interval: timedelta = INTERVAL,
    rounds: int | None = None,
    on_round: Callable[[Round], None] | None = None,
    stop: Cancellation | None = None,
) -> Round | None:
    """Look after every cluster until a signal, or `stop`, ends it; what is done is logged, a line for each thing.

    Enforces ttl, budget and idle_timeout. A cloud or a ledger that fails is noted, and the next round tries again. Several
    supervisors at once do no harm: each cluster's lease says who works on it.

    Args:
        session: the ledger and the clouds.
        interval: how long to wait between two rounds.
        rounds: how many to make; None for no end.
        on_round: told of each round; then accelerators are measured of all nodes, and not only where a cluster may be idle.
        stop: wishes for the end from another thread.

    Returns:
        The last round that came to its end, None where there was none.

    Raises:
        LedgerError: the ledger can't be opened in the first place.
    """
    supervisor = Supervisor(session, on_round)
    # Here and not in a round: where there never was a ledger, to go on trying would look as if all were well.
    session.ledger.clusters()
    stop = stop or Cancellation()
    last = None
    with on_signals(stop):
        try:
            while rounds is None or supervisor.number < rounds:
                if last is not None:
                    stop.sleep(session.clock, interval)
                # After the last round nobody comes who would go on with what is ending.
                last = supervisor.round(stop, wait=supervisor.number + 1 == rounds)
        except (KeyboardInterrupt, SystemExit):
            # How this is meant to end: between two steps, or by a second signal in the midst of one, which whoever comes next
            # goes on with. The leases are given back already.
            _log.info("stopped")
    return last


class Supervisor:
    """Makes the rounds, and remembers from one to the next when it measured and what it has said."""

    def __init__(self, session: Session, on_round: Callable[[Round], None] | None = None) -> None:
        self.number = 0
        self._session = session
        self._on_round = on_round
        self._measured_at: datetime | None = None
        self._readings: Readings = {}
        self._ending: dict[str, str] = {}
        self._said: set[str] = set()
        self._waits = False

    def round(self, stop: Cancellation, *, wait: bool) -> Round:
        """Make one round; with `wait` teardowns are waited for, else the next round goes on with them.

        Raises:
            BaseException: what `stop` was given, at the next step.
        """
        self._waits = wait
        found = Round(self.number, self._session.clock.now())
        is_sweep = self.number % SWEEP_EVERY == 0
        steps = [("looking at the nodes", self._look), ("measuring", self._measure)]
        if is_sweep:
            steps.append(("reconciling", self._reconcile))
        steps.append(("reaping", self._reap))
        for what, step in steps:
            stop.check()
            self._try(what, step, found)
        stop.check()
        found.took = self._session.clock.now() - found.began
        found.readings = self._readings
        self._tell(found)
        self.number += 1
        if self._on_round is not None:
            on_round = self._on_round
            self._try("telling the metrics", lambda found: on_round(found), found)
        return found

    def _try(self, what: str, step: Callable[[Round], None], found: Round) -> None:
        try:
            step(found)
        except MulticomputeError as error:
            found.trouble([f"{what}: {error}"])
        except Exception as error:  # noqa: BLE001 - the outermost loop: a bug in one step must not keep machines running past their end
            _log.exception("%s failed", what)
            found.trouble([f"{what}: {error!r}"])

    def _look(self, found: Round) -> None:
        sightings = refresh_all(self._session)
        found.trouble(sightings.notes)
        with_budget = (r.id for r in self._session.ledger.clusters() if r.spec.get("budget") is not None)
        changed = (self._session.ledger.find(name).id for name in sightings.changed)
        for cluster_id in dict.fromkeys((*changed, *with_budget)):
            name = self._session.ledger.cluster(cluster_id).name
            news = (event for event in self._session.ledger.events(cluster_id) if event.at >= found.began)
            found.done += [f"{name}: {event.message}" for event in news if event.kind not in _UNTOLD]

    def _measure(self, found: Round) -> None:
        self._ending = {}
        if self._measured_at is not None and found.began < self._measured_at + MEASURE_EVERY:
            return
        self._measured_at = found.began
        judged: list[Case] = cases(self._session, told=found.done, notes=found.notes)
        if self._on_round is None:
            nodes = [node for case in judged for node in case.nodes]
        else:
            nodes = [node.as_node() for _, node in self._session.ledger.nodes_up()]
        troubles: list[str] = []
        self._readings = recent(self._session, nodes, troubles)
        self._ending = idle(self._session, judged, self._readings, told=found.done, notes=troubles)
        found.trouble(troubles)

    def _reconcile(self, found: Round) -> None:
        report = reconcile(self._session, wait=self._waits)
        found.done += [f"{name}: taken back: it is up" for name in report.adopted]
        found.done += [self._ended(name, found) for name in report.terminated]
        found.trouble(report.failed.values())
        found.notes += [f"{name}: something of it may still appear; it is asked for again" for name in report.in_doubt]
        found.notes += [
            f"{orphan.name}: in {orphan.provider} and in no ledger row; `multicompute reconcile` tells more"
            for orphan in report.orphans
        ]
        found.notes += report.notes

    def _reap(self, found: Round) -> None:
        if self.number % SWEEP_EVERY and not self._is_any_due():
            # A reap lists all regions of all clouds; between two sweeps only when there is a reason.
            return
        report = reap(self._session, idle=self._ending, wait=self._waits)
        for name in report.terminated:
            found.done.append(self._ended(name, found))
        found.done += [f"{name}: was expired and in no ledger row, and is deleted" for name in report.orphans]
        found.trouble(f"{name}: {why}" for name, why in report.failed.items())
        found.notes += report.notes

    def _ended(self, name: str, found: Round) -> str:
        record = self._session.ledger.find(name)
        is_news = record.ended_at is not None and record.ended_at >= found.began
        return f"{name}: ended: {record.reason}" if is_news else f"{name}: remains of it were ended"

    def _is_any_due(self) -> bool:
        return bool(self._ending) or any(
            record.state is ClusterState.TERMINATING or over_limit(self._session, record)
            for record in self._session.ledger.clusters()
        )

    def _tell(self, found: Round) -> None:
        """Log it; what was noted in the last round already is no news."""
        for line in found.done:
            _log.info("%s", line)
        found.notes = list(dict.fromkeys(found.notes))
        for line in found.notes:
            if line not in self._said:
                _log.warning("%s", line)
        self._said = {*found.notes}
