"""Supervises every cluster of the ledger in rounds: refresh, measure, reconcile and reap."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from multicompute.engine.operation.cancellation import Cancellation, cancel_on_signals
from multicompute.engine.operation.coverage import Coverage
from multicompute.engine.recovery.reap import over_limit, reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.engine.upkeep.refresh import refresh_all
from multicompute.errors import MulticomputeError
from multicompute.monitor.idle import Readings, cases, idle, recent
from multicompute.node import ClusterState
from multicompute.session import Session

INTERVAL: Final = timedelta(minutes=1)
SWEEP_EVERY: Final = 10
"""Every tenth round lists all resources with our tags in all regions, to find orphans and what the ledger does not have."""
MEASURE_EVERY: Final = timedelta(minutes=5)
"""Clouds measure at most once a minute, some every five minutes, and some bill each value that is read."""
_UNREPORTED: Final = ("retry", "note", "terminating")
"""Kinds of events that a round does not report."""

_log = logging.getLogger("multicompute")


@dataclass(slots=True)
class Round:
    """The result of one round.

    Attributes:
        number: From 0.
        began: When it began.
        took: How long it took.
        done: Actions and events, one line each.
        notes: What could not be read, and what other processes work on.
        errors: How many steps, clusters and regions failed; the next round tries again.
        not_asked: Cloud, region or cluster -> why nothing is known about it in this round.
        readings: The last samples of nodes, if they were measured.
    """

    number: int
    began: datetime
    took: timedelta = timedelta(0)
    done: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: int = 0
    not_asked: dict[str, str] = field(default_factory=dict)
    readings: Readings = field(default_factory=dict)

    def add_errors(self, lines: Iterable[str]) -> None:
        """Add a note for each failure, and count them."""
        for line in lines:
            self.notes.append(line)
            self.errors += 1

    def add_coverage(self, coverage: Coverage) -> None:
        """Add an error for everything that could not be asked."""
        self.not_asked |= coverage.not_asked
        self.add_errors(coverage.problems())


def supervise(
    session: Session,
    *,
    interval: timedelta = INTERVAL,
    rounds: int | None = None,
    on_round: Callable[[Round], None] | None = None,
    cancellation: Cancellation | None = None,
) -> Round | None:
    """Supervise every cluster until a signal or `cancellation`; each action is logged in one line.

    Enforces ttl, budget and idle_timeout. If a cloud or the ledger fails, that is noted and the next round tries again.
    Several supervisors may run at once: the lease of a cluster decides which one works on it.

    Args:
        session: The ledger and the clouds.
        interval: The time between two rounds.
        rounds: The number of rounds; None for no limit.
        on_round: Called after each round; with it, the accelerators of all nodes are measured, not only of clusters that may
            be idle.
        cancellation: How another thread stops the supervision.

    Returns:
        The last complete round, None if there was none.

    Raises:
        LedgerError: The ledger can't be opened at the start.
    """
    supervisor = Supervisor(session, on_round)
    # Before the first round: if the ledger can't be opened at the start, repeating would hide a wrong configuration.
    session.ledger.clusters()
    cancellation = cancellation or Cancellation()
    last = None
    with cancel_on_signals(cancellation):
        try:
            while rounds is None or supervisor.number < rounds:
                if last is not None:
                    cancellation.sleep(session.clock, interval)
                # The last round waits for its teardowns, because no other round continues them.
                last = supervisor.round(cancellation, wait=supervisor.number + 1 == rounds)
        except (KeyboardInterrupt, SystemExit):
            # The normal end: between two steps, or within one by a second signal. Leases are released by then, and any process
            # can continue what was interrupted.
            _log.info("stopped")
    return last


class Supervisor:
    """The state of supervision from one round to the next: when nodes were measured, and which notes were logged."""

    def __init__(self, session: Session, on_round: Callable[[Round], None] | None = None) -> None:
        """Create a supervisor that calls `on_round` after each round."""
        self.number = 0
        self._session = session
        self._on_round = on_round
        self._measured_at: datetime | None = None
        self._readings: Readings = {}
        self._idle: dict[str, str] = {}
        self._logged: set[str] = set()
        self._waits = False

    def round(self, cancellation: Cancellation, *, wait: bool) -> Round:
        """Make one round.

        Args:
            cancellation: Stops the round between two steps.
            wait: Whether to wait for teardowns; else the next round continues them.

        Raises:
            BaseException: The cause of the requested cancellation.
        """
        self._waits = wait
        this_round = Round(self.number, self._session.clock.now())
        steps = [("refreshing the nodes", self._refresh), ("measuring", self._measure)]
        if self.number % SWEEP_EVERY == 0:
            steps.append(("reconciling", self._reconcile))
        steps.append(("reaping", self._reap))
        for what, step in steps:
            cancellation.check()
            self._try(what, step, this_round)
        cancellation.check()
        this_round.took = self._session.clock.now() - this_round.began
        this_round.readings = self._readings
        self._write_log(this_round)
        self.number += 1
        if self._on_round is not None:
            self._try("exporting the metrics", self._on_round, this_round)
        return this_round

    def _try(self, what: str, step: Callable[[Round], None], this_round: Round) -> None:
        try:
            step(this_round)
        except MulticomputeError as error:
            this_round.add_errors([f"{what}: {error}"])
        except Exception as error:  # noqa: BLE001 - the outermost loop: a bug in one step must not keep machines running past their end
            _log.exception("%s failed", what)
            this_round.add_errors([f"{what}: {error!r}"])

    def _refresh(self, this_round: Round) -> None:
        ledger = self._session.ledger
        report = refresh_all(self._session)
        this_round.add_coverage(report.coverage)
        this_round.add_errors(report.notes)
        with_budget = (record.id for record in ledger.clusters() if record.spec.get("budget") is not None)
        changed = (ledger.find(name).id for name in report.changed)
        for cluster_id in dict.fromkeys((*changed, *with_budget)):
            name = ledger.cluster(cluster_id).name
            new_events = (event for event in ledger.events(cluster_id) if event.at >= this_round.began)
            this_round.done += [f"{name}: {event.message}" for event in new_events if event.kind not in _UNREPORTED]

    def _measure(self, this_round: Round) -> None:
        self._idle = {}
        if self._measured_at is not None and this_round.began < self._measured_at + MEASURE_EVERY:
            return
        self._measured_at = this_round.began
        candidates = cases(self._session, done=this_round.done, notes=this_round.notes)
        if self._on_round is None:
            nodes = [node for case in candidates for node in case.nodes]
        else:
            nodes = [node.as_node() for _, node in self._session.ledger.nodes_up()]
        failures: list[str] = []
        self._readings = recent(self._session, nodes, failures)
        self._idle = idle(self._session, candidates, self._readings, done=this_round.done, notes=failures)
        this_round.add_errors(failures)

    def _reconcile(self, this_round: Round) -> None:
        report = reconcile(self._session, wait=self._waits)
        this_round.done += [f"{name}: taken back: it is up" for name in report.adopted]
        this_round.done += [self._ended(name, this_round) for name in report.terminated]
        this_round.add_coverage(report.coverage)
        this_round.add_errors((*report.failed.values(), *report.skipped.values()))
        this_round.not_asked |= {**report.skipped, **report.unknown}
        this_round.notes += [f"{name}: {why}" for name, why in report.unknown.items()]
        this_round.notes += [
            f"{name}: nodes may still appear; checked again in the next round" for name in report.in_doubt
        ]
        this_round.notes += [
            f"{orphan.name}: an orphan in {orphan.provider}; `multicompute reconcile` lists it"
            for orphan in report.orphans
        ]
        this_round.notes += report.notes

    def _reap(self, this_round: Round) -> None:
        if self.number % SWEEP_EVERY and not self._is_any_due():
            # A reap lists all regions of all clouds, so between two sweeps it needs a reason.
            return
        report = reap(self._session, idle=self._idle, wait=self._waits)
        this_round.done += [self._ended(name, this_round) for name in report.terminated]
        this_round.done += [f"{name}: an expired orphan, deleted" for name in report.orphans]
        this_round.add_coverage(report.coverage)
        this_round.add_errors(f"{name}: {why}" for name, why in report.failed.items())
        this_round.notes += report.notes

    def _ended(self, name: str, this_round: Round) -> str:
        record = self._session.ledger.find(name)
        is_news = record.ended_at is not None and record.ended_at >= this_round.began
        return f"{name}: terminated: {record.reason}" if is_news else f"{name}: its remaining resources were deleted"

    def _is_any_due(self) -> bool:
        return bool(self._idle) or any(
            record.state is ClusterState.TERMINATING or over_limit(self._session, record)
            for record in self._session.ledger.clusters()
        )

    def _write_log(self, this_round: Round) -> None:
        """Log what was done, and the notes that the last round did not have."""
        for line in this_round.done:
            _log.info("%s", line)
        this_round.notes = list(dict.fromkeys(this_round.notes))
        for line in this_round.notes:
            if line not in self._logged:
                _log.warning("%s", line)
        self._logged = {*this_round.notes}
