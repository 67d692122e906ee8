"""Tags: which of them a selector selects, which names a cloud accepts, and their encoding in a small alphabet."""

import re
from collections.abc import Mapping
from typing import Final

from multicompute.errors import InvalidRequestError
from multicompute.provider import TAG_ATTEMPT, TAG_ID, TAG_OWNER, Selector

_PLAIN: Final = re.compile(r"[a-z0-9-]")
_ESCAPED: Final = re.compile(r"__([0-9a-f]{2})")


def selected_tags(selector: Selector) -> dict[str, str]:
    """Return the tags, with their values, that a resource must have for `selector` to select it.

    Empty for a selector of everything of ours: then list the resources that have the tag `TAG_ID`, with any value (I9).
    """
    wanted = {TAG_ID: selector.cluster_id, TAG_ATTEMPT: selector.token, TAG_OWNER: selector.owner}
    return {key: value for key, value in wanted.items() if value is not None}


def is_selected(tags: Mapping[str, str], selector: Selector) -> bool:
    """Return whether a resource with these tags is ours and selected, for a listing that the cloud can't filter."""
    return TAG_ID in tags and all(tags.get(key) == value for key, value in selected_tags(selector).items())


def check_tag_keys(tags: Mapping[str, str], pattern: str, *, provider: str, allowed: str) -> None:
    """Refuse, before anything is created, a tag whose name the cloud would refuse afterwards.

    Args:
        tags: All tags of a launch.
        pattern: The regular expression that a name must match in full, as in `TagLimits.key_pattern`.
        provider: The provider's name.
        allowed: What the cloud accepts, for the message: "EC2 allows A-Z, a-z, 0-9 and - _".

    Raises:
        InvalidRequestError: A name does not match.
    """
    for key in tags:
        if not re.fullmatch(pattern, key):
            raise InvalidRequestError(
                f"{provider}: tags: the name {key!r} is not accepted; {allowed}",
                provider=provider,
                code="InvalidTagKey",
                hint="rename the tag",
            )


def encode_tag(text: str) -> str:
    """Encode a tag's name or value for a cloud whose labels have only lower-case letters, digits, "-" and "_".

    Any other character becomes "__" and two hexadecimal digits for each of its bytes, so texts that differ stay different.

    >>> encode_tag("me@host"), encode_tag("a_b")
    ('me__40host', 'a_b')
    """
    encoded: list[str] = []
    for index, character in enumerate(text):
        if _PLAIN.match(character) or (character == "_" and text[index + 1 : index + 2] != "_"):
            encoded.append(character)
        else:
            encoded += [f"__{byte:02x}" for byte in character.encode()]
    return "".join(encoded)


def decode_tag(label: str) -> str:
    """Return what `encode_tag` was given; a label that it did not write is returned as it is.

    >>> decode_tag("me__40host")
    'me@host'
    """
    raw = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), label)
    try:
        return raw.encode("latin-1").decode()
    except ValueError:
        return label
