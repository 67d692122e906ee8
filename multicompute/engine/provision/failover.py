"""What comes next after a failure, and what is worth remembering of it. Pure: decides, does nothing."""

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
from multicompute.provider import Quota

# First length and longest. A lack of capacity passes in minutes or hours; a quota is raised, and a zone begins to sell a type, within days.
_LENGTHS: Final = {
    "capacity": (timedelta(minutes=5), timedelta(hours=2)),
    "quota": (timedelta(minutes=15), timedelta(days=1)),
    "not offered": (timedelta(days=1), timedelta(days=1)),
    "access": (timedelta(hours=1), timedelta(days=1)),
}
MEMORY: Final = timedelta(days=1)
"""An outage that recurs within this time after the last one lasts twice as long as that."""


class CandidateQueue:
    """The candidates still to try, in order, as failures change it. `next` is a matter of microseconds."""

    def __init__(self, candidates: Iterable[Candidate], outages: Iterable[Outage] = ()) -> None:
        self._ahead = list(reversed(list(candidates)))
        self._outages = list(outages)
        self._dropped: set[str] = set()

    def next(self, *, now: datetime) -> Candidate | None:
        """The next candidate that nothing rules out, or None."""
        while self._ahead:
            candidate = self._ahead.pop()
            if candidate.provider not in self._dropped and self.ruled_out_by(candidate, now=now) is None:
                return candidate
        return None

    def ruled_out_by(self, candidate: Candidate, *, now: datetime) -> Outage | None:
        """The outage that says that `candidate` is not worth asking for."""
        for outage in self._outages:
            if any(outage.covers(part.offer, nodes=part.nodes, now=now) for part in candidate.parts):
                return outage
        return None

    def put_back(self, candidate: Candidate) -> bool:
        """Return a candidate whose price has risen to the place that it has now; False where that is still the first."""
        cheaper = sum(other.hourly_cost < candidate.hourly_cost for other in self._ahead)
        if cheaper:
            self._ahead.insert(len(self._ahead) - cheaper, candidate)
        return cheaper > 0

    def drop(self, provider: str) -> None:
        """Nothing of this provider is worth trying any more."""
        self._dropped.add(provider)

    def learn(self, candidate: Candidate, error: MulticomputeError, outage: Outage | None) -> None:
        """Take in what a try came to: an outage rules out what it covers, zones that are named come next."""
        if outage is not None:
            self._outages.append(outage)
        named = error.zones_with_capacity if isinstance(error, CapacityError) else ()
        if named:
            near = [other for other in self._ahead if _is_near(other, candidate) and other.zone in named]
            rest = [other for other in self._ahead if not (_is_near(other, candidate) and other.zone in named)]
            self._ahead = rest + near


def _is_near(other: Candidate, candidate: Candidate) -> bool:
    """Whether it is the same thing in another zone of the region."""
    return (other.provider, other.region, other.instance_type, other.purchase) == (
        candidate.provider,
        candidate.region,
        candidate.instance_type,
        candidate.purchase,
    )


def ends_all(error: MulticomputeError) -> bool:
    """Whether the request itself is at fault, so that no other place would take it."""
    return isinstance(error, InvalidRequestError) and error.scope != "zone"


def ends_provider(error: MulticomputeError) -> bool:
    """Whether nothing else of this provider is worth asking for: a lack is local, everything else is not."""
    if isinstance(error, (CapacityError, QuotaError)):
        return error.scope == "account"
    return error.scope not in ("zone", "region")


def reason_of(error: MulticomputeError) -> str:
    """The word by which the lack that `error` tells of is remembered; "" where it is none."""
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
    """What is worth remembering of a failure, for every process: longer each time that it recurs."""
    reason = reason_of(error)
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
    first, longest = _LENGTHS[reason]
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
    """The part of a candidate that an answer is about; the first where it does not say."""
    for part in candidate.parts:
        if (part.offer.zone or None, part.offer.instance_type) == (error.zone, error.instance_type):
            return part
    return candidate.parts[0]


def short_quota(quotas: Iterable[Quota], candidate: Candidate) -> tuple[Quota, float] | None:
    """The first quota that does not allow `candidate`, and how much of its unit would be needed."""
    for quota in quotas:
        needed = sum(
            part.nodes * _units(quota, part.offer.instance.vcpus, part.offer.instance.accelerators)
            for part in candidate.parts
            if part.reservation is None and quota.purchase == part.offer.purchase and quota.region == part.offer.region
            if quota.counts(part.offer.instance)
        )
        if needed > quota.limit - quota.used:
            return quota, needed
    return None


def _units(quota: Quota, vcpus: float, accelerators: float) -> float:
    return {"vcpus": vcpus, "accelerators": accelerators}.get(quota.unit, 1.0)
