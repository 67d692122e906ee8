"""Reads from the user's SSH configuration whether hosts are reached through others."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

_PROXIES: Final = ("proxyjump", "proxycommand")


def has_proxy(config: Path, address: str) -> bool:
    """Return whether the configuration names a jump host or a proxy command for this address.

    `Host` sections and what comes before them are read; `Match` and `Include` are not.
    """
    try:
        lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    applies = True
    for line in lines:
        keyword, value = _split(line)
        if keyword == "host":
            applies = _matches(value.split(), address)
        elif keyword == "match":
            applies = value.strip().lower() == "all"
        elif applies and keyword in _PROXIES:
            # The first value holds, as in OpenSSH.
            return value.strip().lower() != "none"
    return False


def _split(line: str) -> tuple[str, str]:
    """Return keyword and value: "Keyword value" or "Keyword=value"."""
    stripped = line.strip()
    if not stripped or stripped.startswith("#"):
        return "", ""
    keyword, _, value = stripped.replace("=", " ", 1).partition(" ")
    return keyword.lower(), value.strip().strip('"')


def _matches(patterns: list[str], address: str) -> bool:
    refused = any(pattern.startswith("!") and fnmatchcase(address, pattern[1:]) for pattern in patterns)
    return not refused and any(not pattern.startswith("!") and fnmatchcase(address, pattern) for pattern in patterns)
