"""Decides which candidate to try after a failure, and which outage to remember. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from multicompute.errors import (
    AccessDeniedError,
    AuthError,
    CapacityError,
    InvalidRequestError,
    MulticomputeError,
    QuotaError,
)
from multicompute.offer import Part
from multicompute.plan import Candidate, Outage

# First and longest duration. A lack of capacity lasts minutes or hours. It takes days to raise a quota, or until a zone sells a type.
_DURATIONS: Final = {
    "capacity": (timedelta(minutes=5), timedelta(hours=2)),
    "quota": (timedelta(minutes=15), timedelta(days=1)),
    "not offered": (timedelta(days=1), timedelta(days=1)),
    "access": (timedelta(hours=1), timedelta(days=1)),
}
MEMORY: Final = timedelta(days=1)
"""An outage that recurs within this time after the last one lasts twice as long."""


class CandidateQueue:
    """The candidates left to try, in an order that failures change. `next` takes microseconds."""

    def __init__(self, candidates: Iterable[Candidate], outages: Iterable[Outage] = ()) -> None:
        """Create the queue of a plan; candidates in a known outage are skipped."""
        self._stack = list(reversed(list(candidates)))
        self._outages = list(outages)
        self._dropped: set[str] = set()
        self._dropped_regions: set[tuple[str, str]] = set()

    def next(self, *, now: datetime) -> Candidate | None:
        """Remove and return the next candidate that nothing rules out, None if there is none."""
        while self._stack:
            candidate = self._stack.pop()
            if not self._is_dropped(candidate) and self.ruled_out_by(candidate, now=now) is None:
                return candidate
        return None

    def _is_dropped(self, candidate: Candidate) -> bool:
        return any(
            part.offer.provider in self._dropped or (part.offer.provider, part.offer.region) in self._dropped_regions
            for part in candidate.parts
        )

    def ruled_out_by(self, candidate: Candidate, *, now: datetime) -> Outage | None:
        """Return the outage that rules out `candidate`, None if there is none."""
        for outage in self._outages:
            if any(outage.covers(part.offer, nodes=part.nodes, now=now) for part in candidate.parts):
                return outage
        return None

    def put_back(self, candidate: Candidate) -> bool:
        """Insert a candidate at the position of its new price; return False, and do nothing, if it is still the cheapest."""
        price = (candidate.ends_early, candidate.hourly_cost)
        cheaper = sum((other.ends_early, other.hourly_cost) < price for other in self._stack)
        if cheaper:
            self._stack.insert(len(self._stack) - cheaper, candidate)
        return cheaper > 0

    def drop(self, provider: str) -> None:
        """Skip all further candidates of a provider."""
        self._dropped.add(provider)

    def record_failure(self, candidate: Candidate, error: MulticomputeError, outage: Outage | None) -> None:
        """Apply a failure: skip what the outage covers, and move the zones that the error names to the front."""
        if outage is not None:
            self._outages.append(outage)
        if isinstance(error, InvalidRequestError) and error.scope == "region":
            # What this request names, an image for example, is not in the region. Other requests may launch there.
            self._dropped_regions.add((candidate.provider, error.region or candidate.region or ""))
        named = error.zones_with_capacity if isinstance(error, CapacityError) else ()
        if named:
            # The end of the stack comes first. The sort is stable, so the order is otherwise kept.
            self._stack.sort(key=lambda other: other.zone in named and _is_same_purchase(other, candidate))


def _is_same_purchase(other: Candidate, candidate: Candidate) -> bool:
    """Return whether two candidates differ only in the zone."""
    return (other.provider, other.region, other.instance_type, other.purchase) == (
        candidate.provider,
        candidate.region,
        candidate.instance_type,
        candidate.purchase,
    )


def is_fatal(error: MulticomputeError) -> bool:
    """Return whether the request itself is at fault, so that no candidate can succeed."""
    return isinstance(error, InvalidRequestError) and error.scope not in ("zone", "region")


def rules_out_provider(error: MulticomputeError) -> bool:
    """Return whether no candidate of this provider can succeed. A lack of capacity or quota is usually local; other errors are not."""
    if isinstance(error, (CapacityError, QuotaError)):
        return error.scope == "account"
    return error.scope not in ("zone", "region")


def outage_reason(error: MulticomputeError) -> str:
    """Return the reason of the outage that follows from an error, "" if none does."""
    if isinstance(error, CapacityError):
        return "capacity" if error.is_offered else "not offered"
    if isinstance(error, QuotaError):
        return "quota"
    if isinstance(error, (AuthError, AccessDeniedError)) and error.scope == "region":
        return "access"
    return ""


def outage_of(
    error: MulticomputeError, candidate: Candidate, *, now: datetime, past: Sequence[Outage] = ()
) -> Outage | None:
    """Return the outage to remember after a failure, None if there is none.

    Its duration doubles with each recurrence of an outage in `past`.
    """
    reason = outage_reason(error)
    if not reason:
        return None
    part = _refused_part(error, candidate)
    offer = part.offer
    place = {"account": "", "region": offer.region}.get(error.scope, offer.zone or offer.region)
    instance_type = "*" if reason == "access" else offer.instance_type
    before = [
        outage
        for outage in past
        if (outage.place, outage.instance_type, outage.purchase, outage.reason)
        == (place, instance_type, offer.purchase, reason)
    ]
    consecutive_failures = 1 + max((outage.consecutive_failures for outage in before), default=0)
    first, longest = _DURATIONS[reason]
    active = [outage.nodes for outage in before if outage.until > now]
    return Outage(
        provider=offer.provider,
        place=place,
        instance_type=instance_type,
        purchase=offer.purchase,
        reason=reason,
        until=now + min(first * 2 ** min(consecutive_failures - 1, 20), longest),
        nodes=min([part.nodes, *active]) if reason in ("capacity", "quota") else 1,
        consecutive_failures=consecutive_failures,
    )


def _refused_part(error: MulticomputeError, candidate: Candidate) -> Part:
    """Return the part of a candidate that an error is about, or the first one if the error names none."""
    for part in candidate.parts:
        if (part.offer.zone or None, part.offer.instance_type) == (error.zone, error.instance_type):
            return part
    return candidate.parts[0]
