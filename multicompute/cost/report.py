"""Reports what clusters have cost, by cluster, owner, cloud, day or tag, and what live ones will cost.

Costs are exact sums of price times seconds, in Decimal. They are rounded half to even, to 6 digits, only when they are shown. So the
rows of a report add up to its total, and a rounded row differs from it by at most half a millionth of a dollar.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import reduce
from typing import Final, NamedTuple

from multicompute.cost.billing import EXACT, billed, exact, minimums, per_hour, price_windows, rounded, seconds, spent
from multicompute.cost.days import find_timezone, midnight
from multicompute.cost.forecast import Account, Forecast, forecasts
from multicompute.errors import ClusterNotFound, SpecError
from multicompute.ledger.records import ClusterRecord, NodeRecord
from multicompute.session import Session
from multicompute.units import format_instant, parse_duration
from multicompute.validation import did_you_mean

GROUPS: Final = ("cluster", "owner", "cloud", "day")
_TAG: Final = "tag:"
_NOTHING: Final = Decimal(0)
_DAY: Final = timedelta(days=1)


Rate = tuple[float, float, float]
"""The price of a node in USD per hour, the same without a discount, and its accelerators."""


class Entry(NamedTuple):
    """The time for which one node is billed at one price in the period, or on one day of the period.

    Attributes:
        cluster, node: What is billed.
        hourly_cost: The price in this time, in USD per hour.
        list_hourly_cost: The same without a discount.
        time: The billed time.
        day: The day, None if the entry is for the period.
    """

    cluster: ClusterRecord
    node: NodeRecord
    hourly_cost: float
    list_hourly_cost: float
    time: timedelta
    day: date | None = None


@dataclass(frozen=True, slots=True)
class CostRow:
    """A row of a report.

    Attributes:
        group: A cluster's name, an owner, a provider, a day or the value of a tag; None for clusters without the tag.
        node_seconds: Billed time of all nodes.
        accelerator_seconds: The same, times the accelerators of each node.
        spent: USD per hour times seconds, exact; `cost` is the same in USD.
        list_spent: The same at the prices without discounts; `list_cost` is the same in USD.
    """

    group: str | None
    node_seconds: Decimal = _NOTHING
    accelerator_seconds: Decimal = _NOTHING
    spent: Decimal = _NOTHING
    list_spent: Decimal = _NOTHING

    @property
    def cost(self) -> Decimal:
        """USD, not rounded."""
        return per_hour(self.spent)

    @property
    def list_cost(self) -> Decimal:
        """USD without discounts, not rounded."""
        return per_hour(self.list_spent)

    @property
    def node_hours(self) -> Decimal:
        """Billed hours of all nodes."""
        return per_hour(self.node_seconds)

    @property
    def accelerator_hours(self) -> Decimal:
        """Billed hours of all accelerators."""
        return per_hour(self.accelerator_seconds)

    def plus(self, other: "CostRow") -> "CostRow":
        """Return the exact sum of two rows, with the group of this one."""
        return CostRow(
            self.group,
            EXACT.add(self.node_seconds, other.node_seconds),
            EXACT.add(self.accelerator_seconds, other.accelerator_seconds),
            EXACT.add(self.spent, other.spent),
            EXACT.add(self.list_spent, other.list_spent),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form, rounded half to even to 6 digits."""
        return {
            "group": self.group,
            "node_hours": rounded(self.node_hours),
            "accelerator_hours": rounded(self.accelerator_hours),
            "cost_usd": rounded(self.cost),
            "list_cost_usd": rounded(self.list_cost),
        }


@dataclass(frozen=True, slots=True)
class CostReport:
    """The cost of clusters in a period, and a forecast.

    Attributes:
        by: How rows are grouped: "cluster", "owner", "cloud", "day" or "tag:KEY".
        timezone: The time zone in which days begin and end, None if rows are not days.
        since: The beginning of the period; None for the beginning of the ledger.
        until: The end of the period, which is now.
        rows: The most expensive first; days in their order.
        total: The sum of all rows.
        forecasts: One for each live cluster, from its beginning to its end, whatever the period is.
    """

    by: str
    timezone: str | None
    since: datetime | None
    until: datetime
    rows: tuple[CostRow, ...]
    total: CostRow
    forecasts: tuple[Forecast, ...]

    @property
    def has_discount(self) -> bool:
        """True if any cost contains a discount."""
        return self.total.list_spent != self.total.spent

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form that `multicompute cost --json` prints."""
        return {
            "by": self.by,
            "timezone": self.timezone,
            "since": format_instant(self.since) if self.since else None,
            "until": format_instant(self.until),
            "rows": [row.to_dict() for row in self.rows],
            "total": {key: value for key, value in self.total.to_dict().items() if key != "group"},
            "forecasts": [forecast.to_dict() for forecast in self.forecasts],
        }

    def _repr_html_(self) -> str:
        from multicompute.cost.text import render_html

        return render_html(self)


def report(
    session: Session,
    *,
    since: str | timedelta | None = None,
    by: str = "cluster",
    name: str | None = None,
    timezone: str | None = None,
) -> CostReport:
    """Report what clusters have cost, by the second, at the prices at which their nodes were bought; calls no cloud.

    Args:
        session: The ledger.
        since: The length of the period until now, "30d" or a timedelta; since the beginning if left out.
        by: "cluster", "owner", "cloud", "day" or "tag:KEY".
        name: Only this cluster: the live one of this name or id, else the last one that had it.
        timezone: With by="day", the time zone in which days begin and end, such as "Europe/Berlin"; UTC if left out, as on
            the bills of the clouds.

    Raises:
        SpecError: `since` is no duration, `by` is none of these, `timezone` is no time zone, or it is given without days.
        ClusterNotFound: No cluster ever had this name.
    """
    check_group(by)
    if timezone is not None and by != "day":
        raise SpecError(f"by={by!r} has no days, so timezone={timezone!r} means nothing; write by='day'")
    zone, zone_name = find_timezone(timezone)
    now = session.clock.now()
    start = _start(now, since)
    accounts = _accounts(session, start, name)
    least = minimums(session)
    days = zone if by == "day" else None
    rows = rows_of(entries(accounts, minimums=least, now=now, since=start, days=days), by=by)
    return CostReport(
        by=by,
        timezone=zone_name if by == "day" else None,
        since=start,
        until=now,
        rows=rows,
        total=reduce(CostRow.plus, rows, CostRow("total")),
        forecasts=forecasts(accounts, minimums=least, now=now),
    )


def entries(
    accounts: Iterable[Account],
    *,
    minimums: Mapping[str, timedelta],
    now: datetime,
    since: datetime | None = None,
    days: tzinfo | None = None,
) -> Iterator[Entry]:
    """Yield what each node is billed for from `since` to `now`; with `days`, one entry for each day in that time zone."""
    for cluster, nodes in accounts:
        for node in nodes:
            minimum = minimums.get(node.provider, timedelta(0))
            windows = [(None, since, None)] if days is None else _days(node, now, since, days)
            for day, start, end in windows:
                for price, listed, first, last in price_windows(node, start, end):
                    duration = billed(node, minimum=minimum, now=now, since=first, until=last)
                    if duration:
                        yield Entry(cluster, node, price, listed, duration, day)


def rows_of(every: Iterable[Entry], *, by: str) -> tuple[CostRow, ...]:
    """Return the entries added up by group.

    Raises:
        SpecError: `by` is not a known grouping.
    """
    check_group(by)
    key = _key(by)
    # Times of nodes with the same price are added up first: many nodes on many days have few different prices to multiply.
    times: dict[object, dict[Rate, timedelta]] = {}
    names: dict[str, str] = {}
    for entry in every:
        of_group = times.setdefault(key(entry), {})
        rate = (entry.hourly_cost, entry.list_hourly_cost, entry.node.accelerators)
        of_group[rate] = of_group.get(rate, timedelta(0)) + entry.time
        names[entry.cluster.id] = entry.cluster.name
    rows = [_row(None if group is None else str(group), of_group) for group, of_group in times.items()]
    if by == "day":
        return tuple(sorted(rows, key=lambda row: row.group or ""))
    named = _named(rows, names) if by == "cluster" else rows
    return tuple(sorted(named, key=lambda row: (-row.spent, row.group or "")))


def check_group(by: str) -> None:
    """Raise if `by` is not a known grouping.

    Raises:
        SpecError: It is not; the message names the nearest one.
    """
    if by in GROUPS or (by.startswith(_TAG) and by != _TAG):
        return
    question = did_you_mean(by, GROUPS)
    raise SpecError(
        f"by={by!r}: unknown grouping" + (f"; {question}" if question else ""),
        hint=f"known are {', '.join(GROUPS)} and tag:KEY",
    )


def _start(now: datetime, since: str | timedelta | None) -> datetime | None:
    if since is None:
        return None
    try:
        return now - parse_duration(since, what="since")
    except OverflowError:
        # Before year 1: from the start of the ledger.
        return None


def _accounts(session: Session, since: datetime | None, name: str | None) -> list[Account]:
    if not session.has_ledger:
        if name is not None:
            raise ClusterNotFound(f"{name}: no cluster of this name", hint="`multicompute ls --all` lists all clusters")
        return []
    cluster_id = None if name is None else session.ledger.find(name).id
    return [*session.ledger.spending(since=since, cluster_id=cluster_id)]


def _days(
    node: NodeRecord, now: datetime, since: datetime | None, zone: tzinfo
) -> Iterator[tuple[date, datetime | None, datetime]]:
    """Yield the days on which a node lived, each with the part of it from `since` on."""
    first = node.started_at if since is None else max(since, node.started_at)
    last = max(node.started_at, node.ended_at or now)
    day = first.astimezone(zone).date()
    start = midnight(day, zone)
    while start <= last:
        end = midnight(day + _DAY, zone)
        yield day, start if since is None else max(since, start), end
        day, start = day + _DAY, end


def _key(by: str) -> Callable[[Entry], object]:
    if by.startswith(_TAG):
        tag = by.removeprefix(_TAG)
        return lambda entry: _tags(entry.cluster).get(tag)
    return {
        "cluster": lambda entry: entry.cluster.id,
        "owner": lambda entry: entry.cluster.owner,
        "cloud": lambda entry: entry.node.provider,
        "day": lambda entry: entry.day,
    }[by]


def _tags(cluster: ClusterRecord) -> Mapping[str, str]:
    tags = cluster.spec.get("tags")
    return tags if isinstance(tags, Mapping) else {}


def _row(group: str | None, times: Mapping[Rate, timedelta]) -> CostRow:
    row = CostRow(group)
    for (hourly_cost, list_hourly_cost, accelerators), duration in times.items():
        there = seconds(duration)
        cost = spent(hourly_cost, duration)
        listed = cost if list_hourly_cost == hourly_cost else spent(list_hourly_cost, duration)
        row = row.plus(CostRow(None, there, EXACT.multiply(exact(accelerators), there), cost, listed))
    return row


def _named(rows: Iterable[CostRow], names: Mapping[str, str]) -> list[CostRow]:
    """Return the rows with the names of clusters as groups. The id follows a name that several clusters have had."""
    uses = Counter(names.values())
    labels = {id: name if uses[name] == 1 else f"{name} ({id})" for id, name in names.items()}
    return [replace(row, group=labels[row.group or ""]) for row in rows]
