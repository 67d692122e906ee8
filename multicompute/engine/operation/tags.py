"""The tags of the resources of an attempt."""

from multicompute.ledger import AttemptRecord, ClusterRecord
from multicompute.provider import TAG_ATTEMPT, TAG_CLUSTER, TAG_EXPIRES_AT, TAG_ID, TAG_OWNER, expiry_tag
from multicompute.spec import ClusterSpec


def tags_of(record: ClusterRecord, spec: ClusterSpec, attempt: AttemptRecord) -> dict[str, str]:
    """Return the user's tags and those of multicompute, for everything that an attempt creates."""
    return {
        **spec.tags,
        TAG_CLUSTER: record.name,
        TAG_ID: record.id,
        TAG_ATTEMPT: attempt.token,
        TAG_OWNER: record.owner,
        TAG_EXPIRES_AT: expiry_tag(record.expires_at),
    }
