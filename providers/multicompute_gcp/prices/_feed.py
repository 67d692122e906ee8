"""The price feed: reads the SKUs of the Cloud Billing Catalog, and composes the prices of machine types and TPU slices of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Any, Final

from multicompute.clock import Clock, SystemClock
from multicompute.errors import AuthError
from multicompute.offer import InstanceType, Purchase
from multicompute.price_feed import FoundPrices, Price, PricedType, PriceKey, PriceQuery
from multicompute.provider import Settings
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.endpoints import is_loopback
from multicompute_gcp._session import Clients
from multicompute_gcp._settings import GcpSettings
from multicompute_gcp.prices._billing import SIGN_IN, Billing
from multicompute_gcp.prices._confirm import by_sku
from multicompute_gcp.prices._places import packaged
from multicompute_gcp.prices._progress import Progress
from multicompute_gcp.prices._rates import OLD_TPUS, OWN_SSDS, Composed, Part, Rates, is_unknown, parts_of
from multicompute_gcp.prices._reader import Reading, rates_of, read_skus, services_of, unreadable_of
from multicompute_gcp.prices._sold import Sold, read_sold

_PURCHASES: Final[tuple[Purchase, ...]] = ("on_demand", "spot", "flex_start")
_EXAMPLES: Final = 3


@dataclass(slots=True)
class _Priced:
    """The prices of a query, and those that could not be composed with what was missing."""

    prices: list[Price] = field(default_factory=list)
    composed: dict[PriceKey, Composed] = field(default_factory=dict)
    incomplete: dict[PriceKey, str] = field(default_factory=dict)


class GcpPriceFeed:
    """The prices of Google Cloud; see `multicompute.price_feed.PriceFeed`.

    The API has no filter, so each service is listed completely: 7 pages for Compute Engine and one for Cloud TPU, at the same time.

    Raises:
        AuthError: There is neither an API key nor are there credentials.
        ConfigError: A setting is malformed.
    """

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        read = GcpSettings.of(settings)
        found = read.configured()
        if read.api_key is None and not found.ok and not is_loopback(read.billing_endpoint):
            raise AuthError(f"gcp: {found.why}, and no API key for the price list", provider="gcp", hint=SIGN_IN)
        self._clock = clock or SystemClock()
        self._clients = Clients(read)
        self._asks_compute = found.ok and not read.is_mixed
        self._composed: dict[PriceKey, Composed] = {}
        self._parts: dict[tuple[str, str, float], tuple[Part, ...]] = {}

    def fetch(self, query: PriceQuery, *, progress: Callable[[float], None]) -> FoundPrices:
        """Fetch today's prices; see `PriceFeed.fetch`.

        Raises:
            MulticomputeError: One of the price lists could not be read to its end. Nothing is concluded from a part of it.
        """
        billing = Billing(self._clients, self._clock)
        needed = {component for one in query.types for component, _ in parts_of(one.instance)} | OWN_SSDS
        services = services_of(needed)
        steps = Progress(progress, services)
        sold, readings = self._read(query, billing, needed, services, steps)
        rates = rates_of(readings)
        found = _priced(query, sold, rates, self._clock.now().date())
        self._composed = found.composed
        self._parts = {_key(one.instance): sold.parts(one.instance) for one in sold.known}
        progress(1.0)
        seen = {pair for reading in readings for pair in reading.seen if pair[0] in set(query.regions)}
        return FoundPrices(
            prices=found.prices,
            answered=frozenset(seen),
            incomplete=frozenset(found.incomplete),
            types=sold.changed,
            unreadable=unreadable_of(readings),
            notes=(*sold.notes, *_note(found)),
            calls={**billing.calls, **sold.calls},
        )

    def _read(
        self, query: PriceQuery, billing: Billing, needed: set[str], services: Sequence[str], steps: Progress
    ) -> tuple[Sold, list[Reading]]:
        """Read the price lists and what is sold, at the same time."""
        clients = self._clients if self._asks_compute else None

        def places() -> Sold:
            sold = read_sold(clients, query.types, query, billing.retried)
            steps.step()
            return sold

        read = partial(read_skus, billing, needed=needed, now=self._clock.now(), on_page=steps.step)
        jobs: list[Callable[[], Any]] = [places, *(partial(read, service) for service in services)]
        sold, *readings = in_parallel(lambda job: job(), jobs, at_once=len(jobs))
        return sold, readings

    def confirm(self, prices: Sequence[Price]) -> Sequence[Price]:
        """Ask again; see `PriceFeed.confirm`.

        For few SKUs the Pricing API is asked: skus.price.get of cloudbilling.v1beta, another interface, by the id of each SKU
        (https://cloud.google.com/billing/docs/how-to/get-pricing-information-api). For many, or where that API does not answer, the list of SKUs
        is read once more, which takes fewer calls.
        """
        billing, today = Billing(self._clients, self._clock), self._clock.now().date()
        found = by_sku(prices, self._composed, billing, today=today)
        if found is not None:
            return found
        parts = {price: self._parts.get(price.key[:3], ()) for price in prices}
        needed = {component for found in parts.values() for component, _ in found}
        readings = [
            read_skus(billing, service, needed, now=self._clock.now(), on_page=lambda _: None)
            for service in services_of(needed)
        ]
        rates, again = rates_of(readings), list[Price]()
        for price in prices:
            composed = rates.compose(parts[price], price.region, price.purchase, as_of=today)
            if isinstance(composed, Composed):
                again.append(replace(price, quote=composed.quote))
        return again


def _priced(query: PriceQuery, sold: Sold, rates: Rates, today: date) -> _Priced:
    """Compose the price of each type in each region and purchase."""
    found = _Priced()
    for one in sold.known:
        parts = sold.parts(one.instance)
        for region in query.regions:
            for purchase in _PURCHASES:
                if not one.purchases or purchase in one.purchases:
                    _compose(found, one, parts, region, purchase, sold, rates, today)
    return found


def _compose(
    found: _Priced,
    one: PricedType,
    parts: tuple[Part, ...],
    region: str,
    purchase: Purchase,
    sold: Sold,
    rates: Rates,
    today: date,
) -> None:
    instance = one.instance
    name, accelerator, count = _key(instance)
    key: PriceKey = (name, accelerator, count, region, purchase)
    zones = sold.zones(instance, region)
    if zones is None or is_unknown(instance.accelerator, purchase):
        if not sold.excludes(instance, region):
            found.incomplete[key] = "whether it is sold there, or by which SKUs it is billed, is not known"
        return
    composed = rates.compose(parts, region, purchase, as_of=today)
    if isinstance(composed, Composed):
        found.composed[key] = composed
        found.prices.append(Price(name, count, region, purchase, composed.quote, zones, accelerator))
    # Which SKUs of the old TPUs are listed, and how they are called today, is not known; some of what is sold has none (skypilot's
    # HIDDEN_TPU_DF: v3 pods in us-east1; TPU_V4_ZONES). So a missing one does not mean the end of the sale.
    elif composed.is_sold or instance.accelerator in OLD_TPUS or sold.lists(instance, region):
        found.incomplete[key] = composed.why


def _key(instance: InstanceType) -> tuple[str, str, float]:
    """Return what identifies a type in prices: N1 types can have as many P100 as V100 attached."""
    return instance.name, instance.accelerator if instance.attached else "", instance.accelerators


def _note(found: _Priced) -> list[str]:
    """Return a sentence about the prices of the packaged tables that could not be composed."""
    kept = [(key, why) for key, why in found.incomplete.items() if key in packaged().prices]
    if not kept:
        return []
    shown = "; ".join(f"{key[0]} in {key[3]}, {key[4]} ({why})" for key, why in kept[:_EXAMPLES])
    return [f"{len(kept)} prices stay as they were, because not every part has a price: {shown}"]
