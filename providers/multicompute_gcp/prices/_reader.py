"""Reads the SKUs of a service, and keeps only the rates that are needed."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from multicompute.offer import Purchase
from multicompute_gcp.prices._billing import COMPUTE_SERVICE, TPU_SERVICE, Billing
from multicompute_gcp.prices._rates import OLD_TPUS, OWN_SSDS, Rates
from multicompute_gcp.prices._skus import Rate, UnreadableError, component_of, rate_of

_OF_TPU_SERVICE: Final = frozenset(
    f"{kind}:{name.removeprefix('tpu-')}" for name in OLD_TPUS for kind in ("tpu", "tpu-pod")
)


def services_of(components: Collection[str]) -> list[str]:
    """Return the services that have components: v2 to v4 are in the service Cloud TPU, all others in Compute Engine."""
    wanted = frozenset(components)
    services = [COMPUTE_SERVICE] if wanted - _OF_TPU_SERVICE - OWN_SSDS else []
    return [*services, TPU_SERVICE] if wanted & _OF_TPU_SERVICE else services


@dataclass(slots=True)
class Reading:
    """The rates and faults in the SKUs of a service.

    Attributes:
        rates: The rates of the needed components.
        seen: The pairs of region and purchase of which any component was listed, needed or not.
        unreadable: What was wrong with SKUs of needed components -> the descriptions of those SKUs.
    """

    rates: list[Rate] = field(default_factory=list)
    seen: set[tuple[str, Purchase]] = field(default_factory=set)
    unreadable: dict[str, list[str]] = field(default_factory=dict)

    def take(self, sku: dict[str, Any], needed: Collection[str], now: datetime) -> None:
        """Read one SKU."""
        description = str(sku.get("description", ""))
        named = component_of(description)
        if named is None:
            return
        component, purchase = named
        regions = sku.get("serviceRegions")
        self.seen.update((str(region), purchase) for region in (regions if isinstance(regions, list) else ()))
        if component not in needed:
            return
        try:
            self.rates.append(rate_of(sku, component, purchase, now=now))
        except UnreadableError as error:
            self.unreadable.setdefault(str(error), []).append(description)


def read_skus(
    billing: Billing, service: str, needed: Collection[str], *, now: datetime, on_page: Callable[[str], None]
) -> Reading:
    """Read the SKUs of a service.

    Each is read while the page is parsed and dropped at once: as objects, a page of 5,000 takes ten times the memory of its text.

    Raises:
        MulticomputeError: The list could not be read to its end. Nothing is concluded from a part of it.
    """
    reading = Reading()

    def read(found: dict[str, Any]) -> Any:
        if "skuId" not in found and "pricingInfo" not in found:
            return found
        reading.take(found, needed, now)
        return None

    for _ in billing.pages(service, read):
        on_page(service)
    return reading


def rates_of(readings: Iterable[Reading]) -> Rates:
    """Return the rates of several services by region."""
    rates = Rates()
    for reading in readings:
        for rate in reading.rates:
            rates.add(rate)
    return rates


def unreadable_of(readings: Iterable[Reading]) -> dict[str, int]:
    """Return what was wrong with SKUs, with an example -> how many."""
    counted: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for reading in readings:
        for why, descriptions in reading.unreadable.items():
            counted[why] += len(descriptions)
            examples.setdefault(why, descriptions[0])
    return {f"{why} ({examples[why]!r})": count for why, count in counted.items()}
