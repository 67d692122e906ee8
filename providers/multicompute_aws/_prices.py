"""Reads prices: on demand from the price list, spot and how it changes from the spot price history."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.offer import Offer, Quote
from multicompute.provider import PriceChange
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import log, member, translate_errors
from multicompute_aws._session import Clients

# The attributes of a plain Linux machine on shared hardware in the price list.
_LINUX_SHARED: Final = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}
_SPOT_PRODUCT: Final = "Linux/UNIX"


def quotes(clients: Clients, offers: Sequence[Offer], *, now: datetime) -> Mapping[Offer, Quote]:
    """Return today's prices of `offers`; one that AWS does not have, or that may not be read, is missing."""
    found: dict[Offer, Quote] = {}
    for (region, instance_type, purchase), group in _grouped(offers).items():
        place = Place("aws", region, instance_type=instance_type)
        try:
            if purchase == "spot":
                found |= _spot(clients, place, group, now)
            elif purchase == "on_demand":
                found |= _on_demand(clients, place, group, now)
        except MulticomputeError as error:
            log.debug("%s: no %s price: %s", place, purchase, error.message)
    return found


def _grouped(offers: Sequence[Offer]) -> dict[tuple[str, str, str], list[Offer]]:
    groups: dict[tuple[str, str, str], list[Offer]] = defaultdict(list)
    for offer in offers:
        groups[offer.region, offer.instance_type, offer.purchase].append(offer)
    return groups


def _on_demand(clients: Clients, place: Place, offers: list[Offer], now: datetime) -> dict[Offer, Quote]:
    wanted = {"instanceType": place.instance_type, "regionCode": place.region, **_LINUX_SHARED}
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    with translate_errors("GetProducts", place):
        answer = clients.pricing().get_products(ServiceCode="AmazonEC2", Filters=filters, MaxResults=100)
    prices = {price for item in member(answer, "PriceList", place) for price in hourly_prices(item)}
    if len(prices) != 1:
        # None, or several that differ in something that these filters do not cover: no price is better than a wrong one.
        return {}
    quote = Quote(prices.pop(), now.date(), "AWS price list")
    return dict.fromkeys(offers, quote)


def hourly_prices(item: str | Mapping[str, Any]) -> list[float]:
    """Return the on-demand prices in USD per hour of one item of the price list; a 0 there means "not sold" and is left out."""
    product: Mapping[str, Any] = json.loads(item) if isinstance(item, str) else item
    prices = []
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            price = float(dimension.get("pricePerUnit", {}).get("USD", 0))
            if dimension.get("unit") == "Hrs" and price > 0:
                prices.append(price)
    return prices


def _spot(clients: Clients, place: Place, offers: list[Offer], now: datetime) -> dict[Offer, Quote]:
    # A start of now gives the price that holds now, one entry for each zone.
    prices = {zone: changes[-1].hourly_cost for zone, changes in _history(clients, place, now, "").items()}
    source = "AWS spot price history"
    return {offer: Quote(prices[offer.zone], now.date(), source) for offer in offers if offer.zone in prices}


def spot_prices(
    clients: Clients, offers: Sequence[Offer], *, since: datetime
) -> Mapping[Offer, tuple[PriceChange, ...]]:
    """Return how the prices of spot offers have changed, see `Provider.spot_prices`."""
    groups: dict[tuple[str, str], list[Offer]] = defaultdict(list)
    for offer in offers:
        groups[offer.region, offer.instance_type].append(offer)
    found: dict[Offer, tuple[PriceChange, ...]] = {}
    for (region, instance_type), group in groups.items():
        zones = {offer.zone for offer in group}
        place = Place("aws", region, instance_type=instance_type, purchase="spot")
        # The history of a region is several times as long as that of one zone.
        history = _history(clients, place, since, zones.pop() if len(zones) == 1 else "")
        found |= {offer: history[offer.zone] for offer in group if offer.zone in history}
    return found


def _history(clients: Clients, place: Place, since: datetime, zone: str) -> dict[str, tuple[PriceChange, ...]]:
    """Return zone -> its spot prices since a time, oldest first; the first one holds at that time.

    "It also returns the last price change before the start time, which is the effective price as of the start time":
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html.
    """
    query: Any = {
        "InstanceTypes": [place.instance_type],
        "ProductDescriptions": [_SPOT_PRODUCT],
        "StartTime": since,
        **({"AvailabilityZone": zone} if zone else {}),
    }
    with translate_errors("DescribeSpotPriceHistory", place):
        pages = clients.ec2(place.region).get_paginator("describe_spot_price_history").paginate(**query)
        entries = [entry for page in pages for entry in page["SpotPriceHistory"]]
    found: dict[str, list[PriceChange]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry["Timestamp"]):
        change = PriceChange(max(entry["Timestamp"], since), float(entry["SpotPrice"]))
        changes = found[entry["AvailabilityZone"]]
        if changes and changes[-1].at == change.at:
            # Two changes before the start: the later one holds.
            changes.pop()
        changes.append(change)
    return {name: tuple(changes) for name, changes in found.items()}
