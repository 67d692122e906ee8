"""Groups what belongs to a cluster by the provider and region that hold it."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, TypeVar


class ProviderRegion(NamedTuple):
    """A region of a provider."""

    provider: str
    region: str

    def __str__(self) -> str:
        """Return the provider and the region, "aws us-east-1"."""
        return f"{self.provider} {self.region}"


class Located(Protocol):
    """Anything that is in one region of one provider."""

    @property
    def provider(self) -> str:
        """The name of the provider."""
        ...

    @property
    def region(self) -> str:
        """The name of the region."""
        ...


T = TypeVar("T")
LocatedT = TypeVar("LocatedT", bound=Located)


def by_region(items: Iterable[LocatedT]) -> dict[ProviderRegion, list[LocatedT]]:
    """Return the items grouped by provider and region, in the order of the first item of each group."""
    return by_region_of(items, lambda item: item)


def by_region_of(items: Iterable[T], located: Callable[[T], Located]) -> dict[ProviderRegion, list[T]]:
    """Return the items grouped by the provider and region of `located(item)`."""
    groups: dict[ProviderRegion, list[T]] = {}
    for item in items:
        owner = located(item)
        groups.setdefault(ProviderRegion(owner.provider, owner.region), []).append(item)
    return groups
