"""EC2's rules for tags and TagSpecifications."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from multicompute_aws.local.state import Tags
from multicompute_aws.local.wire import AwsError

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
MAXIMUM_TAGS = 50
_METADATA_KEY = re.compile(r"[0-9a-zA-Z\-_+=,.@:]{1,255}")
_MAXIMUM_KEY = 128
_MAXIMUM_VALUE = 256


def read_tags(pairs: Sequence[Mapping[str, str]]) -> Tags:
    """Return the tags of a request.

    Raises:
        AwsError: A tag is too long, reserved or repeated, or there are too many.
    """
    tags: Tags = {}
    for pair in pairs:
        key, value = pair.get("Key", ""), pair.get("Value", "")
        _check(key, value)
        if key in tags:
            raise AwsError("InvalidParameterValue", f"Duplicate tag key '{key}' specified.")
        tags[key] = value
    check_count(tags)
    return tags


def _check(key: str, value: str) -> None:
    if not key:
        raise AwsError("InvalidParameterValue", "Tag keys can't be empty.")
    if key.lower().startswith("aws:"):
        raise AwsError("InvalidParameterValue", f"Tag keys starting with 'aws:' are reserved for internal use: '{key}'")
    if len(key) > _MAXIMUM_KEY:
        raise AwsError("InvalidParameterValue", f"Tag key exceeds the maximum length of {_MAXIMUM_KEY} characters")
    if len(value) > _MAXIMUM_VALUE:
        raise AwsError("InvalidParameterValue", f"Tag value exceeds the maximum length of {_MAXIMUM_VALUE} characters")


def check_metadata_keys(tags: Iterable[str]) -> None:
    """Refuse keys that an instance with its tags in its metadata can't have.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html; the message is that of
    https://github.com/aws/karpenter-provider-aws/issues/1527.
    """
    for key in tags:
        if not _METADATA_KEY.fullmatch(key) or key in (".", "..", "_index"):
            raise AwsError(
                "InvalidParameterValue",
                f"'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{{1,255}}), and must not be a"
                " reserved name ('.', '..', '_index')",
            )


def check_count(tags: Iterable[str]) -> None:
    """Refuse more tags than a resource can have."""
    if len(set(tags)) > MAXIMUM_TAGS:
        raise AwsError("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")


def read_specifications(specifications: Sequence[Mapping[str, Any]], allowed: Sequence[str]) -> dict[str, Tags]:
    """Return resource type -> tags, from the TagSpecifications of a request that creates resources of the `allowed` types."""
    found: dict[str, Tags] = {}
    for specification in specifications:
        kind = specification.get("ResourceType", "")
        if kind not in allowed:
            raise AwsError(
                "InvalidParameterValue", f"'{kind}' is not a valid taggable resource type for this operation."
            )
        if kind in found:
            raise AwsError("InvalidParameterValue", f"Tag specifications must not repeat the resource type '{kind}'.")
        found[kind] = read_tags(specification.get("Tags", []))
    return found


def tag_set(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags in the format of responses."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
