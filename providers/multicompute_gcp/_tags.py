"""Tags in Google's forms: readable labels, and the exact tags in a description or in metadata; and what a selector selects by them."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from multicompute.provider import (
    RESERVED_TAG_PREFIX,
    TAG_ATTEMPT,
    TAG_CLUSTER,
    TAG_EXPIRES_AT,
    TAG_ID,
    TAG_OWNER,
    Selector,
)
from multicompute.provider_kit.tags import decode_tag, encode_tag, selected_tags

# https://cloud.google.com/compute/docs/labeling-resources: keys and values have up to 63 characters (lower-case letters, digits, _ and -),
# and a key begins with a letter.
_LENGTH: Final = 63
_NOT_ALLOWED: Final = re.compile(r"[^a-z0-9_-]")
_KEY_START: Final = "x_"
_OURS: Final = (TAG_CLUSTER, TAG_ID, TAG_ATTEMPT, TAG_OWNER, TAG_EXPIRES_AT)
# The values by which listings are filtered: those that are cut must stay different.
_SELECTED: Final = (TAG_ID, TAG_ATTEMPT, TAG_OWNER)
# How earlier versions marked the key of a label that does not begin with a letter.
_OLD_KEY_START: Final = "k__00"
# A description may have 2,048 characters.
_DESCRIPTION_LENGTH: Final = 2000


def labels_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags as labels that people can read; `description_of` keeps the exact tags."""
    return {name: _label_value(key, tags[key]) for key, name in _label_names(tags).items()}


def _label_names(keys: Iterable[str]) -> dict[str, str]:
    """Return the label of each tag's name. A name that is a label already keeps it; others that would be equal get a digest."""
    keys = sorted(keys)
    plain = {key: _label_key(key) for key in keys}
    exact = {key for key, name in plain.items() if key == name}
    names: dict[str, str] = {}
    for key, name in plain.items():
        is_taken = key not in exact and (
            name in exact or name in _OURS or sum(other == name for other in plain.values()) > 1
        )
        names[key] = _unique_label_key(key) if is_taken else name
    return names


def _unique_label_key(key: str) -> str:
    return f"{_label_key(key)[:54]}-{_digest(key)[:8]}"


def _label_key(key: str) -> str:
    name = _readable(key)
    return (name if name[:1].isalpha() else _KEY_START + name)[:_LENGTH]


def _label_value(key: str, value: str) -> str:
    label = _readable(value)
    if key in _SELECTED and len(label) > _LENGTH:
        return _shortened(label, value)
    return label[:_LENGTH]


def _readable(text: str) -> str:
    return _NOT_ALLOWED.sub("_", text.lower())


def _old_label_value(key: str, value: str) -> str:
    """Return the label that earlier versions wrote for a value, with escapes such as "me__40host" for "me@host"."""
    label = encode_tag(value)
    return _shortened(label, value) if key == TAG_OWNER and len(label) > _LENGTH else label


def _shortened(label: str, value: str) -> str:
    return f"{label[:46]}-{_digest(value)[:16]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def tags_of(labels: Mapping[str, str] | None, exact: str | None = None) -> dict[str, str]:
    """Return the tags of a resource.

    Args:
        labels: Its labels. They decide which tags exist, and their values decide where they were changed.
        exact: The exact tags, from its description or metadata. Without them an earlier version wrote the labels, or another tool.
    """
    labels, written = dict(labels or {}), described_tags(exact)
    if not written:
        return {decode_tag(key.removeprefix(_OLD_KEY_START)): decode_tag(value) for key, value in labels.items()}
    tags: dict[str, str] = {}
    for key, value in written.items():
        name = next((name for name in (_unique_label_key(key), _label_key(key)) if name in labels), "")
        if name:
            label = labels.pop(name)
            tags[key] = value if label == _label_value(key, value) else label
    return labels | tags


def label_filter(selector: Selector) -> str:
    """Return the filter of a listing that finds everything that `selector` selects; everything of ours if it names nothing.

    Labels of two values may be equal, so `is_selected` decides by the exact tags.
    """
    wanted = [
        " OR ".join(f'(labels.{key} = "{label}")' for label in _label_values(key, value))
        for key, value in selected_tags(selector).items()
    ]
    return " AND ".join(wanted) or f"labels.{TAG_ID}:*"


def is_selected(labels: Mapping[str, str], exact: str | None, selector: Selector) -> bool:
    """Return whether a resource with these labels is ours and selected; see `tags_of` for `exact`."""
    tags, written = tags_of(labels, exact), described_tags(exact)
    return TAG_ID in tags and all(
        tags.get(key) == value if key in written else labels.get(key) == _old_label_value(key, value)
        for key, value in selected_tags(selector).items()
    )


def _label_values(key: str, value: str) -> list[str]:
    """Return the labels that a value may have: today's and that of earlier versions."""
    return list(dict.fromkeys((_label_value(key, value), _old_label_value(key, value))))


def description_of(tags: Mapping[str, str]) -> str:
    """Return the exact tags as a description. If it would be too long, tags that are equal to their labels are left out, then all of the user."""
    labels, names = labels_of(tags), _label_names(tags)
    changed = {key: value for key, value in tags.items() if labels[names[key]] != value or names[key] != key}
    ours = {key: value for key, value in tags.items() if key.startswith(RESERVED_TAG_PREFIX)}
    texts = [json.dumps(chosen, sort_keys=True) for chosen in (dict(tags), ours | changed, ours)]
    return next((text for text in texts if len(text) <= _DESCRIPTION_LENGTH), texts[-1])


def exact_tags_text(tags: Mapping[str, str]) -> str:
    """Return the exact tags as a value of metadata, which may be long."""
    return json.dumps(dict(tags), sort_keys=True)


def described_tags(description: str | None) -> dict[str, str]:
    """Return the tags in a description; none if we did not write it."""
    try:
        read = json.loads(description or "")
    except ValueError:
        return {}
    if not isinstance(read, dict) or TAG_ID not in read:
        return {}
    return {str(key): str(value) for key, value in read.items()}
