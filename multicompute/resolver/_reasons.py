"""The reasons for rejecting an offer, in the order of the checks, and how many offers each of them rejects."""

from typing import Final

from multicompute.plan import Rejection
from multicompute.plan_text import PURCHASE_WORDS
from multicompute.resolver._catalog_index import Row, Rows

WRONG_ACCELERATOR: Final = "wrong accelerator"
OTHER_TYPE: Final = "other instance type"
OTHER_CLOUD: Final = "cloud not asked for"
EXCLUDED_TYPE: Final = "instance type excluded"
RETIRED: Final = "retired"
FRACTION: Final = "fraction of an accelerator"
NO_ACCELERATORS: Final = "no accelerators"
PER_NODE: Final = "other number of accelerators per node"
TOO_FEW: Final = "too few accelerators for that many nodes"
SURPLUS: Final = "over a quarter more accelerators than asked for"
GPU_MEMORY: Final = "too little accelerator memory"
VCPUS: Final = "too few vCPUs"
MEMORY: Final = "too little memory"
TAGS: Final = "tags"
OTHER_REGION: Final = "region not asked for"
EXCLUDED_REGION: Final = "region excluded"
REGION_NOT_CONFIGURED: Final = "region not configured"
OTHER_ZONE: Final = "zone not asked for"
EXCLUDED_ZONE: Final = "zone excluded"
ZONE_NOT_CONFIGURED: Final = "zone not configured"
REGION_REFUSED: Final = "region not available to the account"
NOT_SOLD: Final = "not sold to the account there"
NO_IMAGE: Final = "no image for the region"
IMAGE_REQUIRED: Final = "no default image; name one with image="
ESTIMATE: Final = "price is an estimate"
NOT_RESERVED: Final = "not reserved"
OVER_MAX_PRICE: Final = "over max_price"
OVER_MAX_HOURLY: Final = "over max_hourly"
OVER_CEILING: Final = "over the configured max_hourly"
ENDS_EARLY: Final = "terminated before the ttl"
OUTAGE: Final = "outage"
NO_FABRIC: Final = "no fabric"

PURCHASES: Final = {purchase: f"{words} not asked for" for purchase, words in PURCHASE_WORDS.items()}
"""The reason for an offer whose purchase type the request does not allow."""

ORDER: Final = (
    *(WRONG_ACCELERATOR, OTHER_TYPE, OTHER_CLOUD, EXCLUDED_TYPE, RETIRED, FRACTION, NO_ACCELERATORS, PER_NODE, TOO_FEW),
    *(
        SURPLUS,
        GPU_MEMORY,
        VCPUS,
        MEMORY,
        TAGS,
        IMAGE_REQUIRED,
        *PURCHASES.values(),
        OTHER_REGION,
        OTHER_ZONE,
        EXCLUDED_REGION,
        EXCLUDED_ZONE,
    ),
    *(
        REGION_NOT_CONFIGURED,
        ZONE_NOT_CONFIGURED,
        REGION_REFUSED,
        NOT_SOLD,
        NO_IMAGE,
        ESTIMATE,
        NOT_RESERVED,
        OVER_MAX_PRICE,
        OVER_MAX_HOURLY,
        OVER_CEILING,
    ),
    *(ENDS_EARLY, OUTAGE, NO_FABRIC),
)
"""The order of the checks. An offer that fails several checks counts under the first."""

_EXAMPLES: Final = 3


class RejectionCounts:
    """Counts rejected offers by their first reason, except those that a gang of several parts uses."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._used: set[tuple[int, str]] = set()

    def use(self, row: Row, zone: str) -> None:
        """Exempt an offer that a candidate uses, even if it can't provide a complete gang."""
        self._used.add(_key(row, zone))

    def add_count(self, reason: str, count: int) -> None:
        """Reject `count` offers that were not read."""
        if count:
            self._counts[reason] = self._counts.get(reason, 0) + count

    def add_rows(self, reason: str, rows: Rows, detail: str = "") -> None:
        """Reject all offers of these lines, one by one only if a gang uses some offers; `detail` is added to the examples."""
        if self._used:
            for row in rows:
                self.add_row(reason, row, detail)
        else:
            self._add(reason, rows.offer_count, rows, detail=detail)

    def add_row(self, reason: str, row: Row, detail: str = "") -> None:
        """Reject all offers of one line; `detail` is added to the example."""
        if self._used:
            for zone in row.zones:
                self.add(reason, row, zone, detail)
        else:
            self._add(reason, len(row.zones), (row,), detail=detail)

    def add_zones(self, reason: str, row: Row, zones: tuple[str, ...]) -> None:
        """Reject the offers of one line in some of its zones."""
        if len(zones) == len(row.zones) or row.zones == ("",):
            self.add_row(reason, row)
        else:
            for zone in zones:
                self.add(reason, row, zone)

    def add(self, reason: str, row: Row, zone: str, detail: str = "") -> None:
        """Reject one offer; `detail` is added to the example."""
        key = _key(row, zone)
        if key in self._used:
            return
        if zone not in row.zones:
            # An offer without a zone counts once, although it is an offer in several zones.
            self._used.add(key)
        self._add(reason, 1, (row,), zone, detail)

    def _add(self, reason: str, count: int, rows: tuple[Row, ...], zone: str = "", detail: str = "") -> None:
        self._counts[reason] = self._counts.get(reason, 0) + count
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            suffix = f": {detail}" if detail else ""
            examples += [row.describe(zone) + suffix for row in rows[: _EXAMPLES - len(examples)]]

    def rejections(self) -> dict[str, Rejection]:
        """Return the counts in the order of the checks."""
        return {
            reason: Rejection(self._counts[reason], tuple(self._examples.get(reason, ())))
            for reason in ORDER
            if reason in self._counts
        }


def _key(row: Row, zone: str) -> tuple[int, str]:
    return id(row), zone if zone in row.zones else ""
