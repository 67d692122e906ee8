"""Tags in EC2's form, and the filters that find resources by them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from multicompute.errors import InvalidRequestError
from multicompute.provider import TAG_ATTEMPT, TAG_ID, TAG_OWNER, Selector

# Nodes read their expiry from their own tags; with tags in the metadata EC2 takes keys of these characters only, and not these names:
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html
KEY_PATTERN: Final = r"[0-9A-Za-z\-_+=,.@:]{1,128}"
_RESERVED_KEYS: Final = frozenset({".", "..", "_index"})


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse, before anything is made, what EC2 would refuse after it.

    Raises:
        InvalidRequestError: a key can't be a tag that is readable on the node.
    """
    for key in tags:
        if not re.fullmatch(KEY_PATTERN, key) or key in _RESERVED_KEYS:
            raise InvalidRequestError(
                f"aws: tags: {key!r} can't be read on the node; EC2 allows A-Z, a-z, 0-9 and - _ + = , . @ : there",
                provider="aws",
                code="InvalidTagKey",
                hint="rename the tag",
            )


def ec2_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as EC2 takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def plain_tags(tags: Iterable[Mapping[str, Any]] | None) -> dict[str, str]:
    """Tags as EC2 reports them, as a mapping."""
    return {str(tag["Key"]): str(tag["Value"]) for tag in tags or ()}


def tag_filters(selector: Selector) -> list[dict[str, Any]]:
    """The filters that find what `selector` means; everything of ours where it names nothing."""
    wanted = ((TAG_ID, selector.cluster_id), (TAG_ATTEMPT, selector.token), (TAG_OWNER, selector.owner))
    filters = [{"Name": f"tag:{key}", "Values": [_literal(value)]} for key, value in wanted if value is not None]
    return filters or [{"Name": "tag-key", "Values": [TAG_ID]}]


def _literal(value: str) -> str:
    """Filters take wildcards; an owner with a "*" in it must not select everybody's machines."""
    return re.sub(r"([\\*?])", r"\\\1", value)
