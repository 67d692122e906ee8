"""The addresses from which SSH is allowed to the nodes of a cluster."""

import ipaddress
import logging
import threading
from typing import Final

from multicompute.provider_kit.endpoints import is_loopback
from multicompute.provider_kit.vendor_errors import Place

log = logging.getLogger(__name__)

_SECONDS: Final = 3.0


class SshSources:
    """The CIDR blocks from which a provider opens port 22: those configured, else the caller's own address."""

    def __init__(self, configured: tuple[str, ...], *, endpoint: str | None, address_service: str) -> None:
        """Keep what `blocks` needs; no call is made before it.

        Args:
            configured: The setting `ssh_from`.
            endpoint: The endpoint that the provider uses instead of the vendor's own, None for the vendor's own. The caller's address is
                only looked up for the vendor's own.
            address_service: A URL that answers with the caller's address, as text.
        """
        self._configured = configured
        self._endpoint = endpoint
        self._address_service = address_service
        self._own_address: str | None = None
        self._lock = threading.Lock()

    def blocks(self, place: Place) -> tuple[str, ...]:
        """Return the blocks; none, with a warning, if the caller's address can't be found: then port 22 stays closed."""
        if self._configured:
            return self._configured
        if is_loopback(self._endpoint):
            return ("127.0.0.1/32",)
        with self._lock:
            if self._own_address is None and self._endpoint is None:
                self._own_address = _own_address(self._address_service)
        if not self._own_address:
            log.warning("%s: port 22 stays closed, because the caller's address is not known; set ssh_from", place)
            return ()
        return (f"{self._own_address}/32",)


def _own_address(service: str) -> str:
    """Return the address from which this machine is seen from outside, "" if it can't be found."""
    import urllib.request

    try:
        with urllib.request.urlopen(service, timeout=_SECONDS) as answer:
            return str(ipaddress.IPv4Address(answer.read(64).decode("ascii").strip()))
    except (OSError, ValueError):
        return ""
