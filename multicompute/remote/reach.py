"""Turns the record of a cluster into the SSH servers of its nodes, and keeps the host keys that were learned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from multicompute.errors import MulticomputeError
from multicompute.remote.target import SshHost, Target

if TYPE_CHECKING:
    from multicompute.ledger import ClusterRecord, NodeRecord
    from multicompute.session import Session

_USER: Final = "ubuntu"
_pinned: Final[dict[tuple[str, str], str]] = {}
"""Cluster id and node id -> the host key that was learned, as long as this process runs."""


def targets(session: "Session", cluster: "ClusterRecord", ranks: Sequence[int]) -> list[Target]:
    """Return where the nodes of these ranks are reached, in the order of `ranks`.

    Raises:
        MulticomputeError: A node has no address.
    """
    nodes = {node.rank: node for node in session.ledger.nodes(cluster.id) if node.ended_at is None}
    return [_target(session, cluster, nodes[rank]) for rank in ranks]


def pin(session: "Session", cluster: "ClusterRecord", host_keys: Mapping[int, str]) -> None:
    """Remember the host keys that nodes presented, by rank; from then on no other one is accepted."""
    for node in session.ledger.nodes(cluster.id):
        if node.ended_at is None and node.rank in host_keys:
            _pinned.setdefault((cluster.id, node.id), host_keys[node.rank])


def key_folder(session: "Session") -> Path:
    """Return the folder for keys of clusters and their nodes."""
    environment = session.config.environment
    data = environment.get("XDG_DATA_HOME") or f"{environment.get('HOME') or '~'}/.local/share"
    return Path(data).expanduser() / "multicompute" / "keys"


def _target(session: "Session", cluster: "ClusterRecord", node: "NodeRecord") -> Target:
    settings = session.config.providers.get(node.provider, {})
    address = node.public_ip or node.private_ip
    if not address:
        raise MulticomputeError(f"{cluster.name}: rank {node.rank} ({node.id}) has no address yet")
    public = cluster.spec.get("ssh_key")
    host = SshHost(
        address=address,
        port=int(str(settings.get("ssh_port", 22))),
        user=str(settings.get("ssh_user", _USER)),
        identity=Path(str(public)).expanduser() if public else None,
        host_key=_pinned.get((cluster.id, node.id)),
    )
    return Target(node.rank, host, name=address)
