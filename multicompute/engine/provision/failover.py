"""Decides which candidate to try after a failure, and which outage to remember. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from multicompute.errors import (
    AccessDeniedError,
    AuthError,
    CapacityError,
    MulticomputeError,
    ProviderError,
    QuotaError,
    ThrottledError,
    TransientError,
)
from multicompute.offer import Offer, Part
from multicompute.plan import Candidate, Outage

# How long an outage lasts by its reason: the first and the longest duration. A lack of capacity lasts minutes or hours. It takes days to raise a quota, or until a zone sells a type.
DURATIONS: Final = {
    "capacity": (timedelta(minutes=5), timedelta(hours=2)),
    "quota": (timedelta(minutes=15), timedelta(days=1)),
    "not offered": (timedelta(days=1), timedelta(days=1)),
    "access": (timedelta(hours=1), timedelta(days=1)),
}
_UNANSWERED: Final = (ThrottledError, TransientError)
"""Errors that remain after many repetitions of a call."""
_SLOW: Final = (*_UNANSWERED, ProviderError)
"""Errors that leave the outcome of a launch open until the cloud's consistency window has passed."""
MEMORY: Final = timedelta(days=1)
"""An outage that recurs within this time after the last one lasts twice as long."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A place where the rest of the request has no use for further tries; an empty field is any."""

    provider: str
    region: str = ""
    zone: str = ""
    instance_type: str = ""

    def covers(self, offer: Offer) -> bool:
        """Return whether an offer is in the place."""
        return (
            self.provider == offer.provider
            and self.region in ("", offer.region)
            and self.zone in ("", offer.zone)
            and self.instance_type in ("", offer.instance_type)
        )


class CandidateQueue:
    """The candidates left to try, in an order that failures change. `next` takes microseconds."""

    def __init__(
        self, candidates: Iterable[Candidate], outages: Iterable[Outage] = (), *, is_job: bool = False
    ) -> None:
        """Create the queue of a plan; candidates in a known outage are skipped.

        Those of a job are in the order of its cost alone: it is done before its cloud terminates the nodes.
        """
        self._is_job = is_job
        self._stack = list(reversed(list(candidates)))
        self._taken: set[tuple[Part, ...]] = set()
        self._outages = list(outages)
        self._exclusions: set[Exclusion] = set()

    def next(self, *, now: datetime) -> Candidate | None:
        """Remove and return the next candidate that nothing rules out, None if there is none."""
        while self._stack:
            candidate = self._stack.pop()
            self._taken.add(candidate.parts)
            if not self._is_excluded(candidate) and self.ruled_out_by(candidate, now=now) is None:
                return candidate
        return None

    def _is_excluded(self, candidate: Candidate) -> bool:
        return any(exclusion.covers(part.offer) for exclusion in self._exclusions for part in candidate.parts)

    def ruled_out_by(self, candidate: Candidate, *, now: datetime) -> Outage | None:
        """Return the outage that rules out `candidate`, None if there is none."""
        for outage in self._outages:
            if any(outage.covers(part.offer, nodes=part.nodes, now=now) for part in candidate.parts):
                return outage
        return None

    def put_back(self, candidate: Candidate) -> bool:
        """Insert a candidate at the position of its new cost; return False, and do nothing, if it is still the cheapest."""
        cost = self._rank(candidate)
        cheaper = sum(self._rank(other) < cost for other in self._stack)
        if cheaper:
            self._stack.insert(len(self._stack) - cheaper, candidate)
        return cheaper > 0

    def _rank(self, candidate: Candidate) -> tuple[bool, float]:
        return candidate.ends_early and not self._is_job, candidate.ranking_cost

    def renew(self, candidates: Iterable[Candidate], last: Candidate) -> None:
        """Replace the candidates by those of a new plan, without those that were tried; `last` was returned and not tried."""
        self._taken.discard(last.parts)
        self._stack = [candidate for candidate in candidates if candidate.parts not in self._taken]
        self._stack.reverse()

    def drop(self, provider: str) -> None:
        """Skip all further candidates of a provider."""
        self._exclusions.add(Exclusion(provider))

    def record_failure(self, candidate: Candidate, error: MulticomputeError, outage: Outage | None) -> None:
        """Apply a failure: skip what it rules out, and move zones that it names to the front.

        After a failure that took minutes, the other clouds are next, then the other regions of this one.
        """
        if outage is not None:
            self._outages.append(outage)
        exclusion = exclusion_of(error, candidate)
        if exclusion is not None:
            self._exclusions.add(exclusion)
        if type(error) in _SLOW:
            # A further try may take as long.
            self._stack.sort(key=lambda other: (other.provider != candidate.provider, other.region != candidate.region))
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


def exclusion_of(error: MulticomputeError, candidate: Candidate) -> Exclusion | None:
    """Return what a failure rules out for the rest of the request, None if no more than the candidate itself.

    A lack of capacity or quota is remembered as an outage instead, which may not cover a smaller gang.
    """
    offer = _refused_part(error, candidate).offer
    if error.scope == "account":
        return None if isinstance(error, (CapacityError, QuotaError)) else Exclusion(offer.provider)
    if isinstance(error, _UNANSWERED):
        return Exclusion(offer.provider, offer.region)
    if isinstance(error, (CapacityError, QuotaError)) or error.scope == "request":
        return None
    if error.scope == "type":
        return Exclusion(offer.provider, offer.region, instance_type=offer.instance_type)
    if error.scope == "zone" and not offer.zone:
        # The cloud has chosen the zone, and may choose another one next time.
        return None
    return Exclusion(offer.provider, offer.region, offer.zone if error.scope == "zone" else "")


def outage_reason(error: MulticomputeError) -> str:
    """Return the reason of the outage that follows from an error, "" if none does."""
    if not error.is_remembered:
        return ""
    if isinstance(error, CapacityError):
        return "capacity" if error.is_offered else "not offered"
    if isinstance(error, QuotaError):
        return "quota"
    if isinstance(error, (AuthError, AccessDeniedError)) and error.scope in ("type", "region"):
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
    place = {"account": "", "region": offer.region, "type": offer.region}.get(error.scope, offer.zone or offer.region)
    instance_type = "*" if reason == "access" and error.scope == "region" else offer.instance_type
    before = [
        outage
        for outage in past
        if (outage.place, outage.instance_type, outage.purchase, outage.reason)
        == (place, instance_type, offer.purchase, reason)
    ]
    consecutive_failures = 1 + max((outage.consecutive_failures for outage in before), default=0)
    first, longest = DURATIONS[reason]
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
