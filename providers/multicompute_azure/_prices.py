"""Reads today's prices of offers before a launch, from the Azure Retail Prices API, which needs no credentials."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from multicompute.errors import MulticomputeError
from multicompute.offer import Offer, Quote
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._errors import log
from multicompute_azure._price_list import SOURCE, PriceList
from multicompute_azure._price_rows import CurrentPrices

if TYPE_CHECKING:
    from multicompute_azure._session import Clients

_AT_ONCE: Final = 4

# A region and a size.
Kind = tuple[str, str]


def quotes(clients: "Clients", offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
    """Return today's prices of `offers`; one that is not in the list, or that can't be read, is missing.

    Raises:
        MulticomputeError: None of them can be read.
    """
    prices = clients.price_list
    if prices is None:
        return {}
    wanted = sorted(
        {(offer.region, offer.instance_type) for offer in offers if offer.purchase in ("on_demand", "spot")}
    )
    now = clients.clock.now()

    failures: list[MulticomputeError] = []

    def read(kind: Kind) -> Mapping[str, float]:
        try:
            return machine_prices(prices, kind, now=now)
        except MulticomputeError as error:
            log.debug("%s %s: no price: %s", *kind, error.message)
            failures.append(error)
            return {}

    known = dict(zip(wanted, in_parallel(read, wanted, at_once=_AT_ONCE), strict=True))
    found = {}
    for offer in offers:
        price = known.get((offer.region, offer.instance_type), {}).get(offer.purchase)
        if price is not None:
            found[offer] = Quote(price, now.date(), SOURCE)
    if failures and not found:
        raise failures[0]
    return found


def machine_prices(prices: PriceList, kind: Kind, *, now: datetime, version: str = "") -> Mapping[str, float]:
    """Return purchase type -> USD per hour of a size in a region, by a query for this machine only.

    Raises:
        MulticomputeError: The list can't be read.
    """
    region, size = kind
    text = (
        f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '{region}' "
        f"and armSkuName eq '{size}'"
    )
    return current_prices(prices.rows(Place("azure", region, instance_type=size), text, version=version), kind, now=now)


def current_prices(rows: Iterable[Mapping[str, Any]], kind: Kind, *, now: datetime) -> Mapping[str, float]:
    """Return purchase type -> USD per hour of a size in a region, from rows of the price list; see `CurrentPrices`."""
    wanted = (kind[0], kind[1].lower())
    found = CurrentPrices(now, lambda region, size: (region, size) == wanted)
    for row in rows:
        found.add(row)
    return {key.purchase: price for key, price in found.prices().items()}
