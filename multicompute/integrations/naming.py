"""Names and tags for clusters that belong to a scheduler's runs: the same for every try of the same piece of work."""

import re
from hashlib import sha256
from typing import Final

_DIGEST: Final = 12
_PREFIX: Final = 40 - _DIGEST - 1
_TAG: Final = 63
"""What the strictest cloud takes as the value of a tag."""


def run_name(prefix: str, *parts: str) -> str:
    """A cluster's name that is the same whenever the parts are, and another one otherwise.

    Args:
        prefix: what people should see in it, such as the name of the flow; cut and put into the alphabet of names.
        parts: what tells this piece of work from all others. They must not count tries.

    Returns:
        2 to 40 of a-z, 0-9 and '-', beginning with a letter.
    """
    shown = re.sub(r"[^a-z0-9]+", "-", prefix.lower())[:_PREFIX].strip("-")
    if not shown[:1].isalpha():
        shown = f"run-{shown}"[:_PREFIX].strip("-")
    # NUL stands in no part, so that ("ab", "c") and ("a", "bc") stay apart.
    return f"{shown}-{sha256(chr(0).join(parts).encode()).hexdigest()[:_DIGEST]}"


def tag_value(text: str) -> str:
    """`text` as the value of a tag that every cloud takes: cut, and what is not taken everywhere replaced by '-'."""
    return re.sub(r"[^A-Za-z0-9 _.:/=+@-]", "-", text)[:_TAG].strip()
