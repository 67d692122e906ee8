"""The register of the foreign resources in a local cloud."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from multicompute.provider import Resource

_Key = tuple[str, str, str]


class ForeignResources:
    """The foreign resources in a local cloud, which no provider may change or delete (I9)."""

    def __init__(self, list_all: Callable[[], Iterable[Resource]]) -> None:
        """Register nothing yet; `list_all` lists everything that exists."""
        self._list_all = list_all
        self._expected: dict[_Key, Mapping[str, str]] = {}

    @contextmanager
    def registering(self) -> Iterator[None]:
        """Register everything that the block creates."""
        before = {_key(resource) for resource in self._list_all()}
        yield
        for resource in self._list_all():
            if _key(resource) not in before:
                self._expected[_key(resource)] = dict(resource.tags)

    def has(self, kind: str, region: str, id_: str) -> bool:
        """Return whether a resource is foreign."""
        return (kind, region, id_) in self._expected

    def others(self) -> list[Resource]:
        """Return everything that exists and is not foreign, in a stable order."""
        kept = (resource for resource in self._list_all() if _key(resource) not in self._expected)
        return sorted(kept, key=lambda resource: (resource.region, resource.kind, resource.id))

    def are_intact(self) -> bool:
        """Return whether every foreign resource exists with the tags it was created with."""
        found = {_key(resource): dict(resource.tags) for resource in self._list_all()}
        return all(found.get(key) == tags for key, tags in self._expected.items())

    def clear(self) -> None:
        """Forget every foreign resource."""
        self._expected.clear()


def _key(resource: Resource) -> _Key:
    return resource.kind, resource.region, resource.id
