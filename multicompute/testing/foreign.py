"""What the tags and names of foreign resources are: resources of other people in a test's cloud, which must survive whatever is done there."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from multicompute.provider import TAG_ATTEMPT, TAG_CLUSTER, TAG_EXPIRES_AT, TAG_ID, TAG_OWNER

Tags = Mapping[str, str]

# In characters that every cloud takes, Google's labels included.
NOT_OURS: Final[Tags] = MappingProxyType({"name": "production-database"})
"""Nothing of ours."""
OF_ANOTHER: Final[Tags] = MappingProxyType(
    {
        TAG_ID: "c-of-another",
        TAG_OWNER: "another-elsewhere",
        TAG_CLUSTER: "another",
        TAG_ATTEMPT: "t-of-another",
        TAG_EXPIRES_AT: "1000000000",
    }
)
"""Of another owner of this package, and over its time since 2001: that one's reaper may end it, ours may not."""
STRANGE: Final[Tags] = MappingProxyType(
    {TAG_ID: "not_an_id", TAG_OWNER: "nobody", TAG_CLUSTER: "", TAG_ATTEMPT: "", TAG_EXPIRES_AT: "soon"}
)
"""Our names of tags, with values that we would never write."""
ALL: Final = (NOT_OURS, OF_ANOTHER, STRANGE)

LIKE_OURS: Final = "multicompute-c-0123456789abcdef"
"""What something of a cluster of ours may be called; the foreign resource of this name has no tags."""
