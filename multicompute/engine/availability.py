"""Asks clouds what the account in use can use, and records the answers."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from multicompute.engine.operation.retry import call_provider
from multicompute.errors import MulticomputeError
from multicompute.ledger import AvailabilityRecord
from multicompute.provider import Account, Availability, Capability
from multicompute.session import Session

_POOL: Final = 8


def read_availability(session: Session, name: str, region: str, account: Account) -> Availability:
    """Ask a cloud what an account can use in a region, and record the answer if there is a ledger.

    Raises:
        MulticomputeError: The cloud can't be asked, or the ledger can't be written.
    """
    found = call_provider(session, name, lambda provider: provider.availability(region))
    if not found.notes and session.has_ledger:
        # What could not be read may be readable in a moment.
        record = AvailabilityRecord(name, account.ids[0], session.clock.now(), found)
        session.ledger.put_availability(record)
    return found


def reads_availability(session: Session, name: str) -> bool:
    """Return whether a cloud can be used here and can be asked."""
    if session.usable.get(name, "not installed"):
        return False
    return Capability.AVAILABILITY in session.provider(name).capabilities


def read_regions(
    session: Session, name: str, regions: Sequence[str]
) -> tuple[list[Availability], list[MulticomputeError]]:
    """Ask a cloud about several regions at once.

    Returns:
        The answers, and the errors of the regions that could not be read.
    """
    account = call_provider(session, name, lambda provider: provider.account)
    found: list[Availability] = []
    errors: list[MulticomputeError] = []

    def read(region: str) -> Availability | MulticomputeError:
        try:
            return read_availability(session, name, region, account)
        except MulticomputeError as error:
            return error

    with ThreadPoolExecutor(_POOL, thread_name_prefix="availability") as pool:
        for answer in pool.map(read, regions):
            if isinstance(answer, Availability):
                found.append(answer)
            else:
                errors.append(answer)
    return found, errors
