"""Tries the candidates of a plan in order until one comes up: the failover loop."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from multicompute.engine.operation.operation import Operation
from multicompute.engine.outages import active_outages
from multicompute.engine.provision.description import first_sentence
from multicompute.engine.provision.failover import CandidateQueue, outage_of
from multicompute.engine.provision.launch import launch, open_attempt, parts_by_region
from multicompute.engine.provision.lifetime import (
    EARLY_EXPIRY,
    earliest,
    earliest_end,
    early_expiry_text,
    limited,
    requested_expiry,
)
from multicompute.engine.provision.login import wait_until_ssh_answers
from multicompute.engine.provision.planner import Planner
from multicompute.engine.provision.preflight import learn_availability, quota_error, recheck_price
from multicompute.engine.provision.rollback import roll_back
from multicompute.engine.provision.summary import causes, commonest, summary_error
from multicompute.engine.provision.wait import make_ready, wait_until_running
from multicompute.errors import CapacityError, LedgerError, MulticomputeError, ProvisionTimeout
from multicompute.ledger import AttemptRecord, AttemptState
from multicompute.offer import Part
from multicompute.plan import Candidate, Plan
from multicompute.units import format_instant

_FIRST_PAUSE: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(minutes=5)
"""Between two rounds over all candidates."""


def try_candidates(op: Operation, planner: Planner, *, wait: bool) -> None:
    """Try the candidates in order, and again in further rounds for as long as `keep_trying` asks.

    What the account can use in a region is read before its first candidate is tried, and the plan is made again with it.
    Without `wait`, return as soon as a cloud has accepted a launch.

    Raises:
        MulticomputeError: No candidate succeeded; nothing is left running.
    """
    last_round = op.clock.now() + (op.spec.keep_trying or timedelta(0))
    pause = _FIRST_PAUSE
    plan = planner.plan
    _log_passed_over(op, plan)
    is_job = op.spec.workload is not None
    queue = CandidateQueue(_usable(plan), active_outages(op.session), is_job=is_job)
    while True:
        errors: list[MulticomputeError] = []
        while (candidate := queue.next(now=op.clock.now())) is not None:
            _require_time(op, errors)
            if learn_availability(op, candidate, planner.availability):
                plan = planner.renew(op.availability)
                queue.renew(_usable(plan), candidate)
                continue
            checked = _checked(op, queue, candidate, ceiling=planner.ceiling)
            if isinstance(checked, MulticomputeError):
                errors.append(checked)
                continue
            if _has_become_dearer(op, candidate, checked) and queue.put_back(checked):
                continue
            error = try_attempts(op, queue, [], parts_by_region(checked.parts), wait=wait)
            if error is None:
                return
            errors.append(error)
        # Without errors, outages rule out every candidate for now.
        is_lack = not errors or any(isinstance(error, CapacityError) for error in errors)
        if not is_lack or op.clock.now() + pause > last_round:
            if not errors:
                planner.require_candidate()
            raise summary_error(op, plan, errors)
        op.events.add("waiting", f"no capacity anywhere: trying all candidates again in {pause}")
        op.sleep(pause * (0.75 + 0.5 * op.session.random.random()))
        pause = min(pause * 2, _LONGEST_PAUSE)
        queue = CandidateQueue(_usable(plan), is_job=is_job)


def try_attempts(
    op: Operation,
    queue: CandidateQueue,
    attempts: list[AttemptRecord],
    groups: Sequence[tuple[Part, ...]],
    *,
    wait: bool,
) -> MulticomputeError | None:
    """Launch the parts of one candidate, all or nothing, and wait until they run.

    `attempts` were opened before, perhaps by a process that died, and are launched again; `groups` are the parts that need an
    attempt each. A failure reorders the other candidates in `queue`.

    Returns:
        None if the gang runs, or is launched without `wait`; else the error, after all attempts were rolled back.
    """
    try:
        for attempt in attempts:
            if attempt.state is AttemptState.OPEN:
                launch(op, attempt, is_repeated=True)
        if groups:
            _launch_groups(op, attempts, groups)
        if wait:
            found = wait_until_running(op, attempts)
            wait_until_ssh_answers(op, found)
            make_ready(op, attempts, found)
        return None
    except (LedgerError, ProvisionTimeout):
        raise
    except MulticomputeError as error:
        _roll_back_open(op, attempts, error)
        failed = next((attempt for attempt in attempts if attempt.region == error.region), attempts[-1])
        candidate = Candidate(failed.parts)
        queue.record_failure(candidate, error, outage_of(error, candidate, now=op.clock.now()))
        if reserved := [part.reservation for part in candidate.parts if part.reservation]:
            # What is bought in its place costs money: that must not happen silently.
            message = f"reservation {', '.join(reserved)} was not used: {error.message}"
            op.events.add("reservation", message, code=error.code)
        return error


def _launch_groups(op: Operation, attempts: list[AttemptRecord], groups: Sequence[tuple[Part, ...]]) -> None:
    """Launch each group of parts in an attempt; the cluster expires when the first of their clouds terminates its nodes."""
    requested = requested_expiry(op.initial, op.spec)
    limits = [limited(op.session, parts, has_expiry=requested is not None) for parts in groups]
    parts = [part for group in limits for part in group]
    # From the ttl again: an earlier candidate may have had an earlier end.
    expires_at = earliest([requested, earliest_end(parts)])
    for group in limits:
        attempts.append(open_attempt(op, group, expires_at=expires_at))
        launch(op, attempts[-1], is_repeated=False)
    if expires_at is not None and expires_at != requested:
        text = early_expiry_text(op.session, parts, expires_at, op.spec)
        op.events.add(EARLY_EXPIRY, text, expires_at=format_instant(expires_at))


def _usable(plan: Plan) -> list[Candidate]:
    return [candidate for candidate in plan.candidates if candidate.is_configured]


def _log_passed_over(op: Operation, plan: Plan) -> None:
    """Log the clouds that have cheaper candidates and can't be used here."""
    usable = _usable(plan)
    best = usable[0].ranking_cost if usable else float("inf")
    passed_over = {c.provider for c in plan.candidates if not c.is_configured and c.ranking_cost < best}
    for provider in sorted(passed_over):
        why_not = op.session.usable.get(provider, "not installed")
        op.events.add("note", f"{provider}: cheaper, but not configured: {why_not}")


def _require_time(op: Operation, errors: Sequence[MulticomputeError]) -> None:
    """Check that the time of the request has not run out.

    Args:
        op: The operation.
        errors: The failures so far, of which the message has a summary.

    Raises:
        ProvisionTimeout: It has run out.
    """
    if op.deadline is None or op.clock.now() < op.deadline:
        return
    text = f"not ready by {op.deadline:%H:%M:%S} UTC, after {len(op.reports)} tries"
    if errors:
        text += f": {causes(errors)}\n  such as {first_sentence(commonest(errors).message)}"
    raise ProvisionTimeout(text, attempts=op.reports)


def _checked(
    op: Operation, queue: CandidateQueue, candidate: Candidate, *, ceiling: float | None
) -> Candidate | MulticomputeError:
    """Return a candidate at today's price, or the error if its account, its quota or its price do not allow it."""
    op.heartbeat()
    try:
        for part in candidate.parts:
            op.account_of(part.offer.provider)
        return quota_error(op, candidate) or recheck_price(op, candidate, ceiling=ceiling)
    except (LedgerError, ProvisionTimeout):
        raise
    except CapacityError as error:
        return error
    except MulticomputeError as error:
        # Nothing was launched yet: the provider can't be opened, or does not answer at all.
        provider = error.provider or candidate.provider
        queue.drop(provider)
        op.events.add("note", f"{provider}: {error.message}", code=error.code)
        return error


def _has_become_dearer(op: Operation, candidate: Candidate, checked: Candidate) -> bool:
    """Return whether a candidate may not be the next one any more, because it costs more than in the plan."""
    return op.spec.order != "given" and checked.hourly_cost > candidate.hourly_cost


def _roll_back_open(op: Operation, attempts: Sequence[AttemptRecord], error: MulticomputeError) -> None:
    """Roll back every attempt of a failed candidate: nodes left running while the next one is tried would be paid twice."""
    for attempt in attempts:
        current = op.ledger.attempt(attempt.token)
        if current is not None and current.is_open:
            roll_back(op, current, error)
