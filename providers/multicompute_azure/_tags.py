"""Tags in Azure's form, and which of them a selector selects."""

from collections.abc import Mapping
from typing import Final

from multicompute.provider import Selector
from multicompute.provider_kit.tags import check_tag_keys, is_selected

# https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources: not < > % & \ ? / and no control characters.
KEY_PATTERN: Final = r"[^<>%&\\?/\x00-\x1f]{1,512}"


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse, before anything is created, a tag that Azure would refuse afterwards.

    Raises:
        InvalidRequestError: Azure does not accept a key.
    """
    allowed = "Azure allows 512 characters, and none of < > % & \\ ? /"
    check_tag_keys(tags, KEY_PATTERN, provider="azure", allowed=allowed)


def are_selected(tags: Mapping[str, str], selector: Selector) -> bool:
    """Return whether a resource with these tags is ours and selected; on Azure the keys of tags have no case, their values have."""
    return is_selected({key.lower(): value for key, value in tags.items()}, selector)


def has_tag(tags: Mapping[str, str], name: str) -> bool:
    """Return whether a resource has a tag; the keys of tags have no case."""
    return any(key.lower() == name for key in tags)


def tag_filter(name: str, value: str | None = None) -> str:
    """Return the filter of Resource Manager's listings for one tag; OData doubles a quote in the value."""
    only = f"tagName eq '{name}'"
    return only if value is None else only + " and tagValue eq '" + value.replace("'", "''") + "'"
