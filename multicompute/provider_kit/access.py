"""The way to log in to a node: its address, the user of its image, and tools that reach nodes without a public address."""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from multicompute.node import Node
from multicompute.provider import Access

if TYPE_CHECKING:
    from multicompute.provider_kit.settings import SshSettings

LOCAL_SHELL: Final = "/_local/shell/"
"""The path below which a local cloud reports the shells of its nodes, by the id of the node."""
NO_SHELL: Final = "no shell in this local cloud"
_HOST_KEY_KINDS: Final = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")
_HOST_KEY: Final = re.compile(r"[a-z0-9-]+ AAAA[A-Za-z0-9+/=]+")
_SECONDS: Final = 30.0
_UNAVAILABLE: Final = Access("", problem=NO_SHELL)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A vendor's way to nodes without a public address.

    Attributes:
        name: What the vendor calls it.
        programs: The programs that must be installed.
        command: The command, with the placeholders of `Access.proxy_command`.
        page: Where the vendor describes how to install the programs.
    """

    name: str
    programs: tuple[str, ...]
    command: str
    page: str


def access_to(
    node: Node,
    settings: "SshSettings",
    *,
    user: str,
    tunnel: Tunnel,
    environment: Mapping[str, str],
    which: Callable[..., str | None] = shutil.which,
) -> Access:
    """Return how to log in to a node: as the settings say, else at its public address, else through the vendor's tunnel.

    Args:
        node: The node.
        settings: The provider's settings.
        user: The login user of its image, where the settings name none.
        tunnel: The way to nodes without a public address.
        environment: The environment, whose PATH has the programs of the tunnel.
        which: Finds a program.
    """
    access = Access(node.public_ip or node.private_ip or "", settings.ssh_port, settings.ssh_user or user)
    jump, command = settings.ssh_proxy_jump, settings.ssh_proxy_command
    if command:
        return replace(access, proxy_command=command, is_configured=True)
    if jump == "none":
        return replace(access, is_configured=True)
    if jump == "head":
        # The head is reached at its public address, and the others from there.
        return replace(access, internal=node.private_ip or "", jump=jump, is_configured=True)
    if jump:
        # A jump host is inside the network, or has a way into it.
        return replace(access, address=node.private_ip or access.address, jump=jump, is_configured=True)
    if node.public_ip:
        return access
    missing = [name for name in tunnel.programs if which(name, path=environment.get("PATH")) is None]
    if not missing:
        return replace(access, proxy_command=tunnel.command)
    names = " and ".join(f"`{name}`" for name in missing)
    text = f"install {names} for {tunnel.name} ({tunnel.page}), set ssh_proxy_jump, or run this inside of its network"
    return replace(access, remedy=text)


def preferred_host_key(lines: Iterable[str]) -> str | None:
    """Return the public host key of a node to pin among those that it has, "ssh-ed25519 AAAA..."; None without a usable one."""
    keys = {kind: f"{kind} {data}" for kind, _, data in (line.strip().partition(" ") for line in lines)}
    found = next((keys[kind] for kind in _HOST_KEY_KINDS if kind in keys), None)
    return found if found and _HOST_KEY.fullmatch(found) else None


def local_access(endpoint: str, node_id: str) -> Access:
    """Return how to log in to a node of a local cloud, whose shell the local cloud starts when it is first asked for.

    Args:
        endpoint: The URL of the local cloud.
        node_id: The id of the node.
    """
    import urllib.error
    import urllib.parse
    import urllib.request

    url = f"{endpoint}{LOCAL_SHELL}{urllib.parse.quote(node_id, safe='')}"
    # No proxy of the user's leads to 127.0.0.1.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_SECONDS) as answer:
            return Access(**json.load(answer))
    except (urllib.error.URLError, OSError, ValueError, TypeError):
        # Another emulator, or a local cloud of an earlier version.
        return _UNAVAILABLE
