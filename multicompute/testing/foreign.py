"""The tags and names of foreign resources: resources of other people in a test's cloud, which no provider may change (I9)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from multicompute.provider import TAG_ATTEMPT, TAG_CLUSTER, TAG_EXPIRES_AT, TAG_ID, TAG_OWNER

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
