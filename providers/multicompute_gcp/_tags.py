"""Tags in Google's forms: labels and, where there are none, descriptions; and which of them a selector selects."""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from multicompute.errors import InvalidRequestError
from multicompute.provider import TAG_ID, TAG_OWNER, Selector
from multicompute.provider_kit.tags import decode_tag, encode_tag, selected_tags

# What a tag's name may contain; characters that labels do not allow are encoded.
KEY_PATTERN: Final = r"[\x21-\x7e]+"
_LENGTH: Final = 63
# https://cloud.google.com/compute/docs/labeling-resources: a key begins with a letter. No tag contains NUL, so this marks a key
# that does not.
_KEY_START: Final = "k__00"
# A description may have 2,048 characters.
_DESCRIPTION_LENGTH: Final = 2000


def labels_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags as labels.

    Raises:
        InvalidRequestError: one is too long once it is encoded.
    """
    labels: dict[str, str] = {}
    for key, value in tags.items():
        name = encode_tag(key)
        name = name if name[:1].isalpha() else _KEY_START + name
        label = _label_value(key, value)
        for text in (name, label):
            if len(text) > _LENGTH:
                raise InvalidRequestError(
                    f"gcp: tags: {key}={value!r} as a label is {text!r}, which has {len(text)} characters; Google's limit is {_LENGTH}",
                    provider="gcp",
                    code="InvalidLabel",
                    hint="shorten it, or use lower-case letters, digits, - and _ only, which need no encoding",
                )
        labels[name] = label
    return labels


def _label_value(key: str, value: str) -> str:
    """Return the value of a tag as a label. A long owner is cut, with a digest, so different owners stay different."""
    label = encode_tag(value)
    if key != TAG_OWNER or len(label) <= _LENGTH:
        return label
    return f"{label[:46]}-{hashlib.sha256(value.encode()).hexdigest()[:16]}"


def tags_of(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return the tags that labels were made from."""
    return {decode_tag(key.removeprefix(_KEY_START)): decode_tag(value) for key, value in (labels or {}).items()}


def label_filter(selector: Selector) -> str:
    """Return the filter of a listing that finds what `selector` selects; everything of ours if it names nothing."""
    wanted = _selected_labels(selector).items()
    return " AND ".join(f'(labels.{key} = "{value}")' for key, value in wanted) or f"labels.{TAG_ID}:*"


def has_selected_labels(labels: Mapping[str, str], selector: Selector) -> bool:
    """Return whether a resource with these labels is ours and selected, for an API whose listings have no filter."""
    return TAG_ID in labels and all(labels.get(key) == value for key, value in _selected_labels(selector).items())


def _selected_labels(selector: Selector) -> dict[str, str]:
    return {key: _label_value(key, value) for key, value in selected_tags(selector).items()}


def description_of(tags: Mapping[str, str]) -> str:
    """Return tags as the description of a firewall rule or resource policy, which can't have labels; only ours if it would be too long."""
    ours = {key: value for key, value in tags.items() if key.startswith("multicompute-")}
    text = json.dumps(dict(tags), sort_keys=True)
    return text if len(text) <= _DESCRIPTION_LENGTH else json.dumps(ours, sort_keys=True)


def described_tags(description: str | None) -> dict[str, str]:
    """Return the tags in a description; none if we did not write it."""
    try:
        read = json.loads(description or "")
    except ValueError:
        return {}
    if not isinstance(read, dict) or TAG_ID not in read:
        return {}
    return {str(key): str(value) for key, value in read.items()}
