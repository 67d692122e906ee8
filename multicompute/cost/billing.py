"""What a node costs: by the second, at the price at which it was bought, and for its cloud's billing minimum at least.

Sums are exact. A price times seconds is a finite decimal, so that is what is added up (`spent`, in USD per hour times seconds);
the division by 3600, which need not end, is done once, by `per_hour`, and rounding (half to even, to 6 digits) only where a figure leaves.
"""

from collections.abc import Mapping
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Final

from multicompute.ledger.records import NodeRecord

if TYPE_CHECKING:
    from datetime import datetime

    from multicompute.session import Session

# A float has 17 digits at most, a year in microseconds 14; the rest is room for sums over prices of very different sizes.
EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_MICROSECOND: Final = timedelta(microseconds=1)
_NOTHING: Final = timedelta(0)
_HOUR: Final = Decimal(3600)
_MILLIONTH: Final = Decimal("0.000001")


def billed(
    node: NodeRecord,
    *,
    minimum: timedelta,
    now: "datetime",
    since: "datetime | None" = None,
    until: "datetime | None" = None,
) -> timedelta:
    """For how long a node is billed, of the time from `since` up to but without `until`.

    What the billing minimum adds to a short life counts at the instant at which it began, so that windows side by side add up.
    """
    start = node.started_at
    end = max(start, node.ended_at or now)
    first = start if since is None else max(start, since)
    last = end if until is None else min(end, until)
    time = max(last - first, _NOTHING)
    if first == start and (until is None or start < until):
        time += max(minimum - (end - start), _NOTHING)
    return time


def seconds(time: timedelta) -> Decimal:
    """A duration in seconds, exactly."""
    return Decimal(time // _MICROSECOND).scaleb(-6, EXACT)


def exact(amount: float) -> Decimal:
    """The decimal that a number was written as: 55.04 and not 55.03999999999999914735."""
    return Decimal(str(amount))


def spent(hourly_cost: float, time: timedelta) -> Decimal:
    """USD per hour times seconds: what is paid in `time`, exactly, still to be divided by 3600."""
    return EXACT.multiply(exact(hourly_cost), seconds(time))


def per_hour(amount: Decimal) -> Decimal:
    """Divides by the seconds of an hour: makes USD of what is `spent`, hours of seconds. To 60 digits, which are not for show."""
    return EXACT.divide(amount, _HOUR)


def rounded(figure: Decimal) -> float:
    """A figure as it leaves: rounded half to even, to 6 digits."""
    return float(figure.quantize(_MILLIONTH, context=EXACT))


def minimums(session: "Session") -> Mapping[str, timedelta]:
    """Provider -> for how long it bills a node at least; a provider that is not installed any more is missing."""
    return {name: plugin.billing_minimum for name, plugin in session.plugins.items()}


def accrued(session: "Session", cluster_id: str) -> Decimal:
    """What a cluster has cost so far in USD."""
    now = session.clock.now()
    least = minimums(session)
    amount = Decimal(0)
    for node in session.ledger.nodes(cluster_id):
        time = billed(node, minimum=least.get(node.provider, _NOTHING), now=now)
        amount = EXACT.add(amount, spent(node.hourly_cost, time))
    return per_hour(amount)
