"""Machines for tests."""

from datetime import date

from multicompute.offer import InstanceType, Offer, PriceBasis, Purchase, Quote
from multicompute.sizing import Machine


def machine(
    accelerator: str,
    per_node: float,
    *,
    price: float,
    fabric: str = "",
    purchase: Purchase = "on_demand",
    max_nodes: int | None = None,
    region: str = "r1",
    hosts: int = 1,
    transfer_usd: float = 0.0,
    basis: PriceBasis = "list",
) -> Machine:
    """Return a machine of a cloud that does not exist."""
    instance = InstanceType(
        provider="fake",
        name=f"{per_node:g}x{accelerator}{'-' + fabric if fabric else ''}",
        accelerator=accelerator,
        accelerators=per_node,
        fabric=fabric,
        hosts=hosts,
    )
    offer = Offer(instance, region, f"{region}-a", purchase, Quote(price, date(2026, 11, 1), "a price list", basis))
    return Machine(offer=offer, max_nodes=max_nodes, transfer_usd=transfer_usd)
