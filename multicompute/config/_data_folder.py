"""The folder for data that this package writes on this machine."""

from collections.abc import Mapping
from pathlib import Path


def data_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of this package below `XDG_DATA_HOME`."""
    named = environment.get("XDG_DATA_HOME", "")
    # A relative path is to be ignored: XDG Base Directory Specification, "Basics".
    if not named.startswith("/"):
        home = environment.get("HOME")
        named = f"{home or Path.home()}/.local/share"
    return Path(named, "multicompute")
