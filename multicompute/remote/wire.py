"""Finds out whether an SSH server can be reached from here."""

import socket
from typing import Final

_SECONDS: Final = 2.0
_BANNER_SECONDS: Final = 5.0


def is_reachable(address: str, port: int, *, seconds: float = _SECONDS) -> bool:
    """Return whether anything at the address answers: a node that is still booting refuses connections."""
    try:
        socket.create_connection((address, port), timeout=seconds).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def answers(address: str, port: int) -> bool:
    """Return whether an SSH server answers with its version (RFC 4253, section 4.2)."""
    try:
        with socket.create_connection((address, port), timeout=_BANNER_SECONDS) as connection:
            connection.settimeout(_BANNER_SECONDS)
            return connection.recv(255).startswith(b"SSH-2.0-")
    except OSError:
        return False
