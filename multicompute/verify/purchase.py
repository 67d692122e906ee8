"""Chooses the machine to verify with, and computes the most that a run can cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from multicompute.accelerators import find
from multicompute.cost.billing import exact, per_hour, rounded, spent
from multicompute.engine.operation.retry import PRICE_WAIT, call_provider
from multicompute.engine.planning import plan_for, require_candidate
from multicompute.errors import MulticomputeError, SpecError
from multicompute.offer import Offer
from multicompute.provider import Capability
from multicompute.session import Session
from multicompute.spec import ClusterSpec
from multicompute.units import format_usd

GANG: Final = 2
"""The number of nodes of the gang."""
EXTENSION: Final = timedelta(minutes=10)
"""The extension of the lease of the first cluster."""
TTLS: Final = {"one": timedelta(minutes=30), "gang": timedelta(minutes=20), "boot": timedelta(minutes=20)}
"""The ttl of each cluster of a run: the cloud itself terminates the nodes after it. The first lives until the end of the run."""
_LEEWAY: Final = 1.25
"""The price limit of a node as a multiple of the cheapest offer, so that a lack of capacity in one place does not end the run."""
_LEAST_MEMORY_GIB: Final = 1.0
"""With less, the boot script of a current Linux image may run out of memory."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """The machine of a run, and its cost.

    Attributes:
        offer: The cheapest offer of the machine.
        gpus: The accelerators of each node, where a request must name their number; None elsewhere.
        regions: The regions that the user allows; () for any.
        hourly_cost: USD per node-hour of the offer, confirmed by the cloud where it can be asked.
        max_hourly_cost: The most that a node may cost, in USD per hour.
        billing_minimum: The shortest time that a node is billed for.
        max_spend: The limit that the user has set, in USD.
    """

    offer: Offer
    gpus: int | None
    regions: tuple[str, ...]
    hourly_cost: float
    max_hourly_cost: float
    billing_minimum: timedelta
    max_spend: float

    @property
    def at_most(self) -> float:
        """The most that the nodes of a run can cost, in USD."""
        # The launch with a repeated token would buy one more node if the cloud did not honour the token.
        return round(sum(self.cost_of(key) for key in TTLS) + self.cost_of("one"), 6)

    def cost_of(self, key: str) -> float:
        """Return the most that one of the clusters can cost, in USD, at its longest life."""
        nodes = GANG if key == "gang" else 1
        life = max(TTLS[key] + (EXTENSION if key == "one" else timedelta(0)), self.billing_minimum)
        return rounded(per_hour(spent(self.max_hourly_cost, life) * exact(nodes)))

    def at_price(self, hourly_cost: float) -> "Purchase":
        """Return the purchase at today's price of a node; a price that has fallen changes nothing."""
        if hourly_cost <= self.hourly_cost:
            return self
        return replace(self, hourly_cost=hourly_cost, max_hourly_cost=hourly_cost * _LEEWAY)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "instance_type": self.offer.instance_type,
            "accelerators": self.offer.instance.accelerators,
            "region": self.offer.region,
            "purchase": self.offer.purchase,
            "hourly_usd": self.hourly_cost,
            "at_most_usd": self.at_most,
            "max_spend_usd": self.max_spend,
        }

    def describe(self) -> str:
        """Return what a run buys and costs, for the question before it starts."""
        offer = self.offer
        return (
            f"This launches four {offer.instance_type} nodes on {offer.provider}, the cheapest in {offer.region} at "
            f"{usd(self.hourly_cost)} per hour each:\n"
            f"a single node, a gang of two, and a node that powers itself off. They cost at most {usd(self.at_most)}, "
            "usually a small part of that.\nEach has a ttl, and all are terminated before the command ends. "
            "Disks, addresses and traffic of these minutes are not included."
        )


def choose(session: Session, name: str, *, types: Sequence[str], regions: Sequence[str], max_spend: float) -> Purchase:
    """Return the cheapest purchase that will do.

    Args:
        session: The catalog and the clouds.
        name: The provider.
        types: Accelerators or instance types, as in a request; () for the cheapest machine of the cloud.
        regions: Regions or zones, as in a request; () for any.
        max_spend: The limit in USD.

    Raises:
        SpecError: The run can cost more than the limit, or an argument is wrong.
        NoOfferError: The catalog has no such machine.
        CapacityError: Remembered outages rule out every such machine.
    """
    plans = [(plan_for(session, spec), spec) for spec in _specs(session, name, types, regions)]
    found = [(plan.candidates[0], spec) for plan, spec in plans if plan.candidates]
    if not found:
        plan, spec = plans[0]
        require_candidate(session, plan, lambda: plan_for(session, spec, outages=()))
    candidate, spec = min(found, key=lambda pair: pair[0].hourly_cost)
    offer = candidate.parts[0].offer
    purchase = Purchase(
        offer=offer,
        gpus=spec.gpus // GANG if spec.gpus else None,
        regions=tuple(regions),
        hourly_cost=offer.hourly_cost,
        max_hourly_cost=offer.hourly_cost * _LEEWAY,
        billing_minimum=session.plugins[name].billing_minimum,
        max_spend=max_spend,
    )
    require_within_limit(purchase)
    return purchase


def require_within_limit(purchase: Purchase) -> None:
    """Raise SpecError if the run can cost more than the limit."""
    if purchase.at_most > purchase.max_spend:
        raise SpecError(
            f"--max-spend {purchase.max_spend:g}: {purchase.offer.instance_type} can cost {usd(purchase.at_most)}: "
            f"{usd(purchase.max_hourly_cost)} per node-hour at most, until the ttl of every node",
            argument="max_spend",
            hint=f"allow it with --max-spend {purchase.at_most + 0.005:.2f}, or name a cheaper --type",
        )


def confirmed_price(session: Session, purchase: Purchase) -> float:
    """Return today's price of the offer in USD per node-hour, or the one in the catalog if the cloud can't be asked."""
    name = purchase.offer.provider
    if Capability.LIVE_PRICES not in session.provider(name).capabilities:
        return purchase.hourly_cost
    try:
        quotes = call_provider(session, name, lambda provider: provider.quotes([purchase.offer]), longest=PRICE_WAIT)
    except MulticomputeError:
        return purchase.hourly_cost
    found = quotes.get(purchase.offer)
    return found.hourly_cost if found else purchase.hourly_cost


def _specs(session: Session, name: str, types: Sequence[str], regions: Sequence[str]) -> Iterator[ClusterSpec]:
    """Return the requests for a gang of these types: one for exact types, and one for each size of a node with an accelerator."""
    arguments = {"nodes": GANG, "clouds": [name], "regions": tuple(regions), "interconnect": "any"}
    types = types or _cheap_types(session, name)
    accelerators = [each for each in types if find(each)]
    if exact_types := [each for each in types if each not in accelerators]:
        yield ClusterSpec.of({"type": exact_types, **arguments})
    if accelerators:
        lines = (session.catalog.listings(model.name, provider=name) for each in accelerators for model in find(each))
        sizes = {line.instance.accelerators for found in lines for line in found if line.instance.accelerators >= 1}
        for size in sorted(sizes) or [1.0]:
            yield ClusterSpec.of({"type": accelerators, "gpus": GANG * int(size), **arguments})


def _cheap_types(session: Session, name: str) -> tuple[str, ...]:
    """Return the machine types without accelerators, or else all accelerators that the catalog has of this provider."""
    catalog = session.catalog
    plain = {
        line.instance.name
        for line in catalog.listings("", provider=name)
        if not line.instance.retired and line.instance.memory_gib >= _LEAST_MEMORY_GIB
    }
    others = (accelerator for accelerator in catalog.accelerators() if catalog.listings(accelerator, provider=name))
    found = tuple(sorted(plain)) or tuple(others)
    if not found:
        known = ", ".join(catalog.providers)
        raise SpecError(f"{name}: the catalog has no machine of this cloud", hint=f"clouds with prices are {known}")
    return found


def usd(amount: float) -> str:
    """Return an amount in USD, with as many digits as the price of the smallest machines needs."""
    return format_usd(amount) if amount >= 1 else f"${amount:.4f}"
