"""How many nodes of an offer can be had, by what is known beforehand: remembered outages and the account's quotas."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import floor
from typing import NamedTuple

from multicompute.offer import InstanceType, Offer
from multicompute.plan import Outage
from multicompute.provider import Quota
from multicompute.resolver import _reasons as reasons


class Headroom(NamedTuple):
    """How many nodes fit, and if it is fewer than were asked for, why."""

    nodes: int
    reason: str = ""
    detail: str = ""


class QuotaUsage:
    """What the parts of a gang have taken from quotas already, so that no quota is counted twice."""

    def __init__(self) -> None:
        self._amounts: dict[int, float] = {}

    def of(self, quota: Quota) -> float:
        return self._amounts.get(id(quota), 0.0)

    def take(self, quotas: Sequence[Quota], instance: InstanceType, nodes: int) -> None:
        for quota in quotas:
            self._amounts[id(quota)] = self.of(quota) + nodes * _per_node(quota, instance)


class Limits:
    """The outages and quotas that hold now, by provider."""

    def __init__(self, outages: Sequence[Outage], quotas: Mapping[str, Sequence[Quota]], now: datetime) -> None:
        self._now = now
        self._quotas = {provider: tuple(limits) for provider, limits in quotas.items() if limits}
        self._outages: dict[str, list[Outage]] = {}
        for outage in outages:
            if now < outage.until:
                self._outages.setdefault(outage.provider, []).append(outage)

    def concern(self, provider: str) -> bool:
        """Whether anything is known about this provider at all."""
        return provider in self._outages or provider in self._quotas

    def room(self, offer: Offer, nodes: int, spent: QuotaUsage | None = None) -> Headroom:
        """How many of `nodes` can be had; an outage is named before a quota."""
        outage = self._outage_room(offer, nodes)
        quota = self._quota_room(offer, nodes, spent)
        if outage.nodes >= nodes:
            return quota
        return Headroom(min(outage.nodes, quota.nodes), outage.reason, outage.detail)

    def quotas_on(self, offer: Offer) -> list[Quota]:
        """The quotas that this offer counts against."""
        return [
            quota
            for quota in self._quotas.get(offer.provider, ())
            if quota.purchase == offer.purchase
            # A quota without a region holds everywhere.
            and quota.region in ("", offer.region)
            and quota.counts(offer.instance)
        ]

    def _outage_room(self, offer: Offer, nodes: int) -> Headroom:
        tightest = Headroom(nodes)
        for outage in self._outages.get(offer.provider, ()):
            # Asked for the gang size from which the outage counts: does it mean this offer at all?
            if outage.nodes - 1 < tightest.nodes and outage.covers(offer, nodes=outage.nodes, now=self._now):
                until = f"{outage.until:%Y-%m-%d %H:%M} UTC"
                tightest = Headroom(outage.nodes - 1, reasons.OUTAGE, f"{outage.reason}, until {until}")
        return tightest

    def _quota_room(self, offer: Offer, nodes: int, spent: QuotaUsage | None) -> Headroom:
        tightest = Headroom(nodes)
        for quota in self.quotas_on(offer):
            each = _per_node(quota, offer.instance)
            if not each:
                continue
            free = quota.limit - quota.used - (spent.of(quota) if spent else 0.0)
            room = max(0, floor(free / each + 1e-9))
            if room < tightest.nodes:
                need = f"needs {nodes * each:g} {quota.unit}, {max(free, 0):g} of {quota.limit:g} are free"
                tightest = Headroom(room, reasons.QUOTA, f"{quota.name}: {need}")
        return tightest


def _per_node(quota: Quota, instance: InstanceType) -> float:
    """What one node takes of a quota, in its unit."""
    if quota.unit == "vcpus":
        return instance.vcpus * instance.hosts
    if quota.unit == "accelerators":
        return instance.accelerators
    return 1.0
