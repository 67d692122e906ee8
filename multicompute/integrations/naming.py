"""Names and tags of clusters that belong to a run of a scheduler. They are the same for every try of the same work."""

import re
from hashlib import sha256
from typing import Final

DIGITS: Final = 12
_READABLE: Final = 40 - DIGITS - 1
_TAG: Final = 63
"""The shortest limit of all clouds on the value of a tag."""


def slug(text: str) -> str:
    """Return `text` in lower case, with each sequence of other characters than a-z and 0-9 replaced by '-'."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def name_with_digest(text: str, key: str, *, prefix: str) -> str:
    """Return a cluster name: a readable part and a digest.

    Args:
        text: What people should recognize; shortened and converted to the characters of names.
        key: Identifies the work, and must not change between its tries. Different keys get different names.
        prefix: Put in front of a readable part that does not begin with a letter.

    Returns:
        2 to 40 of a-z, 0-9 and '-', beginning with a letter.
    """
    readable = slug(text)[:_READABLE].strip("-")
    if not readable[:1].isalpha():
        readable = f"{prefix}-{readable}"[:_READABLE].strip("-")
    return f"{readable}-{sha256(key.encode()).hexdigest()[:DIGITS]}"


def run_name(text: str, *parts: str) -> str:
    """Return a cluster name for a piece of work.

    Args:
        text: What people should recognize, such as the name of the flow.
        parts: What identifies the work. They must not count tries.
    """
    # No part contains a NUL, so that ("ab", "c") and ("a", "bc") differ.
    return name_with_digest(text, chr(0).join(parts), prefix="run")


def tag_value(text: str) -> str:
    """Return `text` as a tag value that every cloud accepts: shortened, with '-' for other characters."""
    return re.sub(r"[^A-Za-z0-9 _.:/=+@-]", "-", text)[:_TAG].strip()
