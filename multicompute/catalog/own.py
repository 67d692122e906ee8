"""The offers of the user's own machines, in the form of a provider's offer tables."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from multicompute.catalog.tables import CPU, Shard
from multicompute.hosts import OwnOffers
from multicompute.offer import InstanceType, Listing, Region

if TYPE_CHECKING:
    from multicompute.price_feed import Interruption


class OwnTables:
    """Offers that were made from an inventory; has what the catalog reads of `Tables`."""

    def __init__(self, provider: str, offers: OwnOffers) -> None:
        """Group the offers by accelerator."""
        self.provider = provider
        self.path = offers.inventory
        self._listings: dict[str, tuple[Listing, ...]] = {}
        for line in sorted(offers.listings, key=lambda line: (line.region.name, line.instance.name)):
            shard = line.instance.accelerator or CPU
            self._listings[shard] = (*self._listings.get(shard, ()), line)
        lines = [line for group in self._listings.values() for line in group]
        self.regions: Mapping[str, Region] = {line.region.name: line.region for line in lines}
        self.zones: Mapping[str, tuple[str, ...]] = {line.region.name: line.zones for line in lines}
        self.index = tuple(sorted({(line.instance.name, line.instance.accelerator or CPU) for line in lines}))
        self.shards: Mapping[str, Shard] = {
            name: Shard(
                name,
                len({line.instance for line in group}),
                len(group),
                sum(len(line.offers) for line in group),
                min(line.quote.as_of for line in group),
                max(line.quote.as_of for line in group),
            )
            for name, group in self._listings.items()
        }

    def types(self, shard: str) -> Mapping[tuple[str, str], InstanceType]:
        """Return the instance types of a shard by name and number; machines of one name may differ between sites."""
        found = dict.fromkeys(line.instance for line in self.listings(shard))
        return {(instance.name, str(number)): instance for number, instance in enumerate(found)}

    def interruptions(self, shard: str) -> "Mapping[tuple[str, str], Interruption]":
        """Return nothing: no cloud takes the user's own machines back."""
        return {}

    def listings(self, shard: str) -> tuple[Listing, ...]:
        """Return the lines of a shard, () without such a shard."""
        return self._listings.get(shard, ())
