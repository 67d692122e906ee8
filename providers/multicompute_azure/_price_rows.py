"""Reads the rows of the Azure Retail Prices API: which of them a Linux machine is billed by, and which of those holds now.

The price list has other things for the same size, some of which look much alike. What they look like is known from readers of the list
(dstackai/gpuhunt, providers/azure.py; skypilot-org/skypilot, data_fetchers/fetch_azure.py; Azure/karpenter-provider-azure,
pkg/providers/pricing) and from the reference, "Azure Retail Prices REST API overview".
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from multicompute_azure._names import plain_region

Bought = Literal["on_demand", "spot"]

_SERVICE: Final = "virtual machines"
_HOUR: Final = ("1 hour", "1/hour")
# The same size is sold in these products for other prices. Newer series say "... Srs Win" in place of "Series Windows".
_OTHER_PRODUCT: Final = re.compile(r"\b(?:Windows|Win)\b|Cloud ?Services|Dedicated ?Host", re.IGNORECASE)
_SPOT: Final = re.compile(r"\bSpot\s*$", re.IGNORECASE)
# It belongs to Batch, and is not what a spot machine costs.
_LOW_PRIORITY: Final = re.compile(r"\bLow Priority\s*$", re.IGNORECASE)


class Key(NamedTuple):
    """The key of a price: a region, a size in lower case, and the purchase type."""

    region: str
    size: str
    purchase: Bought


class _Rank(NamedTuple):
    """The order of rows for the same machine: the one that began last holds, and of several the one of the primary meter."""

    since: datetime
    is_primary: bool


_NO_DATE: Final = datetime.min.replace(tzinfo=UTC)
_LOWEST: Final = _Rank(since=_NO_DATE, is_primary=False)


class CurrentPrices:
    """The prices that hold now, of the rows that were added.

    Attributes:
        unreadable: What was wrong with a row, with the first example -> the number of such rows.
        sizes: The sizes that a price was found for, by name in lower case, as the list spells them.
    """

    def __init__(self, now: datetime, is_wanted: Callable[[str, str], bool]) -> None:
        """Collect what holds at `now`.

        Args:
            now: The time.
            is_wanted: Gets a region and a size in lower case. Other rows are not read, so what is wrong with them does not count.
        """
        self.sizes: dict[str, str] = {}
        self._now = now
        self._is_wanted = is_wanted
        self._best: dict[Key, tuple[_Rank, float]] = {}
        self._unread: dict[Key, _Rank] = {}
        self._contradicted: dict[Key, _Rank] = {}
        self._problems: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    @property
    def unreadable(self) -> Mapping[str, int]:
        """The faults of rows, each with an example -> the number of rows."""
        return {f"{problem} ({self._examples[problem]})": count for problem, count in self._problems.items()}

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row: its price, nothing if a machine is not billed by it, or what is wrong with it."""
        if not row:
            self._count("a row is empty or no object", "without ids")
            return
        size = _text(row, "armSkuName")
        region = plain_region(row.get("armRegionName"))
        # Some products have no size.
        if not size or not self._is_wanted(region, size.lower()) or _is_other(row):
            return
        key = Key(region, size.lower(), "spot" if _ends(row, _SPOT) else "on_demand")
        since, price = _instant(row.get("effectiveStartDate")), _number(row.get("retailPrice"))
        # Rows that begin later do not hold yet, and some that held have an end.
        if since is not None and (since > self._now or _has_ended(row, self._now)):
            return
        rank = _Rank(since or _NO_DATE, row.get("isPrimaryMeterRegion") is not False)
        problem = _problem(row, since, price)
        if problem:
            # A row that is in another unit or currency says nothing about the prices of others.
            self._reject(problem, row, self._unread, key, rank if price is None or price < 0 else _LOWEST)
        elif price:
            self.sizes.setdefault(key.size, size)
            self._accept(key, rank, price, row)

    def prices(self) -> dict[Key, float]:
        """Return the prices in USD per hour; a price that a row raises doubts about is missing."""
        doubtful = self.doubtful()
        return {key: price for key, (_, price) in self._best.items() if key not in doubtful}

    def doubtful(self) -> frozenset[Key]:
        """Return what is sold, but for a price that can't be read or that two rows contradict each other about."""
        unread = (key for key, rank in self._unread.items() if key not in self._best or self._best[key][0] < rank)
        contradicted = (key for key, rank in self._contradicted.items() if self._best[key][0] == rank)
        return frozenset([*unread, *contradicted])

    def _accept(self, key: Key, rank: _Rank, price: float, row: Mapping[str, Any]) -> None:
        known = self._best.get(key)
        if known is None or known[0] < rank:
            self._best[key] = (rank, price)
        elif known[0] == rank and known[1] != price:
            problem = "the price differs from that of another row with the same date"
            self._reject(problem, row, self._contradicted, key, rank)

    def _reject(self, problem: str, row: Mapping[str, Any], doubts: dict[Key, _Rank], key: Key, rank: _Rank) -> None:
        self._count(problem, _label(row))
        doubts[key] = max(rank, doubts.get(key, rank))

    def _count(self, problem: str, example: str) -> None:
        self._problems[problem] += 1
        self._examples.setdefault(problem, example)


def _is_other(row: Mapping[str, Any]) -> bool:
    """Return whether a row is about something that no Linux machine is billed by when it is bought by the hour."""
    return (
        # DevTestConsumption, and Reservation, whose price is for its whole term. A savings plan is a list inside of a Consumption row.
        _text(row, "type").lower() not in ("consumption", "")
        or bool(_text(row, "reservationTerm"))
        or _text(row, "serviceName").lower() not in (_SERVICE, "")
        or bool(_OTHER_PRODUCT.search(_text(row, "productName")))
        or _ends(row, _LOW_PRIORITY)
        # A later tier of a volume discount, which is not the price of the first machine.
        or (_number(row.get("tierMinimumUnits")) or 0) > 0
        # Zero is no price.
        or _number(row.get("retailPrice")) == 0
    )


def _problem(row: Mapping[str, Any], since: datetime | None, price: float | None) -> str:
    """Return why the price of a row can't be read, "" if it can."""
    for name in ("type", "serviceName", "productName"):
        if not _text(row, name):
            return f"{name} is missing"
    if not _text(row, "skuName") and not _text(row, "meterName"):
        return "skuName and meterName are missing, one of which says whether it is spot"
    if _number(row.get("tierMinimumUnits") or 0) is None:
        return "tierMinimumUnits is not a number"
    if _text(row, "currencyCode").upper() != "USD":
        return f"currencyCode is {_text(row, 'currencyCode') or 'missing'} and not USD"
    if _text(row, "unitOfMeasure").lower() not in _HOUR:
        return f"unitOfMeasure is {_text(row, 'unitOfMeasure') or 'missing'} and not 1 Hour"
    if price is None or price < 0:
        return "retailPrice is not a positive number"
    return "" if since is not None else "effectiveStartDate is not a time"


def _ends(row: Mapping[str, Any], pattern: re.Pattern[str]) -> bool:
    return any(pattern.search(_text(row, name)) for name in ("skuName", "meterName"))


def _label(row: Mapping[str, Any]) -> str:
    """Return the ids of a row, by which the vendor finds it."""
    ids = [f"{name} {_text(row, name)}" for name in ("meterId", "skuId") if _text(row, name)]
    return ", ".join([*ids, f"{_text(row, 'armSkuName')} in {plain_region(row.get('armRegionName'))}"])[:200]


def _text(row: Mapping[str, Any], name: str) -> str:
    found = row.get(name)
    return found.strip() if isinstance(found, str) else ""


def _number(value: object) -> float | None:
    """Return a finite number, also from a text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _has_ended(row: Mapping[str, Any], now: datetime) -> bool:
    end = _instant(row.get("effectiveEndDate"))
    return end is not None and end <= now


def _instant(value: object) -> datetime | None:
    """Return a time, in UTC where it says nothing else; None for anything else."""
    try:
        found = datetime.fromisoformat(value.strip()) if isinstance(value, str) else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
