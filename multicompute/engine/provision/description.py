"""Describes attempts and failures: the texts and data of events, reports and errors."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from multicompute.errors import (
    AccessDeniedError,
    AuthError,
    CapacityError,
    InvalidRequestError,
    MulticomputeError,
    ProvisionTimeout,
    QuotaError,
)
from multicompute.ledger import ACCESS_DENIED, NOT_AUTHENTICATED, AttemptRecord
from multicompute.offer import Part
from multicompute.plan import AttemptReport
from multicompute.text import shortened

_LONGEST_SENTENCE: Final = 160
_OUTCOMES: Final[dict[type[MulticomputeError], str]] = {
    QuotaError: "no quota",
    AuthError: NOT_AUTHENTICATED,
    AccessDeniedError: ACCESS_DENIED,
    InvalidRequestError: "refused as invalid",
    ProvisionTimeout: "timed out",
}


def describe(attempt: AttemptRecord) -> str:
    """Return the attempt in words: "8 x p5.48xlarge on demand in aws us-east-1a"."""
    counts: dict[str, int] = {}
    for part in attempt.parts:
        purchase = part.reservation or part.offer.purchase.replace("_", " ")
        kind = f"{part.offer.instance_type} {purchase}"
        counts[kind] = counts.get(kind, 0) + part.nodes
    what = " + ".join(f"{count} x {kind}" for kind, count in counts.items())
    return f"{what} in {attempt.provider} {zone_or_region(attempt)}"


def describe_open(attempts: Iterable[AttemptRecord]) -> list[str]:
    """Return the parts of the attempts that are open, in words: "2 x p5.48xlarge in us-east-1a"."""
    return [
        f"{part.nodes} x {part.offer.instance_type} in {part.offer.zone or part.offer.region}"
        for attempt in attempts
        if attempt.is_open
        for part in attempt.parts
    ]


def zone_or_region(attempt: AttemptRecord) -> str:
    """Return the zone of an attempt, or its region if it has several zones or none."""
    zones = {part.offer.zone for part in attempt.parts}
    return (zones.pop() if len(zones) == 1 else "") or attempt.region


def event_data(attempt: AttemptRecord) -> dict[str, object]:
    """Return the attempt as data of an event, for programs that read events."""
    return {**_place_of(attempt.parts), "nodes": attempt.nodes, "token": attempt.token}


def report_of(parts: Sequence[Part], outcome: str, *, code: str | None = None, message: str = "") -> AttemptReport:
    """Return the report of one attempt at these parts."""
    nodes = sum(part.machines for part in parts)
    return AttemptReport(**_place_of(parts), nodes=nodes, outcome=outcome, code=code, message=message)


def _place_of(parts: Sequence[Part]) -> dict[str, Any]:
    """Return where and how the first part is bought."""
    offer = parts[0].offer
    return {name: getattr(offer, name) for name in ("provider", "region", "zone", "instance_type", "purchase")}


PRICE_ABOVE_LIMIT: Final = "PriceAboveLimit"
"""The code of the error for an offer whose price of today is over a limit of the request or the configuration."""


def outcome_of(error: MulticomputeError) -> str:
    """Return the outcome of a failed attempt in a few words."""
    if error.code == PRICE_ABOVE_LIMIT:
        return "price over the limit"
    if isinstance(error, CapacityError):
        return "no capacity" if error.is_offered else "not offered here"
    return next((outcome for kind, outcome in _OUTCOMES.items() if isinstance(error, kind)), "failed")


def first_sentence(text: str) -> str:
    """Return the first sentence of a cloud's answer on one line, shortened; the ledger keeps the complete answer."""
    sentence = re.split(r"(?<=[.!?])\s", " ".join(text.split()), maxsplit=1)[0]
    return shortened(sentence, _LONGEST_SENTENCE)


def expiry_text(expires_at: datetime | None) -> str:
    """Return the end of a lease in words."""
    return f"until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else "without an expiry (ttl=None)"
