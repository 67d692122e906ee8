"""Tears clusters down, and reports them as ended only after the clouds list no resource of them (I4, I8)."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from multicompute.engine.operation.cancellation import defer_signals
from multicompute.engine.operation.operation import LeaseLost, Operation, working_on
from multicompute.engine.operation.regions import ProviderRegion, by_region
from multicompute.errors import (
    AccessDeniedError,
    AuthError,
    LedgerError,
    MulticomputeError,
    ProviderError,
    TeardownIncomplete,
    WrongAccountError,
)
from multicompute.ledger import AttemptRecord, AttemptState, ClusterRecord
from multicompute.node import ClusterState, Event
from multicompute.provider import Provider, Selector, Teardown
from multicompute.remote.places import forget_cluster
from multicompute.session import Session
from multicompute.units import format_duration

_log = logging.getLogger("multicompute")
BEFORE_TEARDOWN: Final = tuple(s for s in ClusterState if s.is_live and s is not ClusterState.TERMINATING)
TEARDOWN_TIMEOUT: Final = timedelta(minutes=30)
"""The longest wait of a caller for a teardown; `reap` continues after that."""
_USUAL_DURATION: Final = timedelta(minutes=3)
"""The duration of a teardown after which the reason for its wait becomes an event."""
_LONGEST_PAUSE: Final = timedelta(seconds=20)
_POLL_INTERVAL: Final = timedelta(seconds=1)
"""The pause between two checks of a cluster that another process works on."""


def terminate(session: Session, cluster_id: str, *, reason: str = "by request", wait: bool = True) -> ClusterRecord:
    """Terminate a cluster, unless it has ended already, and return its record.

    If another process works on the cluster, that process is asked to terminate it. With `wait`, return only when no cloud
    lists a resource of the cluster.

    Raises:
        TeardownIncomplete: Something is left after half an hour; the cluster stays TERMINATING, and `reap` continues.
        LedgerError: The ledger can't be written. Nothing is left running, unless the message says otherwise.
        MulticomputeError: A cloud or the other process can't be reached; the cluster stays TERMINATING.
    """
    deadline = session.clock.now() + TEARDOWN_TIMEOUT
    with defer_signals() as cancellation:
        while (record := session.ledger.cluster(cluster_id)).state.is_live:
            with working_on(session, cluster_id, cancellation=cancellation, for_teardown=True) as op:
                is_mine = op is not None and _tear_down_unless_lost(op, reason, wait=wait)
            if not is_mine:
                session.ledger.request_termination(cluster_id, reason, states=BEFORE_TEARDOWN)
            if not wait:
                break
            if not is_mine:
                if session.clock.now() >= deadline:
                    limit = format_duration(TEARDOWN_TIMEOUT)
                    raise ProviderError(f"{record.name}: the process that works on it did not terminate it in {limit}")
                cancellation.sleep(session.clock, _POLL_INTERVAL)
    return session.ledger.cluster(cluster_id)


def _tear_down_unless_lost(op: Operation, reason: str, *, wait: bool) -> bool:
    """Tear the cluster down; return False if another process took it over."""
    try:
        tear_down(op, ClusterState.TERMINATED, op.initial.reason or reason, wait=wait)
    except LeaseLost:
        return False
    except TeardownIncomplete:
        if wait:
            raise
    return True


def terminate_on_exit(session: Session, cluster_id: str, error: BaseException | None) -> ClusterRecord:
    """Terminate a cluster whose `with` block was left, perhaps by `error`, which gets a note if the teardown fails."""
    record = session.ledger.cluster(cluster_id)
    if record.state.has_ended:
        return record
    reason = "its with block was left" if error is None else f"its with block was left by {error!r:.200}"
    try:
        record = terminate(session, cluster_id, reason=reason)
    except MulticomputeError as trouble:
        _log.error("%s", left_note(record.name, trouble))
        if error is None:
            raise
        error.add_note(left_note(record.name, trouble))
        return session.ledger.cluster(cluster_id)
    if error is not None:
        _log.warning("%s: torn down after %r, nothing is left running", record.name, type(error).__name__)
    return record


def left_note(name: str, trouble: MulticomputeError) -> str:
    """Return what a failed teardown may have left."""
    if isinstance(trouble, LedgerError):
        return str(trouble)
    return f"{name} is not torn down yet, something of it may still run, `multicompute reap` continues: {trouble}"


def tear_down(op: Operation, state: ClusterState, reason: str, *, wait: bool = True) -> None:
    """Tear the cluster down in every region where an attempt was made, and record it as ended.

    Any process may call this again until it succeeds; until then the cluster is TERMINATING. Without `wait`, only one step is
    made in every region.

    Raises:
        TeardownIncomplete: Something is left.
        LedgerError: Nothing is left running, and the ledger can't record that.
        WrongAccountError: The cluster is in another account; its record is unchanged.
        MulticomputeError: A cloud does not answer, or refuses.
    """
    failed: list[MulticomputeError] = []
    if op.reload().state.has_ended:
        # Another process took it over while this operation did not renew its lease.
        return
    attempts_of = by_region(op.ledger.attempts(op.cluster_id))
    _require_any_own_account(op, attempts_of)
    # A ledger that can't be written, on a full disk for example, must not keep machines running.
    with suppress(LedgerError):
        _mark_terminating(op, reason)
    for where, attempts in attempts_of.items():
        try:
            provider = op.provider(where.provider)
            selector = op.selector(where)
            timeout = TEARDOWN_TIMEOUT if wait else timedelta(0)
            open_attempts = [attempt for attempt in attempts if attempt.is_open]
            terminate_and_wait(op, provider, open_attempts, selector, timeout=timeout)
        except MulticomputeError as error:
            if _was_never_let_in(error, attempts):
                op.events.add(
                    "note", f"{where}: nothing to delete: it has refused every call: {error.message}", code=error.code
                )
                continue
            # An error in one region must not keep nodes running in the others.
            failed.append(error)
            if wait or not isinstance(error, TeardownIncomplete):
                _report_blocker(op, f"{where}: the teardown is not complete: {error.message}", code=error.code)
    if failed:
        # Without `wait`, the caller continues after an incomplete teardown; with it, other errors are more specific.
        raise next((error for error in failed if isinstance(error, TeardownIncomplete) is not wait), failed[0])
    _mark_ended(op, state, reason)


def _was_never_let_in(error: MulticomputeError, attempts: Sequence[AttemptRecord]) -> bool:
    """Return whether a region refuses the teardown as it refused all attempts, so that nothing of the cluster can be there.

    A region that is not enabled, or that a policy denies, would otherwise keep the cluster TERMINATING for ever. Credentials
    that are rejected everywhere show nothing: they may have expired since.
    """
    is_refusal = isinstance(error, AccessDeniedError) or (isinstance(error, AuthError) and error.scope == "region")
    return is_refusal and not any(attempt.was_let_in for attempt in attempts)


def _require_any_own_account(op: Operation, attempts_of: Mapping[ProviderRegion, Sequence[AttemptRecord]]) -> None:
    """Raise WrongAccountError if all that may exist of the cluster is in other accounts; the record stays as it is then."""
    errors: list[WrongAccountError] = []
    for where, attempts in attempts_of.items():
        if any(attempt.is_open for attempt in attempts):
            try:
                op.provider(where.provider)
            except WrongAccountError as error:
                errors.append(error)
            except MulticomputeError:
                # The teardown of the region reports it.
                return
            else:
                return
    if errors:
        raise errors[0]


def terminate_and_wait(
    op: Operation,
    provider: Provider,
    attempts: Sequence[AttemptRecord],
    selector: Selector,
    *,
    timeout: timedelta = TEARDOWN_TIMEOUT,
) -> None:
    """Terminate what is selected in one region, and repeat that until the cloud lists nothing and nothing can still appear.

    `attempts` are the open attempts among what is selected: after a launch with an unknown outcome, nodes may still appear.

    Raises:
        TeardownIncomplete: Something is left, or may still appear, after `timeout`.
    """
    started = op.clock.now()
    pause = provider.poll_interval
    last_reason = ""
    while True:
        op.renew_lease()
        left = terminate_step(op, provider, attempts, selector)
        if left.is_done and op.clock.now() >= _settled_at(provider, attempts):
            return
        reason = left.blocked_by or (f"waiting for {left.waiting_for}" if left.waiting_for else "")
        if reason and reason != last_reason:
            last_reason = reason
            # What does not pass by itself is news at once.
            is_slow = op.clock.now() >= _teardown_start(op, started) + _USUAL_DURATION
            message = f"{provider.name} {selector.region}: {reason}"
            _report_blocker(op, message, is_news=is_slow or bool(left.blocked_by))
        if op.clock.now() >= started + timeout:
            raise _incomplete(provider, selector, left, timeout)
        op.sleep(pause)
        pause = min(pause * 1.5, max(provider.poll_interval, _LONGEST_PAUSE))


def _incomplete(provider: Provider, selector: Selector, left: Teardown, timeout: timedelta) -> TeardownIncomplete:
    after = f"not deleted after {format_duration(timeout)}" if timeout else "not deleted yet"
    things = ", ".join(f"{item.kind} {item.id}" for item in left.remaining[:5]) or "nodes that may still appear"
    return TeardownIncomplete(
        f"{provider.name} {selector.region}: {after}: {things} ({left.blocked_by or left.waiting_for or 'no reason given'})",
        provider=provider.name,
        region=selector.region,
        hint="`multicompute reap` continues",
    )


def terminate_step(
    op: Operation, provider: Provider, attempts: Sequence[AttemptRecord], selector: Selector
) -> Teardown:
    """Terminate what is selected once, and return what is left.

    Nodes launched so recently that a listing may not show them yet are selected by their ids (I4).
    """
    launched = {attempt.token for attempt in attempts if attempt.state is AttemptState.LAUNCHED}
    # By the start of the node, not of its attempt: that was opened before a call that may have taken long.
    recent = tuple(
        node.id
        for node in op.ledger.nodes(op.cluster_id)
        if node.token in launched
        and node.ended_at is None
        and node.region == selector.region
        and op.clock.now() < node.started_at + provider.consistency_window
    )
    known = tuple(name for name in selector.known_ids if name not in recent)
    full = replace(selector, node_ids=recent, known_ids=known)
    return op.call(provider, "terminate", lambda: provider.terminate(full))


def _settled_at(provider: Provider, attempts: Sequence[AttemptRecord]) -> datetime:
    """Return the time after which no node of a launch with an unknown outcome can appear."""
    in_doubt = [attempt.opened_at for attempt in attempts if attempt.state is AttemptState.OPEN]
    return max(in_doubt) + provider.consistency_window if in_doubt else datetime.min.replace(tzinfo=UTC)


def _teardown_start(op: Operation, default: datetime) -> datetime:
    """Return when the teardown of the cluster began, perhaps in another process."""
    return next((event.at for event in op.ledger.events(op.cluster_id) if event.kind == "terminating"), default)


def _report_blocker(op: Operation, message: str, *, is_news: bool = True, code: str | None = None) -> None:
    """Notify the callback of what blocks a teardown; if it is news, also store it, once until it changes."""
    event = op.events.event("stuck" if is_news else "terminating", message, code=code)
    try:
        if is_news and blocked_on(op.ledger.events(op.cluster_id)) != message:
            op.ledger.append(event)
    except LedgerError:
        # The callback is called all the same: a ledger that can't be written must not stop a teardown.
        pass
    op.events.notify(event)


def blocked_on(events: Sequence[Event]) -> str:
    """Return what a teardown waits for or failed at, by the events of its cluster; "" if unknown."""
    return next((event.message for event in reversed(events) if event.kind in ("terminating", "stuck")), "")


def _mark_terminating(op: Operation, reason: str) -> None:
    """Record that the teardown has begun, so that any process continues it."""
    if op.reload().state is not ClusterState.TERMINATING:
        event = op.events.event("terminating", f"terminating: {reason}")
        try:
            op.ledger.update_cluster(op.cluster_id, event, state=ClusterState.TERMINATING, reason=reason)
        finally:
            op.events.notify(event)


def _mark_ended(op: Operation, state: ClusterState, reason: str) -> None:
    """Record that nothing of the cluster exists: attempts are closed, nodes and cluster have ended."""
    kind = "failed" if state is ClusterState.FAILED else "terminated"
    event = op.events.event(kind, f"{kind}: {reason}; nothing is left running")
    try:
        op.ledger.end_cluster(op.cluster_id, state=state, at=op.clock.now(), reason=reason, event=event)
    except LedgerError as error:
        raise LedgerError(
            f"{op.name}: nothing is left running, and the ledger can't record that: {error.message}",
            hint="once the ledger can be written, `multicompute reconcile` records it",
            code=error.code,
        ) from error
    finally:
        op.events.notify(event)
    forget_cluster(op.session, op.cluster_id)
