"""Tags in Azure's form, and whether they are those that a selector means."""

import re
from collections.abc import Mapping
from typing import Final

from multicompute.errors import InvalidRequestError
from multicompute.provider import TAG_ATTEMPT, TAG_ID, TAG_OWNER, Selector

# https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources: not < > % & \ ? / and no control characters; and the
# instance metadata service gives a node its tags as one text, "key:value;key:value", in which our own names must stay recognisable.
KEY_PATTERN: Final = r"[^<>%&\\?/\x00-\x1f]{1,512}"


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse, before anything is made, what Azure would refuse after it.

    Raises:
        InvalidRequestError: a name that Azure does not take.
    """
    for key in tags:
        if not re.fullmatch(KEY_PATTERN, key):
            raise InvalidRequestError(
                f"azure: tags: {key!r} is no name of a tag; Azure allows neither < > % & \\ ? / nor more than 512 characters",
                provider="azure",
                code="InvalidTagNameCharacters",
                hint="rename the tag",
            )


def are_meant(tags: Mapping[str, str], selector: Selector) -> bool:
    """Whether what carries `tags` is ours and selected; names of tags are not case-sensitive on Azure, values are."""
    found = {key.lower(): value for key, value in tags.items()}
    if TAG_ID not in found:
        return False
    wanted = ((TAG_ID, selector.cluster_id), (TAG_ATTEMPT, selector.token), (TAG_OWNER, selector.owner))
    return all(value is None or found.get(key) == value for key, value in wanted)


def tag_filter(name: str, value: str | None = None) -> str:
    """The filter of Resource Manager's listings for one tag; a quote in the value is doubled, as OData wants it."""
    only = f"tagName eq '{name}'"
    return only if value is None else only + " and tagValue eq '" + value.replace("'", "''") + "'"
