"""Lists and forgets remembered outages, and finds the one that rules out a candidate."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Final

from multicompute.errors import SpecError
from multicompute.plan import Candidate, Outage
from multicompute.session import Session
from multicompute.validation import did_you_mean

OUTAGE_HINT: Final = "`multicompute outages` lists outages, and `multicompute outages --clear` forgets them"
"""The hint of errors that outages cause."""
_EVER: Final = datetime.min.replace(tzinfo=UTC)


def active_outages(session: Session) -> Sequence[Outage]:
    """Return the active outages in the ledger, those that end first first; none, without creating a ledger, if there is none.

    Raises:
        LedgerError: The ledger exists and can't be read.
    """
    if not session.has_ledger:
        return ()
    return sorted(session.ledger.outages(now=session.clock.now()), key=lambda outage: (outage.until, outage.provider))


def ruling_out(candidate: Candidate, outages: Iterable[Outage], *, now: datetime) -> Outage | None:
    """Return the outage that rules out a candidate for the longest time, None if none does."""
    covering = [
        outage
        for outage in outages
        if any(outage.covers(part.offer, nodes=part.nodes, now=now) for part in candidate.parts)
    ]
    return max(covering, key=lambda outage: outage.until, default=None)


def clear_outages(session: Session, place: str = "") -> list[Outage]:
    """Forget outages, also those that are over and would make the next one longer.

    Args:
        session: The ledger and the catalog.
        place: A cloud, region or zone, or a glob on one; "" for all. "aws:us-east-1" names the cloud, too.

    Returns:
        Those that were active.

    Raises:
        SpecError: No cloud, region or zone has this name.
        LedgerError: The ledger can't be read or written.
    """
    known = session.ledger.outages(now=_EVER) if session.has_ledger else []
    region_of = {
        (provider, zone): name for (provider, name), zones in session.catalog.zones().items() for zone in zones
    }
    chosen = [
        outage
        for outage in known
        if not place
        or _matches(place, outage.provider, outage.place, region_of.get((outage.provider, outage.place), ""))
    ]
    if place and not chosen:
        _require_known(session, place)
    if chosen:
        session.ledger.delete_outages(chosen)
    return [outage for outage in chosen if outage.until > session.clock.now()]


def _matches(place: str, provider: str, *names: str) -> bool:
    cloud, colon, glob = place.casefold().rpartition(":")
    if colon and cloud != provider:
        return False
    return any(name and fnmatchcase(name.casefold(), glob) for name in (*names, provider))


def _require_known(session: Session, place: str) -> None:
    regions = [(region.provider, region.name) for region in session.catalog.regions()]
    zones = [(key[0], zone) for key, found in session.catalog.zones().items() for zone in found]
    places = [*regions, *zones, *((name, name) for name in session.plugins)]
    if not any(_matches(place, provider, name) for provider, name in places):
        question = did_you_mean(place.casefold(), sorted({name for _, name in places}))
        raise SpecError(
            f"{place}: no such cloud, region or zone", hint=question or "`multicompute outages` lists outages"
        )
