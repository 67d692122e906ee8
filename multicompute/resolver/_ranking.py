"""Gangs in the order in which they will be tried, turned into candidates when they are read."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import overload

from multicompute.offer import Part, Purchase
from multicompute.plan import Candidate
from multicompute.resolver._catalog_index import Row, Shape
from multicompute.resolver._context import ResolveContext
from multicompute.resolver._lifetimes import Lifetimes
from multicompute.units import counted

Key = tuple[int, bool, float, bool, int, float, str, str]
"""The sort key: position of the type (if that counts), ends before the ttl, total price, is an estimate, nodes, surplus,
provider, region."""


class Gang:
    """A line of an offer table times nodes, in each of some zones; or several parts that form a gang together."""

    __slots__ = ("key", "nodes", "parts", "row", "shape", "zones")

    def __init__(
        self, key: Key, shape: Shape, row: Row | None, nodes: int, zones: Sequence[str], parts: tuple[Part, ...] = ()
    ) -> None:
        self.key = key
        self.shape = shape
        self.row = row
        self.nodes = nodes
        self.zones = zones
        self.parts = parts

    @property
    def hourly_cost(self) -> float:
        return self.key[2]

    @property
    def ends_early(self) -> bool:
        return self.key[1]

    @property
    def provider(self) -> str:
        return self.key[6]

    @property
    def purchase(self) -> Purchase:
        return self.row.purchase if self.row is not None else self.parts[0].offer.purchase

    @property
    def tail(self) -> tuple[object, ...]:
        """The part of the sort key after the zone. One name may mean several shapes (N1 with this or that GPU)."""
        instance = self.shape.instance
        offers = (part.offer for part in self.parts)
        parts = tuple(
            (offer.provider, offer.region, offer.zone, offer.instance_type, offer.purchase) for offer in offers
        )
        return (instance.name, self.purchase, instance.accelerator, instance.accelerators, parts)


class Ranked(Sequence[Candidate]):
    """Candidates in order, each made when it is first read: a plan has hundreds, and most are never tried."""

    def __init__(self, gangs: Iterable[Gang], context: ResolveContext, lifetimes: Lifetimes) -> None:
        self._items: list[Candidate | tuple[Gang, str]] = []
        self._context = context
        self._lifetimes = lifetimes
        for _, run in groupby(sorted(gangs, key=attrgetter("key")), key=attrgetter("key")):
            equals = list(run)
            items = [(gang, zone) for gang in equals for zone in gang.zones]
            if len(equals) > 1:
                items.sort(key=lambda item: (item[1], item[0].tail))
            self._items += items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> "tuple[Candidate, ...]": ...
    def __getitem__(self, index: int | slice) -> "Candidate | tuple[Candidate, ...]":
        if isinstance(index, slice):
            return tuple(self._at(position) for position in range(*index.indices(len(self._items))))
        return self._at(range(len(self._items))[index])

    def __iter__(self) -> Iterator[Candidate]:
        return map(self._at, range(len(self._items)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'candidate')}>"

    def _at(self, position: int) -> Candidate:
        item = self._items[position]
        if isinstance(item, Candidate):
            return item
        gang, zone = item
        parts = gang.parts if gang.row is None else (Part(gang.row.offer(zone), gang.nodes),)
        candidate = Candidate(
            parts,
            is_stale=any(self._context.is_stale(part.offer) for part in parts),
            is_configured=not any(part.offer.provider in self._context.unusable for part in parts),
            max_lifetime=self._lifetimes.of_gang(parts),
            ends_early=gang.ends_early,
        )
        self._items[position] = candidate
        return candidate
