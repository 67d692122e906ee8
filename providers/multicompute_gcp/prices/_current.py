"""Today's prices of offers before a launch, composed of SKUs that are kept for an hour."""

import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from multicompute.clock import Clock
from multicompute.offer import Offer, Quote
from multicompute_gcp._session import Clients
from multicompute_gcp.prices._billing import COMPUTE_SERVICE, Billing, Patience
from multicompute_gcp.prices._rates import Composed, Part, Rates, is_unknown, parts_of
from multicompute_gcp.prices._reader import rates_of, read_skus, services_of

# cloudbilling.v1, services.skus.list: "the latest pricing will be returned (up to 12 hours old at most)". So an hour adds little, and it saves
# a process that launches often the seven pages of Compute Engine.
_LIFETIME: Final = timedelta(hours=1)
# A launch is waiting. The engine repeats what may pass, and then launches at the price of the tables.
_PATIENCE: Final = Patience(tries=1, timeout=(5.0, 15.0), longest=timedelta(seconds=30))


class CurrentPrices:
    """The prices of offers, from the same SKUs as those of `multicompute catalog refresh`.

    The API has no filter, so a listing has all SKUs of a service. Only the rates of the components that were asked for are kept.
    """

    def __init__(self, clients: Clients, clock: Clock) -> None:
        self._billing = Billing(clients, clock, _PATIENCE)
        self._is_mixed = clients.settings.is_mixed
        self._clock = clock
        # Held during a listing, so that launches in several threads share it.
        self._lock = threading.Lock()
        self._rates = Rates()
        self._components: frozenset[str] = frozenset()
        self._read_at: datetime | None = None

    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Return the prices of the offers that can be composed of SKUs; the others are missing.

        Raises:
            MulticomputeError: The SKUs could not be read, or not within half a minute.
        """
        parts = {} if self._is_mixed else {offer: _parts(offer) for offer in offers}
        needed = {component for found in parts.values() for component, _ in found}
        if not needed:
            return {}
        rates, today = self._current(needed), self._clock.now().date()
        found = {
            offer: rates.compose(billed, offer.region, offer.purchase, as_of=today) for offer, billed in parts.items()
        }
        return {offer: composed.quote for offer, composed in found.items() if isinstance(composed, Composed)}

    def probe(self) -> str:
        """Return in words that the list of SKUs can be read.

        Raises:
            MulticomputeError: It can't.
        """
        if self._is_mixed:
            return "not asked: only one of Compute Engine and Cloud Billing is on this machine"
        self._billing.first_page(COMPUTE_SERVICE)
        return "allowed"

    def _current(self, needed: Collection[str]) -> Rates:
        """Return rates of the needed components that are at most an hour old."""
        with self._lock:
            now = self._clock.now()
            is_old = self._read_at is None or now - self._read_at >= _LIFETIME
            if is_old or not self._components.issuperset(needed):
                components = frozenset(needed) if is_old else self._components.union(needed)
                self._rates = rates_of(
                    read_skus(self._billing, service, components, now=now, on_page=lambda _: None)
                    for service in services_of(components)
                )
                self._components, self._read_at = components, now
            return self._rates


def _parts(offer: Offer) -> tuple[Part, ...]:
    """Return the parts that a node of the offer is billed by; () if they are not known."""
    return () if is_unknown(offer.instance.accelerator, offer.purchase) else parts_of(offer.instance)
