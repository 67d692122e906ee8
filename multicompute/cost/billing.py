"""Computes what nodes cost: by the second, at their purchase price, and for at least the billing minimum.

Sums are exact. A price times seconds is a finite decimal, so these products are added up (`spent`, in USD per hour times
seconds). The division by 3600 may not terminate, so it is made once, by `per_hour`. Figures are rounded, half to even and to
6 digits, only when they are shown.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Final

from multicompute.ledger.records import NodeRecord

if TYPE_CHECKING:
    from multicompute.session import Session

# A float has at most 17 digits, and a year in microseconds has 14. The other digits are for sums of very large and very small prices.
EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_MICROSECOND: Final = timedelta(microseconds=1)
_NOTHING: Final = timedelta(0)
_HOUR: Final = Decimal(3600)
_MILLIONTH: Final = Decimal("0.000001")


def billed(
    node: NodeRecord, *, minimum: timedelta, now: datetime, since: datetime | None = None, until: datetime | None = None
) -> timedelta:
    """Return for how long a node is billed from `since` up to, but not including, `until`.

    Time that the billing minimum adds to a short life counts at the start of the node, so that adjacent windows add up.
    """
    start = node.started_at
    end = max(start, node.ended_at or now)
    first = start if since is None else max(start, since)
    last = end if until is None else min(end, until)
    time = max(last - first, _NOTHING) - _stopped(node, first, last)
    if first == start and (until is None or start < until):
        time += max(minimum - (end - start - _stopped(node, start, end)), _NOTHING)
    return time


def _stopped(node: NodeRecord, first: datetime, last: datetime) -> timedelta:
    """Return for how long a node was stopped in an interval: clouds do not bill a stopped machine."""
    stops = (min(stop.end or last, last) - max(stop.start, first) for stop in node.stops if not stop.is_billed)
    return sum((time for time in stops if time > _NOTHING), _NOTHING)


def price_windows(
    node: NodeRecord, since: datetime | None = None, until: datetime | None = None
) -> Iterator[tuple[float, datetime | None, datetime | None]]:
    """Yield the prices of a node in a window, each with the part of the window in which it holds."""
    if not node.prices:
        yield node.hourly_cost, since, until
        return
    ends = [price.at for price in node.prices[1:]]
    for price, start, end in zip(node.prices, [None, *ends], [*ends, None], strict=True):
        first = since if start is None else start if since is None else max(since, start)
        last = until if end is None else end if until is None else min(until, end)
        if first is None or last is None or first < last:
            yield price.hourly_cost, first, last


def seconds(time: timedelta) -> Decimal:
    """Return a duration in seconds, exactly."""
    return Decimal(time // _MICROSECOND).scaleb(-6, EXACT)


def exact(amount: float) -> Decimal:
    """Return the decimal that a number was written as: 55.04 and not 55.03999999999999914735."""
    return Decimal(str(amount))


def spent(hourly_cost: float, time: timedelta) -> Decimal:
    """Return USD per hour times seconds, exactly; `per_hour` turns it into USD."""
    return EXACT.multiply(exact(hourly_cost), seconds(time))


def per_hour(amount: Decimal) -> Decimal:
    """Divide by the seconds of an hour, to 60 digits: turn what is `spent` into USD, or seconds into hours."""
    return EXACT.divide(amount, _HOUR)


def rounded(figure: Decimal) -> float:
    """Return a figure as it is shown: rounded half to even, to 6 digits."""
    return float(figure.quantize(_MILLIONTH, context=EXACT))


def minimums(session: "Session") -> Mapping[str, timedelta]:
    """Return the shortest time that each installed provider bills for a node, by provider."""
    return {name: plugin.billing_minimum for name, plugin in session.plugins.items()}


def cost_of(nodes: Iterable[NodeRecord], *, minimums: Mapping[str, timedelta], now: datetime) -> Decimal:
    """Return what nodes have cost so far, in USD."""
    amount = Decimal(0)
    for node in nodes:
        minimum = minimums.get(node.provider, _NOTHING)
        for price, since, until in price_windows(node):
            time = billed(node, minimum=minimum, now=now, since=since, until=until)
            amount = EXACT.add(amount, spent(price, time))
    return per_hour(amount)


def hourly_cost_of(nodes: Iterable[NodeRecord]) -> Decimal:
    """Return the price of the live nodes, in USD per hour."""
    total = Decimal(0)
    for node in nodes:
        if node.is_machine_billed:
            total = EXACT.add(total, exact(node.hourly_cost))
    return total


def accrued(session: "Session", cluster_id: str) -> Decimal:
    """Return what a cluster has cost so far, in USD."""
    return cost_of(session.ledger.nodes(cluster_id), minimums=minimums(session), now=session.clock.now())
