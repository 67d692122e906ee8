"""Reads what needs an account: shapes of new sizes, and eviction rates of spot machines."""

import functools
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from multicompute.clock import Clock
from multicompute.errors import MulticomputeError
from multicompute.price_feed import Interruption, PriceQuery
from multicompute.provider_kit.vendor_errors import Place, one_line
from multicompute_azure._additions import Additions, about_unknown
from multicompute_azure._names import plain_region
from multicompute_azure._retries import Retries
from multicompute_azure._session import Clients
from multicompute_azure._settings import AzureSettings
from multicompute_azure._shapes import shape_of
from multicompute_azure._sizes import Sizes

GRAPH_OPERATION: Final = "resourceGraph.resources"
_SKUS: Final = "skus.list"
# Each answer has megabytes. The sizes that a few regions do not cover are found when they are sold in more.
_MOST_REGIONS: Final = 5
# "Use Azure Spot Virtual Machines" (learn.microsoft.com/azure/virtual-machines/spot-vms): the table, and that the rates are per hour, over
# the last 28 days. "Working with large Azure resource data sets": pages have 1,000 rows, and need the id among the columns. The rates are
# no one's resources, so the query names no subscription.
_RATES: Final = (
    "SpotResources | where type =~ 'microsoft.compute/skuspotevictionrate/location' "
    "| where sku.name in~ ({sizes}) | where location in~ ({regions}) "
    "| project id, skuName = tostring(sku.name), location, evictionRate = tostring(properties.evictionRate) | order by id asc"
)
_PAGE: Final = 1000
_RANGE: Final = re.compile(r"(?P<low>\d+(?:\.\d+)?)\s*%?\s*(?:-|–|to)\s*(?P<high>\d+(?:\.\d+)?)\s*%?")
_ABOVE: Final = re.compile(r"(?P<low>\d+(?:\.\d+)?)\s*%?\s*\+\s*%?")
_LINE: Final = 200


class Account:
    """The account of the settings. What it can't read is a note: prices need no account."""

    def __init__(self, settings: AzureSettings, clock: Clock, retries: Retries) -> None:
        """Read with the credentials in `settings`.

        Raises:
            AuthError: The settings name no subscription.
        """
        self._clients = Clients(settings, clock, step=timedelta(seconds=1))
        self._retries = retries

    def additions(self, query: PriceQuery, unknown: Mapping[str, Collection[str]]) -> Additions:
        """Return the shapes of the sizes in `unknown` (name -> regions that have a price), and the eviction rates of the wanted sizes."""
        found = Additions()
        self._add_types(query, unknown, found)
        self._add_rates(query, found)
        return found

    def _add_types(self, query: PriceQuery, unknown: Mapping[str, Collection[str]], found: Additions) -> None:
        rest, sizes, known = dict(unknown), Sizes(self._clients), [each.instance for each in query.types]
        try:
            for region in _covering(unknown):
                listed = self._retries.run(_SKUS, functools.partial(sizes.in_region, region))
                for name in [name for name in rest if name.lower() in listed]:
                    shape = shape_of(listed[name.lower()], known)
                    if shape is not None:
                        del rest[name]
                    if shape is not None and _is_wanted(shape.instance.accelerator, query):
                        found.types.append(shape)
        except MulticomputeError as error:
            found.notes.append(f"the shapes of new sizes could not be read: {one_line(error.message, _LINE)}")
        found.notes += about_unknown(rest)

    def _add_rates(self, query: PriceQuery, found: Additions) -> None:
        names = {each.instance.name.lower(): each.instance.name for each in (*query.types, *found.types)}
        regions = set(map(plain_region, query.regions))
        rates: list[Interruption] = []
        try:
            for row in self._graph(_rates_query(names, regions)) if names and regions else ():
                name, region = names.get(str(row.get("skuName")).lower()), plain_region(row.get("location"))
                if name is None or region not in regions:
                    continue
                limits = _limits(row.get("evictionRate"))
                if limits is None:
                    found.unreadable[f"an eviction rate is not a range ({name} in {region})"] += 1
                else:
                    rates.append(Interruption(name, region, *limits, period="hour"))
        except MulticomputeError as error:
            found.notes.append(f"the eviction rates of spot nodes could not be read: {one_line(error.message, _LINE)}")
            return
        found.interruptions = rates

    def _graph(self, text: str) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of a query to Resource Graph, page by page."""
        place, token = Place("azure"), ""
        while True:
            options = {"resultFormat": "objectArray", "$top": _PAGE, **({"$skipToken": token} if token else {})}
            document = {"query": text, "options": options}
            ask = functools.partial(self._clients.query_graph, GRAPH_OPERATION, place, document)
            page = self._retries.run(GRAPH_OPERATION, ask)
            yield from (row for row in page.get("data") or () if isinstance(row, dict))
            following = str(page.get("$skipToken") or "")
            if not following or following == token:
                return
            token = following


def _rates_query(names: Mapping[str, str], regions: Collection[str]) -> str:
    def texts(values: Collection[str]) -> str:
        return ", ".join(f"'{value}'" for value in sorted(values))

    return _RATES.format(sizes=texts(names), regions=texts(regions))


def _limits(rate: object) -> tuple[float, float] | None:
    """Return the limits of a rate such as "5-10" or "20+" as shares; None for anything else."""
    text = str(rate or "").strip()
    if found := _RANGE.fullmatch(text):
        low, high = float(found["low"]) / 100, float(found["high"]) / 100
    elif found := _ABOVE.fullmatch(text):
        low, high = float(found["low"]) / 100, 1.0
    else:
        return None
    return (low, high) if 0 <= low <= high <= 1 else None


def _is_wanted(accelerator: str, query: PriceQuery) -> bool:
    return query.accelerators is None or accelerator in query.accelerators


def _covering(unknown: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Yield a few regions which have the most of the sizes, the next of those that are left, and so on."""
    rest = dict(unknown)
    for _ in range(_MOST_REGIONS):
        counts = Counter(region for regions in rest.values() for region in regions)
        if not counts:
            return
        best = min(counts, key=lambda region: (-counts[region], region))
        yield best
        rest = {name: regions for name, regions in rest.items() if best not in regions}
