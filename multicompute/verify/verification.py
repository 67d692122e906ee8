"""Runs all checks in order, and tears everything down whatever happens."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from multicompute.engine.operation.cancellation import StopGuard
from multicompute.errors import MulticomputeError
from multicompute.session import Session
from multicompute.verify import account, endings, launching, leases
from multicompute.verify.findings import Failed, Finding, NotChecked, Status
from multicompute.verify.purchase import Purchase, confirmed_price, require_within_limit
from multicompute.verify.report import Report, versions_of
from multicompute.verify.run import Run


@dataclass(frozen=True, slots=True)
class Check:
    """A check: a function that returns what it found, or raises `Failed` or `NotChecked`.

    Attributes:
        name: Its name in the report.
        function: The function.
        needs: The checks that must have passed before.
    """

    name: str
    function: Callable[[Run], str]
    needs: tuple[str, ...] = ()


FREE: Final = (
    Check("credentials", account.credentials),
    Check("rights", account.rights, needs=("credentials",)),
    Check("quota", account.quota, needs=("credentials",)),
)
"""The checks that launch nothing."""
PAID: Final = (
    Check("image", launching.image, needs=("rights",)),
    Check("tags at birth", launching.tags_at_birth, needs=("image",)),
    Check("launch of one node", launching.launch, needs=("rights",)),
    Check("the same token again", launching.same_token, needs=("launch of one node",)),
    Check("launch of a gang", launching.gang, needs=("launch of one node",)),
    Check("listing", leases.listing, needs=("launch of a gang",)),
    Check("expiry moved", leases.expiry_moved, needs=("launch of one node",)),
    Check("boot script", launching.boot_script, needs=("launch of one node",)),
    Check("node ended from outside", leases.ended_from_outside, needs=("launch of a gang",)),
    Check("teardown", endings.teardown, needs=("launch of a gang",)),
    Check("other clusters untouched", endings.others_untouched, needs=("launch of a gang",)),
    Check("expiry enforced", leases.expiry_enforced, needs=("expiry moved", "other clusters untouched")),
)
"""The checks that launch nodes, or need some."""
LAST: Final = Check("nothing left", endings.nothing_left)
"""The check that tears down what is left, which is always made if anything was launched."""

Notify = Callable[[Finding], object]
Confirm = Callable[[Purchase], bool]


def verify(session: Session, purchase: Purchase, *, confirm: Confirm, notify: Notify) -> Report | None:
    """Check the promises of this package in the account of the session.

    Args:
        session: The ledger and the clouds.
        purchase: What the run may buy.
        confirm: Asked before anything is bought; False ends the run.
        notify: Called with each finding.

    Returns:
        The report, or None if the purchase was not confirmed.

    Raises:
        SpecError: At the price of today the run can cost more than its limit.
    """
    run = Run(session, purchase)
    started = session.clock.now()
    _perform(run, FREE, notify)
    if run.has_passed("credentials"):
        run.purchase = purchase.at_price(confirmed_price(session, purchase))
        require_within_limit(run.purchase)
        if run.has_passed("rights") and not confirm(run.purchase):
            return None
    guard = StopGuard()
    guard.install()
    try:
        _perform(run, PAID, notify)
        if run.records():
            _perform(run, (LAST,), notify)
    except BaseException as error:
        _close(run)
        if run.left:
            error.add_note(f"{', '.join(run.left)}: not torn down yet; `multicompute reap` continues")
        raise
    finally:
        guard.uninstall()
    _close(run)
    return _report(run, started)


def _perform(run: Run, checks: tuple[Check, ...], notify: Notify) -> None:
    for check in checks:
        before = run.session.clock.now()
        status, text = _outcome(run, check)
        seconds = (run.session.clock.now() - before).total_seconds()
        run.findings[check.name] = Finding(check.name, status, text, seconds)
        notify(run.findings[check.name])


def _outcome(run: Run, check: Check) -> tuple[Status, str]:
    if missing := next((need for need in check.needs if not run.has_passed(need)), ""):
        return Status.NOT_CHECKED, f'needs the check "{missing}"'
    try:
        return Status.PASSED, check.function(run)
    except Failed as failure:
        return Status.FAILED, str(failure)
    except NotChecked as reason:
        return Status.NOT_CHECKED, str(reason)
    except MulticomputeError as error:
        return Status.FAILED, run.describe(error)


def _close(run: Run) -> None:
    """Terminate what a run that was interrupted, or that failed with a bug, has left."""
    if endings.still_live(run):
        endings.terminate_all(run)
    run.left = run.left or tuple(endings.still_live(run))


def _report(run: Run, started: datetime) -> Report:
    return Report(
        cloud=run.name,
        purchase=run.purchase,
        started_at=started,
        seconds=(run.session.clock.now() - started).total_seconds(),
        spent=run.spent,
        findings=tuple(run.findings.values()),
        versions=versions_of(run.session.plugins[run.name]),
        is_refused=not run.has_passed("credentials"),
        left=run.left,
    )
