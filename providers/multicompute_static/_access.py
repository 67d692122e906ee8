"""How to log in to the machines of the inventory."""

from dataclasses import replace

from multicompute.provider import Settings
from multicompute.remote.target import SshHost
from multicompute_static._inventory import Host, read_inventory
from multicompute_static._settings import StaticSettings


def ssh_host(settings: Settings, host: str) -> SshHost | None:
    """Return how to log in to a machine, by the id of its node; None if the inventory does not have it.

    The host key is the one of the inventory, else the one that the machine showed on first contact.
    """
    read = StaticSettings.of(settings)
    found = next((each for each in read_inventory(read.path) if each.id == host), None)
    if found is None:
        return None
    pinned = ""
    if settings.host_book is not None and not found.host_key:
        note = settings.host_book().notes().get(host)
        pinned = note.host_key if note else ""
    return access(read, found, pinned=pinned)


def access(settings: StaticSettings, host: Host, *, pinned: str) -> SshHost:
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
