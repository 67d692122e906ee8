"""The longest lifetime that clouds allow for the nodes of a candidate, and the expiry of a cluster of such nodes."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from multicompute.ledger import AttemptRecord, ClusterRecord
from multicompute.offer import Part
from multicompute.plan_text import lifetime_text
from multicompute.provider import longest_life
from multicompute.session import Session
from multicompute.spec import ClusterSpec
from multicompute.units import format_duration

EARLY_EXPIRY = "early expiry"
"""The kind of the event that says why a cluster expires before its ttl."""


def limited(session: Session, parts: Sequence[Part], *, has_expiry: bool) -> tuple[Part, ...]:
    """Return the parts of a launch that begins now, each with the end that its cloud sets."""
    return tuple(_limited(session, part, has_expiry=has_expiry) for part in parts)


def _limited(session: Session, part: Part, *, has_expiry: bool) -> Part:
    longest = _longest(session, part, has_expiry=has_expiry)
    # The end of a reservation is fixed. That of other nodes counts from their own launch, not from an earlier one.
    ends = [part.ends_at if part.reservation else None, session.clock.now() + longest if longest else None]
    return replace(part, ends_at=earliest(ends))


def _longest(session: Session, part: Part, *, has_expiry: bool) -> timedelta | None:
    offer = part.offer
    limits = session.lifetime_limits.get(offer.provider, ())
    return longest_life(limits, offer.instance, offer.purchase, has_expiry=has_expiry)


def earliest(ends: Iterable[datetime | None]) -> datetime | None:
    """Return the earliest of some ends of life, where None is never."""
    return min((end for end in ends if end is not None), default=None)


def earliest_end(parts: Iterable[Part]) -> datetime | None:
    """Return when the cloud terminates the first of these nodes; None for never."""
    return earliest(part.ends_at for part in parts)


def open_parts(attempts: Iterable[AttemptRecord]) -> list[Part]:
    """Return the parts of the attempts that are open."""
    return [part for attempt in attempts if attempt.is_open for part in attempt.parts]


def requested_expiry(record: ClusterRecord, spec: ClusterSpec) -> datetime | None:
    """Return when a cluster that has never been extended expires by its ttl; None for never."""
    return record.created_at + spec.ttl if isinstance(spec.ttl, timedelta) else None


def end_reason(session: Session, parts: Iterable[Part]) -> str:
    """Return in words why the first of these nodes, at least one of which has an end, ends then."""
    ends = [(part.ends_at, part) for part in parts if part.ends_at is not None]
    part = min(ends, key=lambda item: item[0])[1]
    return lifetime_text(part, _longest(session, part, has_expiry=True))


def early_expiry_text(session: Session, parts: Sequence[Part], expires_at: datetime, spec: ClusterSpec) -> str:
    """Return in words that a cluster expires before its ttl, and why."""
    left = timedelta(minutes=(expires_at - session.clock.now()) // timedelta(minutes=1))
    ttl = f"its ttl of {format_duration(spec.ttl)}" if isinstance(spec.ttl, timedelta) else "requested (ttl=None)"
    return (
        f"expires in {format_duration(left)}, at {expires_at:%Y-%m-%d %H:%M} UTC, earlier than {ttl}: "
        f"{end_reason(session, parts)}"
    )
