"""Finds the refreshed tables that are in use; every plan asks, so this imports nothing and calls the system once per provider."""

import os
from typing import Final

FORMAT: Final = "1"
"""The number of the layout, in the name of each version. Tables of another layout are not used; the packaged ones are."""


def in_use(folder: str, provider: str) -> str | None:
    """Return the folder of the refreshed tables of a provider, None if it has none."""
    try:
        target = os.readlink(os.path.join(folder, provider))
    except OSError:
        return None
    # Without pathlib: every plan asks this for every cloud.
    path = os.path.join(folder, target)
    return path if os.path.basename(target).startswith(f"{FORMAT}-") and os.path.isdir(path) else None
