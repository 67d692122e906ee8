"""Foreign resources: resources of other people in a test's cloud, which no provider may change or delete (I9)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from multicompute.provider import TAG_ATTEMPT, TAG_CLUSTER, TAG_EXPIRES_AT, TAG_ID, TAG_OWNER, Resource

Tags = Mapping[str, str]

# In characters that every cloud accepts, Google's labels included.
NOT_OURS: Final[Tags] = MappingProxyType({"name": "production-database"})
"""No tag of multicompute."""
OF_ANOTHER: Final[Tags] = MappingProxyType(
    {
        TAG_ID: "c-of-another",
        TAG_OWNER: "another-elsewhere",
        TAG_CLUSTER: "another",
        TAG_ATTEMPT: "t-of-another",
        TAG_EXPIRES_AT: "1000000000",
    }
)
"""Another owner of multicompute, expired since 2001: that owner's reaper may delete it, ours must not."""
STRANGE: Final[Tags] = MappingProxyType(
    {TAG_ID: "not_an_id", TAG_OWNER: "nobody", TAG_CLUSTER: "", TAG_ATTEMPT: "", TAG_EXPIRES_AT: "soon"}
)
"""The keys of multicompute with values that multicompute never writes."""
ALL: Final = (NOT_OURS, OF_ANOTHER, STRANGE)

LIKE_OURS: Final = "multicompute-c-0123456789abcdef"
"""A name that a resource of a cluster could have; the foreign resource of this name has no tags."""

_Key = tuple[str, str, str]


class ForeignResources:
    """A register of the foreign resources in a local cloud, which finds out whether any of them has changed."""

    def __init__(self, list_all: Callable[[], Iterable[Resource]]) -> None:
        """Register nothing yet; `list_all` lists everything that exists."""
        self._list_all = list_all
        self._expected: dict[_Key, Tags] = {}

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
