"""Ends what runs, and says so only after the clouds have been asked (I4, I8)."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from multicompute.engine.operation.cancellation import Cancellation, on_signals
from multicompute.engine.operation.events import EventCallback
from multicompute.engine.operation.lease import holding
from multicompute.engine.operation.operation import LostLease, Operation
from multicompute.errors import LedgerError, MulticomputeError, ProviderError
from multicompute.ledger import AttemptRecord, AttemptState, ClusterRecord
from multicompute.node import ClusterState, Event
from multicompute.provider import Provider, Selector, Teardown
from multicompute.session import Session

_log = logging.getLogger("multicompute")
_BEFORE_TEARDOWN: Final = (ClusterState.REQUESTED, ClusterState.PROVISIONING, ClusterState.READY, ClusterState.DEGRADED)
_LOOK: Final = timedelta(seconds=1)
PATIENCE: Final = timedelta(minutes=30)
"""How long a teardown is waited for before the caller is told; the reaper goes on where this stops."""
_USUAL: Final = timedelta(minutes=3)
"""What a teardown that takes longer waits for is written down: before that it is no news."""


class TeardownIncomplete(ProviderError):
    """Every delete was taken, and the cloud is not through with them: whoever comes next goes on."""


def terminate_and_wait(
    op: Operation,
    provider: Provider,
    attempts: Sequence[AttemptRecord],
    selector: Selector,
    *,
    patience: timedelta = PATIENCE,
) -> None:
    """Terminate what is selected, and repeat it until the cloud has nothing left and can't be about to show more.

    Raises:
        TeardownIncomplete: something is left, or may still appear, when the patience is over.
    """
    begun = op.clock.now()
    deadline = begun + patience
    pause = provider.poll_interval
    told = ""
    while True:
        op.keep()
        left = step(op, provider, attempts, selector)
        if left.is_done and op.clock.now() >= _settled_at(provider, attempts, selector):
            return
        if left.waiting_for and left.waiting_for != told:
            told = left.waiting_for
            message = f"{provider.name} {selector.region}: waiting for {told}"
            _hold_up(op, message, is_news=op.clock.now() >= _begun(op, begun) + _USUAL)
        if op.clock.now() >= deadline:
            after = f"still there after {patience}" if patience else "still there"
            things = ", ".join(f"{item.kind} {item.id}" for item in left.remaining[:5]) or "what may yet appear"
            raise TeardownIncomplete(
                f"{provider.name} {selector.region}: {after}: {things} ({left.waiting_for or 'no reason given'})",
                provider=provider.name,
                region=selector.region,
                hint="`multicompute reap` goes on trying",
            )
        op.pause(pause)
        pause = min(pause * 1.5, max(provider.poll_interval, timedelta(seconds=20)))


def _begun(op: Operation, default: datetime) -> datetime:
    """When the end of the cluster began, which other processes may have gone on with before."""
    return next((event.at for event in op.ledger.events(op.cluster_id) if event.kind == "terminating"), default)


def step(op: Operation, provider: Provider, attempts: Sequence[AttemptRecord], selector: Selector) -> Teardown:
    """One step of a teardown: delete, and look at what is left."""
    launched = {attempt.token for attempt in attempts if attempt.state is AttemptState.LAUNCHED}
    # By the node and not by its attempt, which was opened before a call that may have taken longer than listings lag.
    recent = tuple(
        node.id
        for node in op.ledger.nodes(op.cluster_id)
        if node.token in launched
        and node.ended_at is None
        and node.region == selector.region
        and op.clock.now() < node.started_at + provider.consistency_window
    )
    full = Selector(region=selector.region, cluster_id=selector.cluster_id, token=selector.token, node_ids=recent)
    return op.ask(provider, "terminate", lambda: provider.terminate(full))


def _settled_at(provider: Provider, attempts: Sequence[AttemptRecord], selector: Selector) -> datetime:
    """When the launches whose answer is not known can't show anything new any more."""
    doubtful = [attempt.opened_at for attempt in attempts if attempt.state is AttemptState.OPEN]
    return max(doubtful, default=datetime.min.replace(tzinfo=UTC)) + (
        provider.consistency_window if doubtful else timedelta(0)
    )


def end(op: Operation, state: ClusterState, reason: str, *, wait: bool = True) -> None:
    """Tear the whole cluster down, in every place where something of it was tried, and close it as `state`.

    Safe to call again, by any process, until it is through. Until then the cluster is TERMINATING.

    Raises:
        TeardownIncomplete: something is left after half an hour; without `wait`, after one step in every place.
        MulticomputeError: a cloud can't be asked, or refuses.
    """
    failed: list[MulticomputeError] = []
    if not op.record().state.is_live:
        # By whoever took it over while this operation was silent.
        return
    try:
        begin(op, reason)
    except LedgerError as error:
        # A ledger that can't be written, on a full disk say, must not keep machines running.
        failed.append(error)
    attempts = op.ledger.attempts(op.cluster_id)
    for name, region in places(attempts):
        mine = [each for each in attempts if each.is_open and (each.provider, each.region) == (name, region)]
        try:
            selector = Selector(region=region, cluster_id=op.cluster_id)
            terminate_and_wait(
                op, op.session.provider(name), mine, selector, patience=PATIENCE if wait else timedelta(0)
            )
        except MulticomputeError as error:
            # One place that does not answer must not keep the others running.
            failed.append(error)
            if isinstance(error, TeardownIncomplete) and not wait:
                continue
            _hold_up(op, f"{name} {region}: the teardown is not through: {error.message}", code=error.code)
    if failed:
        # Who does not wait is told that there is something to wait for; who has waited is told what else is in the way.
        raise next((error for error in failed if isinstance(error, TeardownIncomplete) is not wait), failed[0])
    finish(op, state, reason)


def _hold_up(op: Operation, message: str, *, is_news: bool = True, code: str | None = None) -> None:
    """Tell what holds a teardown up, and write news down, once as long as it stays the same, for any process to say."""
    line = op.story.line("stuck" if is_news else "terminating", message, code=code)
    try:
        if is_news and blocked_on(op.ledger.events(op.cluster_id)) != message:
            op.ledger.append(line)
    except LedgerError:
        # Told all the same: a ledger that can't be written must not keep machines running.
        pass
    op.story.tell(line)


def blocked_on(events: Sequence[Event]) -> str:
    """What a teardown waits for or failed at, by the story of its cluster; "" where it has not said."""
    return next((event.message for event in reversed(events) if event.kind in ("terminating", "stuck")), "")


def begin(op: Operation, reason: str) -> None:
    """Write down that the end has begun, so that whoever comes next goes on with it."""
    if op.record().state is not ClusterState.TERMINATING:
        line = op.story.line("terminating", f"terminating: {reason}")
        op.ledger.update_cluster(op.cluster_id, line, state=ClusterState.TERMINATING, reason=reason)
        op.story.tell(line)


def finish(op: Operation, state: ClusterState, reason: str) -> None:
    """Write down that nothing lives: attempts closed, nodes ended, cluster at its end."""
    now = op.clock.now()
    kind = "failed" if state is ClusterState.FAILED else "terminated"
    line = op.story.line(kind, f"{kind}: {reason}; nothing of it is left")
    op.ledger.end_cluster(op.cluster_id, state=state, at=now, reason=reason, event=line)
    op.story.tell(line)


def places(attempts: Sequence[AttemptRecord]) -> list[tuple[str, str]]:
    """Every provider and region in which something was tried, in the order of the first try."""
    return list(dict.fromkeys((attempt.provider, attempt.region) for attempt in attempts))


def terminate(
    session: Session,
    cluster_id: str,
    *,
    reason: str = "by request",
    wait: bool = True,
    watch: EventCallback | None = None,
) -> ClusterRecord:
    """End a cluster; with `wait` returns when every cloud has said that nothing of it is left.

    What has ended already is left as it is. Where another process works on it, that one is told to end it, and waited for.

    Raises:
        ProviderError: something is left after half an hour; the cluster stays TERMINATING, and `reap` goes on.
        MulticomputeError: a cloud can't be asked; the same holds.
    """
    deadline = session.clock.now() + PATIENCE
    stop = Cancellation()
    stop.shield()
    with on_signals(stop):
        while (record := session.ledger.cluster(cluster_id)).state.is_live:
            with holding(session, cluster_id) as lease:
                # Again, under the lease: who had it until now may have ended the cluster.
                record = session.ledger.cluster(cluster_id)
                op = Operation.on(session, record, lease, stop=stop, watch=watch) if lease is not None else None
                if op is not None and record.state.is_live:
                    op = _end_unless_lost(op, record.reason or reason, wait=wait)
            if op is None:
                session.ledger.request_termination(cluster_id, reason, states=_BEFORE_TEARDOWN)
            if not wait:
                break
            if op is None:
                if session.clock.now() >= deadline:
                    raise ProviderError(f"{record.name}: the process that works on it did not end it in {PATIENCE}")
                stop.sleep(session.clock, _LOOK)
        stop.lower()
    return session.ledger.cluster(cluster_id)


def _end_unless_lost(op: Operation, reason: str, *, wait: bool) -> Operation | None:
    try:
        end(op, ClusterState.TERMINATED, reason, wait=wait)
    except LostLease:
        return None
    except TeardownIncomplete:
        if wait:
            raise
    return op


def leave(session: Session, cluster_id: str, error: BaseException | None) -> ClusterRecord:
    """End a cluster whose `with` block was left; an exception is named, and stays the one that goes on."""
    record = session.ledger.cluster(cluster_id)
    if not record.state.is_live:
        return record
    reason = "its with block was left" if error is None else f"its with block was left by {error!r:.200}"
    try:
        record = terminate(session, cluster_id, reason=reason)
    except MulticomputeError as trouble:
        _log.error("%s is TERMINATING, something of it may live: %s", record.name, trouble)
        if error is None:
            raise
        error.add_note(f"{record.name} is not torn down yet: {trouble}")
        return session.ledger.cluster(cluster_id)
    if error is not None:
        _log.warning("%s: torn down after %r, nothing of it is left", record.name, type(error).__name__)
    return record
