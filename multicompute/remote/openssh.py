"""Writes the command line with which OpenSSH's client reaches a node, for users who want a shell there."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from multicompute.errors import MulticomputeError
from multicompute.remote.target import SshHost, Target


def known_hosts(target: Target) -> str:
    """Return the lines of the `known_hosts` file that `command` needs.

    Raises:
        MulticomputeError: The host key of the node, or of its jump host, is not known yet.
    """
    hosts = [target.host]
    while hosts[-1].jump is not None:
        hosts.append(hosts[-1].jump)
    unknown = next((host for host in hosts if not host.host_key), None)
    if unknown is not None:
        raise MulticomputeError(
            f"{target}: the host key of {unknown} is not known yet", hint="run something there first"
        )
    return "".join(f"{_alias(host)} {host.host_key}\n" for host in hosts)


def command(target: Target, known_hosts_file: Path, *, remote: Sequence[str] = ()) -> list[str]:
    """Return the command that opens a shell on a node, or runs something there.

    Args:
        target: The node.
        known_hosts_file: A file with the lines of `known_hosts`.
        remote: What to run; by default the login shell.
    """
    return [*_ssh(target.host, known_hosts_file), *remote]


def _ssh(host: SshHost, known_hosts_file: Path, *options: str) -> list[str]:
    words = ["ssh", *options]
    # Without a configuration of the user's for this host, none is read: it may have other keys and hosts for the address.
    words += ["-F", str(host.ssh_config) if host.ssh_config is not None else "/dev/null"]
    # The key is checked under a name of ours: addresses are used again by other machines.
    settings = {
        "UserKnownHostsFile": _file(known_hosts_file),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": _alias(host),
    }
    if host.identity is not None:
        settings |= {"IdentityFile": _file(host.identity), "IdentitiesOnly": "yes"}
    if host.proxy_command:
        settings["ProxyCommand"] = _literally(host.proxy_command)
    elif host.jump is not None:
        settings["ProxyCommand"] = _literally(_ssh(host.jump, known_hosts_file, "-W", _place(host)))
    for name, value in settings.items():
        words += ["-o", f"{name}={value}"]
    if host.port is not None:
        words += ["-p", str(host.port)]
    if host.user:
        words += ["-l", host.user]
    return [*words, host.address]


def _literally(words: Sequence[str]) -> str:
    """Quote a command for the shell that ssh starts, with the signs that ssh itself would replace."""
    return shlex.join(words).replace("%", "%%")


def _file(path: Path) -> str:
    """Quote a path against the spaces and signs that ssh interprets in the value of an option."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _place(host: SshHost) -> str:
    address = f"[{host.address}]" if ":" in host.address else host.address
    return f"{address}:{host.port or 22}"


def _alias(host: SshHost) -> str:
    return f"multicompute-{host.address.replace(':', '-')}-{host.port or 22}"
