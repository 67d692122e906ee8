"""SSH servers, jump hosts and proxy commands, as frozen data."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from multicompute.errors import ConfigError

_PLACEHOLDER = re.compile(r"%[%hpr]|\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class SshHost:
    """An SSH server and how to log in to it.

    Attributes:
        address: The name or address that the client connects to.
        port: The port of the SSH server; None for the one in `ssh_config`, else 22.
        user: The login user; "" for the one in `ssh_config`, else the local user.
        identity: The file of the private key, or of a public key whose private key the agent holds. None to try the
            agent's keys and the default ones.
        host_key: The pinned host key, "ssh-ed25519 AAAA..."; None to learn it on first contact.
        known_hosts: A `known_hosts` file to trust where no key is pinned, before a key is learned.
        ssh_config: The user's OpenSSH client configuration to apply; None to read none. Fields that are set here win.
        jump: The host through which this one is reached.
        proxy_command: The command whose stdin and stdout lead to the host; `proxy_command()` makes one of a template.
    """

    address: str
    port: int | None = None
    user: str = ""
    identity: Path | None = None
    host_key: str | None = None
    known_hosts: Path | None = None
    ssh_config: Path | None = None
    jump: "SshHost | None" = None
    proxy_command: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the host as users write it: "ubuntu@10.0.0.3:2222"."""
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.address}" + (f":{self.port}" if self.port not in (None, 22) else "")


@dataclass(frozen=True, slots=True)
class Target:
    """One node of a cluster as a place to run commands.

    Attributes:
        rank: The rank of the node.
        host: Its SSH server.
        name: The name of the node in messages, such as its id or address.
        patience: For how long a connection is tried again if the node does not let the client in: it may be booting.
    """

    rank: int
    host: SshHost
    name: str = ""
    patience: timedelta = timedelta(0)

    def __str__(self) -> str:
        """Return the rank and the name, as messages show them: "rank 2 (10.0.0.3)"."""
        return f"rank {self.rank} ({self.name or self.host.address})"


def proxy_command(
    template: str, *, host: str, port: int, user: str, values: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Return the argument list of a proxy command template.

    The template is split as a shell would split it, and only then filled, so that no value can add an argument.

    Args:
        template: A command with `%h`, `%p`, `%r` and `{name}` placeholders, such as
            "gcloud compute start-iap-tunnel {instance_id} %p --listen-on-stdin --zone {zone}".
        host: The value of `%h`.
        port: The value of `%p`.
        user: The value of `%r`.
        values: The values of the `{name}` placeholders.

    Raises:
        ConfigError: The template can't be split, or names an unknown placeholder.
    """
    known = {"%%": "%", "%h": host, "%p": str(port), "%r": user}
    named = values or {}

    def fill(match: re.Match[str]) -> str:
        if match[1] is None:
            return known[match[0]]
        if match[1] not in named:
            raise ConfigError(
                f"ssh_proxy_command: unknown placeholder {match[0]}",
                hint=f"known are %h, %p, %r and {', '.join(f'{{{name}}}' for name in sorted(named))}",
            )
        return named[match[1]]

    try:
        words = shlex.split(template)
    except ValueError as error:
        raise ConfigError(f"ssh_proxy_command: {error}", hint="check its quotes") from error
    if not words:
        raise ConfigError("ssh_proxy_command: the command is empty")
    return tuple(_PLACEHOLDER.sub(fill, word) for word in words)
