"""The URL of the ledger, taken apart."""

import re
from pathlib import Path
from typing import Final

SQLITE: Final = "sqlite:///"
_URL: Final = r"[a-z][a-z0-9+]*://(?P<user>[^@?#]*@)?(?P<place>[^@?#]*)([?#][^@]*)?"


def state_file(state: str) -> Path | None:
    """Return the file of an SQLite ledger, None if `state` names a server."""
    return Path(state.removeprefix(SQLITE)).expanduser() if state.startswith(SQLITE) else None


def without_password(state: str) -> str:
    """Return where a ledger is without user and password, for messages."""
    if state_file(state) is not None:
        return state
    scheme, sign, _ = state.partition("://")
    # If it is not clear which part is the password, nothing but the scheme is shown.
    found = re.fullmatch(_URL, state, re.DOTALL)
    return f"{scheme if sign else ''}://{'...@' if found and found['user'] else ''}{found['place'] if found else '...'}"
