"""The report of a refresh of the offer tables, by cloud."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from multicompute.offer import Purchase
from multicompute.price_feed import FailedRegion


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceMove:
    """A price that has changed.

    Attributes:
        instance_type, accelerators: The instance type, by name and accelerators per node.
        region, zones: Where it is sold. `zones` is empty if the cloud names none.
        purchase: How it is bought.
        before, after: USD per node-hour in the old tables and in the answer.
        is_accepted: Whether the tables now have the price `after`. A price that moved by more than half needs a second query that agrees.
    """

    instance_type: str
    accelerators: float
    region: str
    zones: tuple[str, ...]
    purchase: Purchase
    before: float
    after: float
    is_accepted: bool

    @property
    def ratio(self) -> float:
        """The new price divided by the old one."""
        return self.after / self.before

    def to_dict(self) -> dict[str, Any]:
        """Return the move as JSON-compatible values."""
        return {
            "instance_type": self.instance_type,
            "accelerators": self.accelerators,
            "region": self.region,
            "zones": list(self.zones),
            "purchase": self.purchase,
            "before_usd": self.before,
            "after_usd": self.after,
            "accepted": self.is_accepted,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudReport:
    """The result of a refresh for one cloud.

    Attributes:
        offers: The number of offers in its tables now, each zone counted.
        changed, added, removed: The number of prices that are others than before, new, and no longer in the tables.
        as_of: The date of the newest price; None if there is no price.
        failed: The regions whose old prices were kept because they could not be read; the region "" is the complete cloud.
        notes: What a user should know about the rest, in sentences.
        unreadable: What was wrong with rows of the vendor that could not be used, with an example -> the number of such rows.
        moves: The prices that changed, the largest changes first.
        calls: Operation -> the number of requests to the vendor.
        is_swapped: Whether there are new tables; False if they would be the same, or the cloud failed.
        seconds: How long it took.
    """

    offers: int = 0
    changed: int = 0
    added: int = 0
    removed: int = 0
    as_of: date | None = None
    failed: tuple[FailedRegion, ...] = ()
    notes: tuple[str, ...] = ()
    unreadable: Mapping[str, int] = field(default_factory=dict)
    moves: tuple[PriceMove, ...] = ()
    calls: Mapping[str, int] = field(default_factory=dict)
    is_swapped: bool = False
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """True if every region was read."""
        return not self.failed

    @property
    def call_count(self) -> int:
        """The number of requests to the vendor."""
        return sum(self.calls.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-compatible values. Of the moves, only those by more than half."""
        return {
            "offers": self.offers,
            "changed": self.changed,
            "added": self.added,
            "removed": self.removed,
            "as_of": self.as_of.isoformat() if self.as_of else None,
            "failed": [{"region": each.region, "error": each.error} for each in self.failed],
            "notes": list(self.notes),
            "unreadable": dict(self.unreadable),
            "moves": [move.to_dict() for move in self.moves if is_large(move.before, move.after)],
            "calls": dict(self.calls),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """The result of a refresh.

    Attributes:
        clouds: Cloud -> its report.
        path: The folder of the refreshed tables.

    Example:
        >>> from multicompute import catalog
        >>> report = catalog.refresh(clouds=["azure"], accelerators=["h100"])
        >>> print(report.clouds["azure"].changed, [each.error for each in report.clouds["azure"].failed])
    """

    clouds: Mapping[str, CloudReport]
    path: Path

    @property
    def ok(self) -> bool:
        """True if everything was read."""
        return all(report.ok for report in self.clouds.values())

    @property
    def errors(self) -> Iterator[tuple[str, FailedRegion]]:
        """Every region that failed, with its cloud."""
        return ((cloud, failed) for cloud, report in self.clouds.items() for failed in report.failed)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-compatible values."""
        return {
            "clouds": {cloud: report.to_dict() for cloud, report in self.clouds.items()},
            "path": str(self.path),
        }


def is_large(before: float, after: float) -> bool:
    """Return whether a price has moved by more than half, so that one query is not enough to believe it."""
    return not 0.5 * before <= after <= 1.5 * before
