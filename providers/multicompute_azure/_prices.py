"""Reads today's prices from the Azure Retail Prices API, which needs no credentials."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.offer import Offer, Quote
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._errors import log
from multicompute_azure._names import plain_region
from multicompute_azure._session import Clients

_SOURCE: Final = "Azure Retail Prices API"
_OPERATION: Final = "retailPrices.list"
_AT_ONCE: Final = 4
# The same size is sold in these products for other prices. Newer series say "... Srs Win" in place of "Series Windows".
_OTHER_PRODUCT: Final = re.compile(r"\b(?:Windows|Win)$|Cloud ?Services|Dedicated Host", re.IGNORECASE)
# "Low Priority" belongs to Batch, and is not what a spot machine costs.
_SPOT: Final = re.compile(r"\bSpot$", re.IGNORECASE)
_LOW_PRIORITY: Final = re.compile(r"\bLow Priority$", re.IGNORECASE)

# A region and a size.
_Kind = tuple[str, str]


def quotes(clients: Clients, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
    """Return today's prices of `offers`; one that is not in the list, or that can't be read, is missing.

    Raises:
        MulticomputeError: None of them can be read.
    """
    if clients.prices_endpoint is None:
        return {}
    wanted = sorted(
        {(offer.region, offer.instance_type) for offer in offers if offer.purchase in ("on_demand", "spot")}
    )
    now = clients.clock.now()

    failures: list[MulticomputeError] = []

    def read(kind: _Kind) -> Mapping[str, float]:
        place = Place("azure", kind[0], instance_type=kind[1])
        try:
            return current_prices(clients.price_rows(_OPERATION, place, _filter(kind)), kind, now=now)
        except MulticomputeError as error:
            log.debug("%s: no price: %s", place, error.message)
            failures.append(error)
            return {}

    known = dict(zip(wanted, in_parallel(read, wanted, at_once=_AT_ONCE), strict=True))
    found = {}
    for offer in offers:
        price = known.get((offer.region, offer.instance_type), {}).get(offer.purchase)
        if price is not None:
            found[offer] = Quote(price, now.date(), _SOURCE)
    if failures and not found:
        raise failures[0]
    return found


def _filter(kind: _Kind) -> str:
    region, size = kind
    return (
        f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '{region}' "
        f"and armSkuName eq '{size}'"
    )


def current_prices(rows: Iterable[Mapping[str, Any]], kind: _Kind, *, now: datetime) -> Mapping[str, float]:
    """Return purchase type -> USD per hour of a size in a region, from rows of the price list.

    A size may have several rows that have begun; the one that began last holds. Rows that begin later do not hold yet.
    """
    latest: dict[str, tuple[datetime, float]] = {}
    for row in rows:
        purchase, since = _purchase(row, kind), _instant(row.get("effectiveStartDate"))
        price = float(row.get("retailPrice") or 0)
        # 0 is no price.
        if not purchase or since is None or since > now or price <= 0:
            continue
        if purchase not in latest or latest[purchase][0] < since:
            latest[purchase] = (since, price)
    return {purchase: price for purchase, (_, price) in latest.items()}


def _purchase(row: Mapping[str, Any], kind: _Kind) -> str:
    """Return how the machine of a row is bought; "" if it is another machine, or bought in another way."""
    is_other = (
        (plain_region(row.get("armRegionName")), str(row.get("armSkuName")).lower()) != (kind[0], kind[1].lower())
        or row.get("type") != "Consumption"
        or row.get("serviceName") != "Virtual Machines"
        or row.get("unitOfMeasure") != "1 Hour"
        or row.get("currencyCode") != "USD"
        # A later tier of a volume discount, which is not the price of the first machine.
        or float(row.get("tierMinimumUnits") or 0) > 0
        or _OTHER_PRODUCT.search(str(row.get("productName") or ""))
    )
    names = [str(row.get(name) or "") for name in ("skuName", "meterName")]
    if is_other or any(map(_LOW_PRIORITY.search, names)):
        return ""
    return "spot" if any(map(_SPOT.search, names)) else "on_demand"


def _instant(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else None
