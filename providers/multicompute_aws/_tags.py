"""Tags in EC2's form, and the filters that find resources by them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from multicompute.provider import TAG_ID, Selector
from multicompute.provider_kit.tags import selected_tags
from multicompute_aws._names import escaped

# With tags in the metadata EC2 accepts keys of these characters only, and not these names; a launch with others fails:
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html
_IN_METADATA: Final = re.compile(r"(?!(?:\.{1,2}|_index)$)[0-9A-Za-z\-_+=,.@:]+")


def fit_metadata(tags: Mapping[str, str]) -> bool:
    """Return whether an instance with these tags can have its tags in its metadata."""
    return all(_IN_METADATA.fullmatch(key) for key in tags)


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
