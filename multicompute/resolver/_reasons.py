"""Why offers are left out: the reasons, in the order in which they are looked at, and the count of each."""

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
GPU_MEMORY: Final = "too little accelerator memory"
VCPUS: Final = "too few vCPUs"
MEMORY: Final = "too little memory"
OTHER_REGION: Final = "region not asked for"
EXCLUDED_REGION: Final = "region excluded"
REGION_NOT_CONFIGURED: Final = "region not configured"
ESTIMATE: Final = "price is an estimate"
OVER_MAX_PRICE: Final = "over max_price"
OVER_MAX_HOURLY: Final = "over max_hourly"
OUTAGE: Final = "outage"
NO_FABRIC: Final = "no fabric"

PURCHASES: Final = {purchase: f"{words} not asked for" for purchase, words in PURCHASE_WORDS.items()}
"""The reason for an offer that is bought in a way that the spec does not allow."""

ORDER: Final = (
    *(WRONG_ACCELERATOR, OTHER_TYPE, OTHER_CLOUD, EXCLUDED_TYPE, RETIRED, FRACTION, NO_ACCELERATORS, PER_NODE, TOO_FEW),
    *(GPU_MEMORY, VCPUS, MEMORY, *PURCHASES.values(), OTHER_REGION, EXCLUDED_REGION, REGION_NOT_CONFIGURED, ESTIMATE),
    *(OVER_MAX_PRICE, OVER_MAX_HOURLY, OUTAGE, NO_FABRIC),
)
"""The order of the checks: an offer that fails several counts under the first."""

_EXAMPLES: Final = 3


class RejectionCounts:
    """Counts offers by their first reason, except those that a gang of several offers uses after all."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._used: set[tuple[int, str]] = set()

    def use(self, row: Row, zone: str) -> None:
        """Count this offer as part of a candidate, whatever is said against buying the whole gang from it."""
        self._used.add((id(row), zone))

    def add_count(self, reason: str, count: int) -> None:
        """Leave out offers that were not read."""
        if count:
            self._counts[reason] = self._counts.get(reason, 0) + count

    def add_rows(self, reason: str, rows: Rows) -> None:
        """Leave out all offers of these lines; without looking at each, unless a gang uses one."""
        if self._used:
            for row in rows:
                self.add_row(reason, row)
            return
        self._counts[reason] = self._counts.get(reason, 0) + rows.offer_count
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples += [row.describe("") for row in rows[: _EXAMPLES - len(examples)]]

    def add_row(self, reason: str, row: Row) -> None:
        """Leave out all offers of one line."""
        if self._used:
            for zone in row.zones:
                self.add(reason, row, zone)
            return
        self._counts[reason] = self._counts.get(reason, 0) + len(row.zones)
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(row.describe(""))

    def add(self, reason: str, row: Row, zone: str, detail: str = "") -> None:
        """Leave out one offer; `detail` says more about this one."""
        if (id(row), zone) in self._used:
            return
        self._counts[reason] = self._counts.get(reason, 0) + 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(row.describe(zone) + (f": {detail}" if detail else ""))

    def rejections(self) -> dict[str, Rejection]:
        """The counts, in the order of the checks."""
        return {
            reason: Rejection(self._counts[reason], tuple(self._examples.get(reason, ())))
            for reason in ORDER
            if reason in self._counts
        }
