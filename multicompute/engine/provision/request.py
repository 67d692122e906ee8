"""Brings a cluster up: claims its name, tries candidate after candidate, and leaves nothing behind when none will do."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from multicompute.engine.operation.cancellation import Cancellation, on_signals
from multicompute.engine.operation.events import EventCallback
from multicompute.engine.operation.lease import Lease, holding
from multicompute.engine.operation.operation import LostLease, Operation, TerminationRequested
from multicompute.engine.planning import plan_for, remembered, require_candidate
from multicompute.engine.provision.attempt import (
    await_running,
    by_region,
    expiry_text,
    give_up,
    is_whole,
    launch,
    make_ready,
    open_attempt,
)
from multicompute.engine.provision.claim import claim, find_claimed
from multicompute.engine.provision.failover import CandidateQueue, ends_all, ends_provider, outage_of
from multicompute.engine.provision.preflight import find_reservations, quota_error, recheck_price
from multicompute.engine.provision.summary import require_usable, summary
from multicompute.engine.teardown import end, places, terminate_and_wait
from multicompute.errors import (
    CapacityError,
    ClusterExists,
    ClusterNotFound,
    LedgerError,
    MulticomputeError,
    ProviderError,
    ProvisionTimeout,
)
from multicompute.ledger import AttemptRecord, AttemptState, ClusterRecord
from multicompute.node import ClusterState
from multicompute.offer import Part
from multicompute.plan import Candidate, Plan
from multicompute.provider import Capability, Selector
from multicompute.session import Session
from multicompute.spec import ClusterSpec

_log = logging.getLogger("multicompute")
_LOOK: Final = timedelta(seconds=1)
_FIRST_ROUND: Final = timedelta(seconds=30)
_LONGEST_ROUND: Final = timedelta(minutes=5)


def request(
    session: Session, spec: ClusterSpec, *, watch: EventCallback | None = None, stop: Cancellation | None = None
) -> ClusterRecord:
    """Get the cluster that `spec` asks for: the live one of that name, or a new one.

    Returns:
        The cluster, READY; with `wait=False` as soon as one cloud has taken the launch.

    Raises:
        NoOfferError: nothing in the catalog meets the spec.
        ClusterExists: a live cluster of that name was requested otherwise.
        CapacityError, QuotaError, AuthError, AccessDeniedError, InvalidRequestError, ProviderError: every candidate was
            tried or ruled out; nothing of it is left.
        ProvisionTimeout: not ready within `timeout`; nothing of it is left.
    """
    if spec.ttl == "default":
        spec = spec.replace(ttl=session.config.default_ttl)
    spec.ssh_public_key()
    stop = stop or Cancellation()
    with on_signals(stop):
        # Asked first: the same request again returns its cluster, whatever a new plan would say.
        record = find_claimed(session, spec)
        plan = lease = None
        if record is None:
            plan = _plan(session, spec)
            record, lease = claim(session, spec)
        if record.state is ClusterState.TERMINATING:
            raise ClusterExists(
                f"{record.name}: the live cluster of this name is being torn down ({record.reason})",
                hint=f"wait for it with `multicompute down {record.name} --yes`, or choose another name",
            )
        timeout = spec.timeout + (spec.keep_trying or timedelta(0))
        return bring_up(session, record, plan=plan, own=lease, watch=watch, stop=stop, timeout=timeout, wait=spec.wait)


def bring_up(
    session: Session,
    record: ClusterRecord,
    *,
    plan: Plan | None = None,
    own: Lease | None = None,
    watch: EventCallback | None = None,
    stop: Cancellation | None = None,
    timeout: timedelta,
    wait: bool = True,
) -> ClusterRecord:
    """Go on with a cluster that is not READY yet, in this process or by waiting for the one that works on it.

    `own` is the lease of a cluster that has just been claimed.

    Raises:
        As `request`; ClusterNotFound where somebody ended it meanwhile.
    """
    stop = stop or Cancellation()
    deadline = session.clock.now() + timeout
    with on_signals(stop):
        while record.state.is_live and not record.state.is_up:
            with holding(session, record.id, own) as lease:
                # Again, under the lease: who had it until now may have brought it up, or ended it.
                record = session.ledger.cluster(record.id)
                if lease is not None and record.state.is_live and not record.state.is_up:
                    op = Operation.on(session, record, lease, stop=stop, watch=watch)
                    op.deadline = deadline
                    if _work(op, plan, wait=wait):
                        return op.record()
                    lease = None
            if lease is None:
                if session.clock.now() >= deadline:
                    raise ProvisionTimeout(f"{record.name}: another process works on it and was not through in time")
                stop.sleep(session.clock, _LOOK)
    if not record.state.is_live:
        raise ClusterNotFound(f"{record.name}: {record.state}: {record.reason}")
    return record


def _plan(session: Session, spec: ClusterSpec) -> Plan:
    """The plan to work from, with the reservations that the spec names looked up.

    Raises:
        NoOfferError, CapacityError: it has no candidate.
        AuthError: it has none whose cloud can be used here.
    """
    found = find_reservations(session, spec) if spec.reservations else ()
    # Who keeps trying waits for outages to pass, and is not stopped by them.
    plan = plan_for(session, spec, reservations=found, outages=() if spec.keep_trying else None)
    require_candidate(plan, lambda: plan_for(session, spec, reservations=found, outages=()))
    require_usable(plan, session.usable)
    return plan


def _work(op: Operation, plan: Plan | None, *, wait: bool) -> bool:
    """Bring the cluster up under its lease; whatever stops that ends in a teardown.

    Returns:
        False where somebody else took it over; then nothing was torn down, and that one goes on with it.
    """
    try:
        with _torn_down(op):
            if (record := op.record()).state is ClusterState.TERMINATING:
                raise TerminationRequested(record.reason)
            if not _resume(op, wait=wait):
                plan = plan or _plan(op.session, op.spec)
                _announce(op, plan)
                _go(op, plan, wait=wait)
            _tidy(op)
            op.stop.check()
    except LostLease:
        return False
    return True


def _announce(op: Operation, plan: Plan) -> None:
    record, count = op.record(), len(plan.candidates)
    until = expiry_text(record.expires_at)
    op.story.add("requested", f"{record.name}: {count} candidates; will live {until}", candidates=count)


@contextmanager
def _torn_down(op: Operation) -> Iterator[None]:
    """Tear everything down when the block raises, whatever it is, and say so."""
    name = op.record().name
    try:
        yield
    except LostLease:
        raise
    except BaseException as error:
        if op.stop.is_left_by(error):
            raise
        # From here on the first Ctrl-C is noted only: half a teardown is what leaks.
        op.stop.shield()
        op.story.calm()
        if not op.lease.take():
            raise
        if not isinstance(error, MulticomputeError):
            _log.warning("%s: %s: tearing it down", name, _words(error))
        try:
            end(op, ClusterState.FAILED, _words(error))
        except MulticomputeError as trouble:
            error.add_note(f"{name} is not torn down yet: {trouble}")
            _log.error("%s: something of it may live, `multicompute reconcile` and `reap` go on: %s", name, trouble)
            if isinstance(error, TerminationRequested):
                # Its end was asked for, and this is what it came to: the word for that is none of the caller's.
                raise trouble from None
            # Not the trouble: what went wrong first is what the caller has to know.
            raise error
        if isinstance(error, TerminationRequested):
            why = f"{name}: was {_words(error)} while it was being provisioned; nothing of it is left"
            raise ClusterNotFound(why) from error
        if isinstance(error, MulticomputeError):
            error.attempts = error.attempts or tuple(op.reports)
            error.message = f"{error.message}; torn down, nothing of it is left"
        else:
            _log.warning("%s: torn down, nothing of it is left", name)
        raise


def _words(error: BaseException) -> str:
    """A failure in one line."""
    if isinstance(error, TerminationRequested):
        return "ended by request" if str(error) in ("", "by request") else f"ended ({error})"
    if isinstance(error, MulticomputeError):
        return error.message.splitlines()[0]
    return {KeyboardInterrupt: "interrupted", SystemExit: "asked to stop"}.get(type(error), "") or repr(error)


def _resume(op: Operation, *, wait: bool) -> bool:
    """Go on with the attempt that another call or process has begun; True where it succeeds."""
    begun = [attempt for attempt in op.ledger.attempts(op.cluster_id) if attempt.is_open]
    if not begun:
        return False
    if is_whole(op.spec, begun):
        return _try(op, CandidateQueue(()), begun, (), wait=wait) is None
    # No lack of anything, so nothing to remember of it.
    cut_off = ProviderError("its process died between two parts of the gang", provider=begun[0].provider)
    for attempt in begun:
        give_up(op, attempt, cut_off)
    return False


def _go(op: Operation, plan: Plan, *, wait: bool) -> None:
    """Try the candidates in order, round after round as long as `keep_trying` asks.

    Raises:
        MulticomputeError: what they came to.
    """
    give_up = op.clock.now() + (op.spec.keep_trying or timedelta(0))
    pause = _FIRST_ROUND
    course = CandidateQueue(_usable(op, plan), remembered(op.session))
    while True:
        errors = []
        while (candidate := course.next(now=op.clock.now())) is not None:
            error = _try_candidate(op, course, candidate, wait=wait)
            if error is None:
                return
            errors.append(error)
        # No errors: everything is ruled out by outages for now.
        is_lack = not errors or any(isinstance(error, CapacityError) for error in errors)
        if not is_lack or op.clock.now() + pause > give_up:
            raise summary(op, plan, errors)
        op.story.add("waiting", f"no capacity anywhere: trying all again in {pause}")
        op.pause(pause * (0.75 + 0.5 * op.session.random.random()))
        pause = min(pause * 2, _LONGEST_ROUND)
        course = CandidateQueue(_usable(op, plan))


def _usable(op: Operation, plan: Plan) -> list[Candidate]:
    """The candidates whose cloud can be used here; says once which clouds can't, where that passes over something cheaper."""
    usable = [candidate for candidate in plan.candidates if candidate.is_configured]
    best = usable[0].hourly_cost if usable else float("inf")
    passed = {c.provider for c in plan.candidates if not c.is_configured and c.hourly_cost < best}
    for provider in sorted(passed):
        why = op.session.usable.get(provider, "not installed")
        op.story.add("note", f"{provider}: cheaper, but not configured: {why}")
    return usable


def _try_candidate(
    op: Operation, course: CandidateQueue, candidate: Candidate, *, wait: bool
) -> MulticomputeError | None:
    """One candidate, from a look at quota and price to the running gang; None where it runs, else what it came to."""
    op.heartbeat()
    if op.deadline is not None and op.clock.now() >= op.deadline:
        raise ProvisionTimeout(f"not ready by {op.deadline:%H:%M:%S} UTC, after {len(op.reports)} tries")
    try:
        if short := quota_error(op, candidate):
            return short
        checked = recheck_price(op, candidate)
        if checked is None or (checked is not candidate and course.put_back(checked)):
            return CapacityError("its price has risen", provider=candidate.provider, region=candidate.region)
    except (LedgerError, ProvisionTimeout):
        raise
    except MulticomputeError as error:
        # Nothing was launched yet: the provider can't be opened, or does not answer at all.
        course.drop(candidate.provider)
        op.story.add("note", f"{candidate.provider}: {error.message}", code=error.code)
        return error
    return _try(op, course, [], by_region(checked.parts), wait=wait)


def _try(
    op: Operation,
    course: CandidateQueue,
    attempts: list[AttemptRecord],
    groups: Sequence[tuple[Part, ...]],
    *,
    wait: bool,
) -> MulticomputeError | None:
    """Launch the attempts that are begun and the groups that are not, all or nothing, and wait.

    Returns:
        None where the gang runs (or, without `wait`, is launched), else what it came to, with all of it closed.
    """
    try:
        for attempt in attempts:
            if attempt.state is AttemptState.OPEN:
                launch(op, attempt, is_repeated=True)
        for parts in groups:
            attempts.append(open_attempt(op, parts))
            launch(op, attempts[-1], is_repeated=False)
        if wait:
            make_ready(op, attempts, await_running(op, attempts))
        return None
    except (LedgerError, ProvisionTimeout):
        raise
    except MulticomputeError as error:
        _give_up_open(op, attempts, error)
        failed = next((attempt for attempt in attempts if attempt.region == error.region), attempts[-1])
        candidate = Candidate(failed.parts)
        course.learn(candidate, error, outage_of(error, candidate, now=op.clock.now()))
        if ends_all(error):
            raise
        if ends_provider(error):
            course.drop(candidate.provider)
        return error


def _give_up_open(op: Operation, attempts: Sequence[AttemptRecord], error: MulticomputeError) -> None:
    """Close every attempt of a failed candidate: going on elsewhere while something of it may live would pay twice."""
    for attempt in attempts:
        now = op.ledger.attempt(attempt.token)
        if now is not None and now.is_open:
            give_up(op, now, error)


def _tidy(op: Operation) -> None:
    """Remove what failed attempts left in other regions than the one that won; it costs nothing, so trouble is only noted."""
    attempts = op.ledger.attempts(op.cluster_id)
    home = {(attempt.provider, attempt.region) for attempt in attempts if attempt.is_open}
    for name, region in places(attempts):
        if (name, region) in home:
            continue
        try:
            provider = op.session.provider(name)
            if Capability.DEPENDENT_RESOURCES in provider.capabilities:
                terminate_and_wait(op, provider, (), Selector(region=region, cluster_id=op.cluster_id))
        except MulticomputeError as error:
            op.story.add("note", f"{name} {region}: left for the teardown: {error.message}", code=error.code)
