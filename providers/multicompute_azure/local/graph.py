"""Azure Resource Graph, of which the local Azure has one table: the eviction rates of spot machines."""

import re
import zlib
from collections.abc import Mapping
from typing import Final

from multicompute_azure.local.arm import ArmError, ArmResponse, Json
from multicompute_azure.local.routes import Call, Handler
from multicompute_azure.local.state import State

# "Use Azure Spot Virtual Machines" (learn.microsoft.com/azure/virtual-machines/spot-vms) has the table and the ranges.
RATES: Final = ("0-5", "5-10", "10-15", "15-20", "20+")
_TABLE: Final = re.compile(r"\s*spotresources\s*\|", re.IGNORECASE)
_TYPE: Final = re.compile(
    r"where\s+type\s*=~\s*['\"]microsoft\.compute/skuspotevictionrate/location['\"]", re.IGNORECASE
)
_LIST: Final = r"where\s+{}\s+in~\s*\(([^)]*)\)"
_MOST: Final = 1000


class Graph:
    """The handler of Resource Graph's queries."""

    def __init__(self, state: State) -> None:
        """Answer from the sizes and the rates in `state`."""
        self._state = state

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {"resourceGraph.resources": self._query}

    def _query(self, call: Call) -> ArmResponse:
        text, options = call.document.get("query"), call.document.get("options") or {}
        if not isinstance(text, str) or not isinstance(options, dict):
            raise ArmError("BadRequest", "The request body must have a query, and its options must be an object.")
        if not _TABLE.match(text) or not _TYPE.search(text):
            raise ArmError("BadRequest", "The local Azure has the eviction rates of SpotResources only.")
        if call.document.get("subscriptions") or call.document.get("managementGroups"):
            # The rates belong to no subscription.
            return _page([], 0, "")
        top, token = options.get("$top", _MOST), str(options.get("$skipToken") or "0")
        if not isinstance(top, int) or not 0 < top <= _MOST or not token.isdigit():
            raise ArmError("BadRequest", f"$top must be 1 to {_MOST}, and $skipToken a token of an answer.")
        rows = self._rows(_listed(text, r"sku\.name"), _listed(text, "location"))
        first, last = int(token), int(token) + top
        # "Working with large Azure resource data sets": without the id among the columns there is no token.
        has_id = re.search(r"\bproject\b[^|]*\bid\b", text, re.IGNORECASE) is not None
        return _page(rows[first:last], len(rows), str(last) if last < len(rows) and has_id else "")

    def _rows(self, sizes: set[str], regions: set[str]) -> list[Json]:
        found = []
        for size in self._state.sizes().values():
            for region in size.spot_prices:
                name = size.name.lower()
                if (sizes and name not in sizes) or (regions and region not in regions):
                    continue
                rate = (
                    self._state.eviction_rates.get((region, size.name)) or RATES[zlib.crc32(name.encode()) % len(RATES)]
                )
                path = f"/providers/Microsoft.Compute/skuSpotEvictionRate/{name}/location/{region}"
                found.append({"id": path, "skuName": name, "location": region, "evictionRate": rate})
        return sorted(found, key=lambda row: row["id"])


def _page(rows: list[Json], total: int, token: str) -> ArmResponse:
    document: Json = {
        "totalRecords": total,
        "count": len(rows),
        "data": rows,
        "facets": [],
        "resultTruncated": "true" if token else "false",
    }
    return ArmResponse(200, {**document, "$skipToken": token} if token else document)


def _listed(text: str, name: str) -> set[str]:
    found = re.search(_LIST.format(name), text, re.IGNORECASE)
    return {value.lower() for value in re.findall(r"['\"]([^'\"]*)['\"]", found[1])} if found else set()
