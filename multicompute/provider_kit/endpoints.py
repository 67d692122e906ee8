"""Checks of API endpoints: https everywhere, and plain http on loopback addresses only."""

import ipaddress
from datetime import timedelta
from typing import Final
from urllib.parse import SplitResult, urlsplit

from multicompute.errors import ConfigError

# A provider that talks to a loopback address talks to a local cloud, which answers at once: tests should not wait at a real cloud's pace.
LOCAL_CONSISTENCY_WINDOW: Final = timedelta(seconds=5)
"""`Provider.consistency_window` on a loopback endpoint; local clouds delay listings by less than this, where a test asks them to."""
LOCAL_POLL_INTERVAL: Final = timedelta(milliseconds=50)
"""`Provider.poll_interval` on a loopback endpoint."""


def is_loopback(url: str | None) -> bool:
    """Return whether `url` leads to this machine and nowhere else; False for None."""
    parts = _split(url or "")
    host = (parts and parts.hostname) or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def endpoint_problem(url: str) -> str:
    """Return why `url` must not be used as an endpoint, or "" if it may be.

    Credentials and boot scripts travel over it, so plain http is only allowed where nothing leaves the machine.
    """
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        return 'not a URL; write "https://host:port"'
    if parts.scheme == "http" and not is_loopback(url):
        return "plain http is allowed on loopback addresses only; use https"
    return ""


def check_endpoint(url: str | None, *, name: str, provider: str) -> None:
    """Refuse an endpoint that does not come from the settings: from the vendor's own variables or files.

    Args:
        url: The endpoint, None for the vendor's default.
        name: The setting or variable to name in the message.
        provider: The provider's name.

    Raises:
        ConfigError: It is not a URL, or is plain http to another machine.
    """
    problem = endpoint_problem(url) if url is not None else ""
    if problem:
        raise ConfigError(f"{provider}: {name}={url!r}: {problem}", provider=provider)


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL; None if its address or its port is malformed."""
    try:
        parts = urlsplit(url)
        # The port is only checked when it is read.
        return parts if parts.port != 0 else None
    except ValueError:
        return None
