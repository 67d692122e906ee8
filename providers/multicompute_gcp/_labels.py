"""Tags in the alphabet of Google's labels, names made from tokens and cluster ids, and what finds both again."""

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from typing import Final

from multicompute.errors import InvalidRequestError
from multicompute.provider import TAG_ATTEMPT, TAG_ID, TAG_OWNER, Selector

# What becomes a label key of at most 63 characters at all; the rest of the alphabet is encoded.
KEY_PATTERN: Final = r"[\x21-\x7e]+"
_LENGTH: Final = 63
# https://cloud.google.com/compute/docs/labeling-resources: lower case letters, digits, underscores and dashes; keys begin with a letter.
_PLAIN: Final = re.compile(r"[a-z0-9-]")
_ESCAPED: Final = re.compile(r"__([0-9a-f]{2})")
# No tag has a NUL in it, so this marks a key that would not begin with a letter.
_KEY_START: Final = "k__00"
# RFC 1035, as Compute Engine asks for names; room is left for what is appended.
_NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_REQUESTS: Final = uuid.UUID("5f9d3e0c-6c0b-4e43-9d7e-6d2b6c7a9a51")


def encode(text: str) -> str:
    """`text` in the alphabet of labels: what is not in it becomes "__" and two hexadecimal digits per byte.

    >>> encode("me@host"), encode("a_b")
    ('me__40host', 'a_b')
    """
    out: list[str] = []
    for index, character in enumerate(text):
        if _PLAIN.match(character) or (character == "_" and text[index + 1 : index + 2] != "_"):
            out.append(character)
        else:
            out += [f"__{byte:02x}" for byte in character.encode()]
    return "".join(out)


def decode(label: str) -> str:
    """What `encode` was given.

    >>> decode("me__40host")
    'me@host'
    """
    raw = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), label)
    try:
        return raw.encode("latin-1").decode()
    except ValueError:
        # Not written by us.
        return label


def owner_label(owner: str) -> str:
    """The owner as a label; one that is too long is cut, with a digest, so that it still tells owners apart."""
    label = encode(owner)
    return label if len(label) <= _LENGTH else f"{label[:46]}-{hashlib.sha256(owner.encode()).hexdigest()[:16]}"


def labels_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as labels.

    Raises:
        InvalidRequestError: one is too long in this alphabet.
    """
    labels: dict[str, str] = {}
    for key, value in tags.items():
        name = encode(key)
        name = name if name[:1].isalpha() else _KEY_START + name
        label = owner_label(value) if key == TAG_OWNER else encode(value)
        for text in (name, label):
            if len(text) > _LENGTH:
                raise InvalidRequestError(
                    f"gcp: tags: {key}={value!r} becomes {text!r} as a label, which has {len(text)} characters; Google takes {_LENGTH}",
                    provider="gcp",
                    code="InvalidLabel",
                    hint="lower case letters, digits, - and _ need no encoding; or shorten it",
                )
        labels[name] = label
    return labels


def tags_of(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Labels as the tags that they were made from."""
    return {decode(key.removeprefix(_KEY_START)): decode(value) for key, value in (labels or {}).items()}


def label_filter(selector: Selector) -> str:
    """The filter of a listing that finds what `selector` means; everything of ours where it names nothing."""
    wanted = _wanted(selector)
    return " AND ".join(f'(labels.{key} = "{value}")' for key, value in wanted) or f"labels.{TAG_ID}:*"


def is_meant(labels: Mapping[str, str] | None, selector: Selector) -> bool:
    """The same for an API whose listings have no filter."""
    labels = labels or {}
    return TAG_ID in labels and all(labels.get(key) == value for key, value in _wanted(selector))


def _wanted(selector: Selector) -> list[tuple[str, str]]:
    values = (
        (TAG_ID, None if selector.cluster_id is None else encode(selector.cluster_id)),
        (TAG_ATTEMPT, None if selector.token is None else encode(selector.token)),
        (TAG_OWNER, None if selector.owner is None else owner_label(selector.owner)),
    )
    return [(key, value) for key, value in values if value is not None]


def name_of(text: str) -> str:
    """A name from a token or a cluster id: itself where it is one, else its digest."""
    return text if _NAME.fullmatch(text) else f"mc-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def part_name(token: str, index: int) -> str:
    """What the names of everything in one part of a launch begin with."""
    return f"{name_of(token)}-{index}"


def request_id(*words: str) -> str:
    """The idempotency key of a call, the same for the same words."""
    return str(uuid.uuid5(_REQUESTS, "\n".join(words)))


def bulk_id(token: str, part: int, zone: str, failures: int) -> str:
    """The idempotency key of a bulkInsert that has ended in a passing failure so many times."""
    return request_id("bulk", token, str(part), zone, *([str(failures)] if failures else []))


def last_of(url: str) -> str:
    """The name at the end of one of Google's URLs."""
    return url.rpartition("/")[2]


def region_of(zone: str) -> str:
    """The region that a zone is in."""
    return zone.rpartition("-")[0]


def description_of(tags: Mapping[str, str]) -> str:
    """Tags for what can't carry labels: firewall rules and resource policies have a text, which must not be too long."""
    ours = {key: value for key, value in tags.items() if key.startswith("multicompute-")}
    text = json.dumps(dict(tags), sort_keys=True)
    return text if len(text) <= 2000 else json.dumps(ours, sort_keys=True)


def described_tags(description: str | None) -> dict[str, str]:
    """The tags in a description, none where it is not one of ours."""
    try:
        read = json.loads(description or "")
    except ValueError:
        return {}
    if not isinstance(read, dict) or TAG_ID not in read:
        return {}
    return {str(key): str(value) for key, value in read.items()}
