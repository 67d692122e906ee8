"""The quota rule: which quota does not allow a candidate. Pure."""

from collections.abc import Iterable, Sequence

from multicompute.offer import InstanceType, Part
from multicompute.provider import Quota


def short_quota(quotas: Iterable[Quota], parts: Sequence[Part]) -> tuple[Quota, float] | None:
    """Return the first quota that does not allow these parts, and how much of its unit they need; None if all do.

    `parts` are launched in one provider, in all its regions. Nodes in a reservation count against no quota.
    """
    for quota in quotas:
        needed = sum(
            part.nodes * _units_per_node(quota, part.offer.instance)
            for part in parts
            if part.reservation is None and _counts(quota, part)
        )
        if needed > quota.limit - quota.used:
            return quota, needed
    return None


def _counts(quota: Quota, part: Part) -> bool:
    """Return whether a part counts against a quota; one without a region counts what is launched in any region."""
    offer = part.offer
    return quota.purchase == offer.purchase and quota.region in ("", offer.region) and quota.counts(offer.instance)


def _units_per_node(quota: Quota, instance: InstanceType) -> float:
    """Return what one node, or one slice with all its hosts, takes from a quota."""
    if quota.unit == "vcpus":
        return instance.vcpus * instance.hosts
    return instance.accelerators if quota.unit == "accelerators" else 1.0
