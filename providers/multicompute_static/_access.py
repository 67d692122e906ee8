"""The way to log in to the machines of the inventory."""

from dataclasses import replace

from multicompute.provider import Access
from multicompute.remote.target import SshHost
from multicompute_static._inventory import Host
from multicompute_static._settings import StaticSettings


def ssh_host(settings: StaticSettings, host: Host, *, pinned: str) -> SshHost:
    """Return how to log in to a machine; the inventory takes precedence over the user's OpenSSH configuration.

    Args:
        settings: Where that configuration is.
        host: The machine.
        pinned: The host key that it showed on first contact; "" before.
    """
    config = settings.ssh_config_path
    found = SshHost(
        address=host.address,
        port=host.port,
        user=host.user,
        identity=settings.expanded(host.identity_file) if host.identity_file else None,
        host_key=host.host_key or pinned or None,
        known_hosts=settings.known_hosts_path,
        ssh_config=config if config is not None and config.is_file() else None,
    )
    # An alias of the configuration may have a port of its own, which 22, the default here, must not replace.
    return replace(found, port=None) if found.ssh_config is not None and host.port == 22 else found


def access(settings: StaticSettings, host: Host, *, pinned: str) -> Access:
    """Return the same for the core, which runs commands on the machine while a cluster has leased it."""
    found = ssh_host(settings, host, pinned=pinned)
    return Access(
        address=found.address,
        port=found.port,
        user=found.user,
        internal=host.private_address,
        host_key=found.host_key or "",
        identity=str(found.identity or ""),
        is_configured=True,
        is_own=True,
        ssh_config=str(found.ssh_config or ""),
    )
