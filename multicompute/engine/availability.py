"""Asks clouds what the account in use can use, and records the answers."""

from collections.abc import Mapping, Sequence

from multicompute.engine.operation.retry import call_provider
from multicompute.errors import MulticomputeError
from multicompute.ledger import AvailabilityRecord
from multicompute.provider import Account, Availability, Capability
from multicompute.session import Session


def read_availability(session: Session, name: str, region: str, account: Account) -> Availability:
    """Ask a cloud what an account can use in a region, and record the answer.

    Raises:
        MulticomputeError: The cloud can't be asked, or the ledger can't be written.
    """
    found = call_provider(session, name, lambda provider: provider.availability(region))
    if not found.notes:
        # What could not be read may be readable in a moment.
        record = AvailabilityRecord(name, account.ids[0], session.clock.now(), found)
        session.ledger.put_availability(record)
    return found


def reads_availability(session: Session, name: str) -> bool:
    """Return whether a cloud can be used here and can be asked."""
    if session.usable.get(name, "not installed"):
        return False
    return Capability.AVAILABILITY in session.provider(name).capabilities


def read_regions(session: Session, regions: Mapping[str, Sequence[str]]) -> list[str]:
    """Ask about regions, by provider, and return a note for each that could not be read."""
    notes = []
    for name, names in regions.items():
        try:
            if not reads_availability(session, name):
                continue
            account = call_provider(session, name, lambda provider: provider.account)
            for region in names:
                read_availability(session, name, region, account)
        except MulticomputeError as error:
            notes.append(f"{name}: {error.message}")
    return notes
