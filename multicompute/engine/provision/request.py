"""Requests a cluster: claims its name, brings it up from the candidates of a plan, and tears it down if that fails."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from multicompute.engine.operation.cancellation import Cancellation, cancel_on_signals
from multicompute.engine.operation.events import EventCallback
from multicompute.engine.operation.lease import Lease
from multicompute.engine.operation.operation import LeaseLost, Operation, TerminationRequested, working_on
from multicompute.engine.operation.regions import by_region
from multicompute.engine.provision.candidates import try_attempts, try_candidates
from multicompute.engine.provision.claim import claim, find_claimed
from multicompute.engine.provision.description import expiry_text
from multicompute.engine.provision.failover import CandidateQueue
from multicompute.engine.provision.login import made_key, require_key_maker
from multicompute.engine.provision.planner import Planner
from multicompute.engine.provision.records import is_complete_gang
from multicompute.engine.provision.rollback import roll_back
from multicompute.engine.teardown import left_note, tear_down, terminate_and_wait
from multicompute.errors import ClusterExists, ClusterNotFound, MulticomputeError, ProviderError, ProvisionTimeout
from multicompute.ledger import ClusterRecord
from multicompute.node import ClusterState
from multicompute.provider import Capability, Selector
from multicompute.session import Session
from multicompute.spec import ClusterSpec
from multicompute.units import counted

_log = logging.getLogger("multicompute")
_POLL_INTERVAL: Final = timedelta(seconds=1)
"""The pause between two checks of a cluster that another process works on."""


def request(
    session: Session,
    spec: ClusterSpec,
    *,
    callback: EventCallback | None = None,
    cancellation: Cancellation | None = None,
    ceiling: float | None = None,
) -> ClusterRecord:
    """Return the cluster that `spec` asks for: the live one that the same request made before, or a new one.

    Args:
        session: Where to look and what to use.
        spec: The request.
        callback: Receives each event.
        cancellation: Stops the request.
        ceiling: The maximum price in USD per hour, in addition to that of the spec and the configured one.

    Returns:
        The cluster, READY; with `wait=False`, as soon as a cloud has accepted the launch.

    Raises:
        NoOfferError: No offer meets the spec.
        ClusterExists: A live cluster of that name was made by another request.
        CapacityError, QuotaError, AuthError, AccessDeniedError, InvalidRequestError, ProviderError: Every candidate failed
            or is ruled out; nothing is left running.
        ProvisionTimeout: The cluster was not ready within `timeout`; nothing is left running.
    """
    spec = with_default_ttl(session, spec)
    # Reads the key file, so that a missing one is an error before anything is launched.
    spec.ssh_public_key()
    require_key_maker(session, spec)
    cancellation = cancellation or Cancellation()
    with cancel_on_signals(cancellation):
        # Before planning: a repeated request returns its cluster, whatever a new plan would choose.
        record = find_claimed(session, spec)
        planner = lease = None
        if record is None:
            planner = Planner(session, spec, ceiling=ceiling)
            record, lease = claim(session, spec)
        if record.state is ClusterState.TERMINATING:
            raise ClusterExists(
                f"{record.name}: the live cluster of this name is being torn down ({record.reason})",
                hint=f"wait for it with `multicompute down {record.name} --yes`, or choose another name",
            )
        return bring_up(
            session,
            record,
            planner=planner,
            lease=lease,
            callback=callback,
            cancellation=cancellation,
            timeout=spec.timeout + (spec.keep_trying or timedelta(0)),
            wait=spec.wait,
        )


def with_default_ttl(session: Session, spec: ClusterSpec) -> ClusterSpec:
    """Return a spec with the configured ttl if it has none of its own."""
    return spec.replace(ttl=spec.ttl_with(session.config.default_ttl)) if spec.ttl == "default" else spec


def bring_up(
    session: Session,
    record: ClusterRecord,
    *,
    planner: Planner | None = None,
    lease: Lease | None = None,
    callback: EventCallback | None = None,
    cancellation: Cancellation | None = None,
    timeout: timedelta,
    wait: bool = True,
) -> ClusterRecord:
    """Bring up a cluster that is not READY yet, in this process or by waiting for the process that works on it.

    Without `planner`, the candidates are planned anew. `lease` is the lease of a cluster that was claimed just now. Without
    `wait`, return as soon as a cloud has accepted the launch.

    Raises:
        ClusterNotFound: The cluster was terminated in the meantime.
        MulticomputeError: As `request` does.
    """
    cancellation = cancellation or Cancellation()
    deadline = session.clock.now() + timeout
    with cancel_on_signals(cancellation):
        while _is_pending(record):
            with working_on(session, record.id, lease=lease, cancellation=cancellation, callback=callback) as op:
                if op is not None and _is_pending(op.initial):
                    op.deadline = deadline
                    if _provision(op, planner, wait=wait):
                        return op.reload()
            record = session.ledger.cluster(record.id)
            if _is_pending(record):
                if session.clock.now() >= deadline:
                    raise ProvisionTimeout(f"{record.name}: another process works on it and did not finish in time")
                cancellation.sleep(session.clock, _POLL_INTERVAL)
    if record.state.has_ended:
        raise ClusterNotFound(f"{record.name}: {record.state}: {record.reason}")
    return record


def _is_pending(record: ClusterRecord) -> bool:
    return record.state.is_live and not record.state.is_up


def _provision(op: Operation, planner: Planner | None, *, wait: bool) -> bool:
    """Bring the cluster up under its lease, and tear it down if that fails.

    Returns:
        False if another process took the cluster over, which continues with it; nothing was torn down then.
    """
    try:
        with _teardown_on_error(op):
            if op.initial.state is ClusterState.TERMINATING:
                raise TerminationRequested(op.initial.reason)
            if not _resume(op, wait=wait):
                planner = planner or Planner(op.session, op.spec)
                plan = planner.plan
                count, until = len(plan.candidates), expiry_text(op.initial.expires_at)
                op.events.add(
                    "requested",
                    f"{op.name}: {counted(count, 'candidate')}; will run {until}",
                    candidates=count,
                    **made_key(op),
                )
                for note in plan.notes:
                    if note.startswith("reservation "):
                        op.events.add("reservation", note)
                try_candidates(op, planner, wait=wait)
            _clean_up_other_regions(op)
            op.cancellation.check()
    except LeaseLost:
        return False
    return True


@contextmanager
def _teardown_on_error(op: Operation) -> Iterator[None]:
    """Tear the cluster down if the block raises anything, and add the result of the teardown to the error."""
    try:
        yield
    except LeaseLost:
        raise
    except BaseException as error:
        if op.cancellation.detaches(error):
            raise
        _tear_down_after(op, error)
        if isinstance(error, TerminationRequested):
            text = f"{op.name}: was {_reason(error)} while it was being provisioned; nothing is left running"
            raise ClusterNotFound(text) from error
        raise


def _tear_down_after(op: Operation, error: BaseException) -> None:
    # From now on the first Ctrl-C is deferred: an interrupted teardown leaks.
    op.cancellation.shield()
    op.events.ignore_callback_errors()
    if not op.holds_lease():
        raise error
    if not isinstance(error, MulticomputeError):
        _log.warning("%s: %s: tearing it down", op.name, _reason(error))
    try:
        tear_down(op, ClusterState.FAILED, _reason(error))
    except MulticomputeError as trouble:
        error.add_note(left_note(op.name, trouble))
        _log.error("%s", left_note(op.name, trouble))
        if isinstance(error, TerminationRequested):
            # TerminationRequested is internal: raise the teardown error.
            raise trouble from None
        # The caller needs the first error, not that of the teardown.
        raise error
    if isinstance(error, MulticomputeError):
        error.attempts, error.cluster = error.attempts or tuple(op.reports), op.name
        error.message = f"{error.message}; torn down, nothing is left running"
    else:
        _log.warning("%s: torn down, nothing is left running", op.name)


def _reason(error: BaseException) -> str:
    """Return a failure in one line."""
    if isinstance(error, TerminationRequested):
        return "terminated by request" if str(error) in ("", "by request") else f"terminated ({error})"
    if isinstance(error, MulticomputeError):
        return error.message.splitlines()[0]
    return {KeyboardInterrupt: "interrupted", SystemExit: "asked to stop"}.get(type(error), "") or repr(error)


def _resume(op: Operation, *, wait: bool) -> bool:
    """Continue with the attempts that another call or process opened; return whether they came up."""
    opened = [attempt for attempt in op.ledger.attempts(op.cluster_id) if attempt.is_open]
    if not opened:
        return False
    if is_complete_gang(op.spec, opened):
        return try_attempts(op, CandidateQueue(()), opened, (), wait=wait) is None
    # Not a lack of capacity, so no outage follows from it.
    error = ProviderError("its process died between two parts of the gang", provider=opened[0].provider)
    for attempt in opened:
        roll_back(op, attempt, error)
    return False


def _clean_up_other_regions(op: Operation) -> None:
    """Remove what failed attempts left in other regions than the cluster's; failures are only logged, because these resources cost nothing."""
    attempts = op.ledger.attempts(op.cluster_id)
    home = by_region(attempt for attempt in attempts if attempt.is_open)
    for where in by_region(attempts):
        if where in home:
            continue
        try:
            provider = op.provider(where.provider)
            if Capability.DEPENDENT_RESOURCES in provider.capabilities:
                terminate_and_wait(op, provider, (), Selector(region=where.region, cluster_id=op.cluster_id))
        except MulticomputeError as error:
            op.events.add("note", f"{where}: left for the teardown: {error.message}", code=error.code)
