"""Rolls back an attempt: terminates what it launched, and closes it only when the cloud has nothing left of it (I4)."""

from multicompute.engine.operation.operation import Operation
from multicompute.engine.operation.regions import ProviderRegion
from multicompute.engine.provision.description import event_data, first_sentence, outcome_of, report_of
from multicompute.engine.provision.failover import MEMORY, outage_of
from multicompute.engine.teardown import terminate_and_wait
from multicompute.errors import MulticomputeError
from multicompute.ledger import AttemptRecord
from multicompute.plan import Candidate


def roll_back(op: Operation, attempt: AttemptRecord, error: MulticomputeError) -> None:
    """Terminate what an attempt launched, wait until it is gone, and close the attempt with `error` as the reason."""
    provider = op.provider(attempt.provider)
    selector = op.selector(ProviderRegion(attempt.provider, attempt.region), token=attempt.token)
    terminate_and_wait(op, provider, [attempt], selector)
    close_attempt(op, attempt, error)


def close_attempt(op: Operation, attempt: AttemptRecord, error: MulticomputeError) -> None:
    """Record that nothing of the attempt exists, why it failed, and the outage that follows from that."""
    outcome = outcome_of(error)
    op.renew_lease()
    message = first_sentence(error.vendor_message or error.message)
    report = report_of(attempt.parts, outcome, code=error.code, message=message)
    op.reports.append(report)
    kind = {"no capacity": "capacity", "not offered here": "capacity", "no quota": "quota"}.get(outcome, "refused")
    event = op.events.event(kind, str(report), **event_data(attempt), code=error.code)
    now = op.clock.now()
    past = op.ledger.past_outages(attempt.provider, now - MEMORY)
    outage = outage_of(error, Candidate(attempt.parts), now=now, past=past)
    op.ledger.close_attempt(
        attempt, at=now, outcome=outcome, code=error.code, message=error.message, event=event, outage=outage
    )
    op.events.notify(event)
