"""Returns the command line that opens a shell on a node with the OpenSSH client of this machine."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from multicompute.engine.running.gang import gang
from multicompute.errors import MulticomputeError
from multicompute.remote import openssh, reach
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.places import cluster_folder
from multicompute.remote.target import SshHost, Target
from multicompute.session import Session


def shell_command(session: Session, cluster_id: str, rank: int, *, remote: Sequence[str] = ()) -> list[str]:
    """Return the words of the command.

    The host keys that it needs are learned now where they are not known yet, and written to a file next to the keys of
    clusters.

    Args:
        session: The session.
        cluster_id: The id of the cluster.
        rank: The node.
        remote: The command to run there; a shell if empty.

    Raises:
        RunError: The node is gone, or can't be reached.
        HostKeyError: It presented another host key than the pinned one.
        ClusterNotFound: The cluster is not up.
    """
    found = gang(session, cluster_id)
    found.require(found.chosen(rank))
    (target,) = reach.targets(session, found.record, [rank])
    if not all(host.host_key for host in _route(target.host)):
        with RemoteNodes([target], random=session.random) as nodes:
            nodes.connect()
            reach.pin(session, found.record, nodes.host_keys, nodes.jump_host_keys)
            target = Target(rank, _with_keys(target.host, nodes.host_keys[rank], nodes.jump_host_keys), target.name)
    folder = cluster_folder(session, cluster_id)
    if folder is None:
        raise MulticomputeError(f"{found.record.name}: no place for host keys: neither XDG_DATA_HOME nor HOME is set")
    file = folder / f"known_hosts-{rank}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = file.with_name(f".{file.name}.{os.getpid()}")
        made.write_text(openssh.known_hosts(target), encoding="utf-8")
        made.replace(file)
    except OSError as error:
        raise MulticomputeError(f"{file}: can't be written: {error.strerror}") from error
    # OpenSSH joins the words with spaces, and the login shell takes the line apart again.
    return openssh.command(target, file, remote=[shlex.join(remote)] if len(remote) > 1 else remote)


def _route(host: SshHost) -> list[SshHost]:
    return [host, *(_route(host.jump) if host.jump is not None else [])]


def _with_keys(host: SshHost, key: str, jump_keys: Mapping[str, str]) -> SshHost:
    jump = host.jump
    if jump is not None:
        jump = _with_keys(jump, jump.host_key or jump_keys[str(jump)], jump_keys)
    return replace(host, host_key=host.host_key or key, jump=jump)
