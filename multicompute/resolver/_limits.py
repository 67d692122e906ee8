"""The number of nodes of an offer that remembered outages allow."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from multicompute.offer import Offer
from multicompute.plan import Outage
from multicompute.resolver import _reasons as reasons


class Headroom(NamedTuple):
    """The number of nodes that fit, and the reason if they are fewer than requested."""

    nodes: int
    reason: str = ""
    detail: str = ""


class Limits:
    """The outages that are not over, by provider."""

    def __init__(self, outages: Sequence[Outage], now: datetime) -> None:
        self._now = now
        self._outages: dict[str, list[Outage]] = {}
        for outage in outages:
            if now < outage.until:
                self._outages.setdefault(outage.provider, []).append(outage)

    def concern(self, provider: str) -> bool:
        """Return whether the provider has any outage."""
        return provider in self._outages

    def room(self, offer: Offer, nodes: int) -> Headroom:
        """Return how many of `nodes` the outages leave room for."""
        tightest = Headroom(nodes)
        for outage in self._outages.get(offer.provider, ()):
            # Compared at the gang size from which the outage holds, to see whether it is about this offer at all.
            if outage.nodes - 1 < tightest.nodes and outage.covers(offer, nodes=outage.nodes, now=self._now):
                until = f"{outage.until:%Y-%m-%d %H:%M} UTC"
                tightest = Headroom(outage.nodes - 1, reasons.OUTAGE, f"{outage.reason}, until {until}")
        return tightest
