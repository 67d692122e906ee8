"""The offers of the inventory: one for each type of machine at each site."""

from collections.abc import Sequence
from datetime import date

from multicompute import accelerators
from multicompute.hosts import OwnOffers
from multicompute.offer import InstanceType, Listing, Quote, Region
from multicompute.provider import Settings
from multicompute_static._inventory import Host, read_inventory
from multicompute_static._settings import StaticSettings


def own_offers(settings: Settings, *, today: date) -> OwnOffers | None:
    """Return the offers, with prices of today; None if there is no inventory.

    Raises:
        ConfigError: The inventory can't be read, or a machine is wrong.
    """
    read = StaticSettings.of(settings)
    if not read.configured().ok:
        return None
    groups: dict[tuple[str, str], list[Host]] = {}
    for host in read_inventory(read.path):
        groups.setdefault((host.site, host.instance_type), []).append(host)
    return OwnOffers(read.path, tuple(_listing(hosts, today) for hosts in groups.values()))


def _listing(hosts: Sequence[Host], today: date) -> Listing:
    site = hosts[0].site
    region = Region("static", site, hosts[0].residency or site.lower())
    # The highest rate, where they differ: a plan must not promise less than what is counted.
    quote = Quote(max(host.hourly_usd for host in hosts), today, "inventory")
    return Listing(instance_type_of(hosts), region, "on_demand", quote, (site,), machines=len(hosts))


def instance_type_of(hosts: Sequence[Host]) -> InstanceType:
    """Return the type of machines of one type and site: what all of them have at least."""
    first = hosts[0]
    model = accelerators.get(first.accelerator)
    fabrics = {host.fabric for host in hosts}
    return InstanceType(
        provider="static",
        name=first.instance_type,
        accelerator=first.accelerator,
        accelerators=float(first.accelerators),
        accelerator_memory_gib=model.memory_gib if model else 0.0,
        vcpus=min(host.vcpus for host in hosts),
        memory_gib=min(host.memory_gib for host in hosts),
        # Any of them may be in a gang, so a fabric counts only if all have it.
        fabric=fabrics.pop() if len(fabrics) == 1 else "",
        arch=first.arch,
    )
