"""Tags in EC2's form, and the filters that find resources by them."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from multicompute.provider import TAG_ID, Selector
from multicompute.provider_kit.tags import check_tag_keys, selected_tags
from multicompute_aws._names import escaped

# Nodes read their expiry from their own tags. With tags in the metadata EC2 accepts keys of these characters only, and not these names:
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html
KEY_PATTERN: Final = r"(?!(?:\.{1,2}|_index)$)[0-9A-Za-z\-_+=,.@:]{1,128}"


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse, before anything is created, a tag that EC2 would refuse afterwards.

    Raises:
        InvalidRequestError: a key can't be read on the node.
    """
    allowed = "EC2 allows A-Z, a-z, 0-9 and - _ + = , . @ : in tags that nodes can read"
    check_tag_keys(tags, KEY_PATTERN, provider="aws", allowed=allowed)


def ec2_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags in the form in which EC2 takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def plain_tags(tags: Iterable[Mapping[str, Any]] | None) -> dict[str, str]:
    """Return tags in EC2's form as a mapping."""
    return {str(tag["Key"]): str(tag["Value"]) for tag in tags or ()}


def tag_filters(selector: Selector) -> list[dict[str, Any]]:
    """Return the filters that find what `selector` selects; everything of ours if it names nothing."""
    wanted = selected_tags(selector)
    filters = [{"Name": f"tag:{key}", "Values": [escaped(value)]} for key, value in wanted.items()]
    return filters or [{"Name": "tag-key", "Values": [TAG_ID]}]
