"""Turns the record of a cluster into the SSH servers of its nodes, and keeps the host keys that were learned."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from multicompute.errors import MulticomputeError
from multicompute.provider import TAG_CLUSTER, TAG_ID, TAG_OWNER, Access, Capability, Provider
from multicompute.provider_kit.calls import in_parallel
from multicompute.remote.pins import Pins
from multicompute.remote.places import cluster_folder, private_key_of, user_file
from multicompute.remote.target import SshHost, Target, proxy_command
from multicompute.remote.user_config import has_proxy
from multicompute.remote.wire import is_reachable

if TYPE_CHECKING:
    from multicompute.ledger import ClusterRecord, NodeRecord
    from multicompute.node import Node
    from multicompute.session import Session

_log = logging.getLogger("multicompute")
BOOT: Final = timedelta(minutes=5)
"""For how long a node that was never reached is tried: it may still be booting."""
_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True)
class Reached:
    """A node, and the way to log in to it.

    Attributes:
        node: The node, with its rank.
        access: The way, as its provider reports it.
        target: Its SSH server.
        why_not: Why it can't be reached from here; None if it can, as far as is known.
    """

    node: "Node"
    access: Access
    target: Target
    why_not: MulticomputeError | None = None

    @property
    def is_direct(self) -> bool:
        """Return whether the client connects to the node's own address."""
        return _is_direct(self.access) and self.target.host.ssh_config is None


def targets(session: "Session", cluster: "ClusterRecord", ranks: Sequence[int]) -> list[Target]:
    """Return where the nodes of these ranks are reached, in the order of `ranks`.

    Opens port 22 to the caller where it is closed, and asks the clouds for host keys that are not known yet.

    Raises:
        MulticomputeError: A node can't be reached from here, or the cluster's key is on another machine; says what to do.
    """
    nodes = {node.rank: node for node in session.ledger.nodes(cluster.id) if node.ended_at is None}
    reached = reach(session, cluster, [nodes[rank].as_node() for rank in ranks], opens=True)
    for each in reached:
        if each.why_not is not None:
            raise each.why_not
    return [each.target for each in reached]


def reach(
    session: "Session", cluster: "ClusterRecord", nodes: Sequence["Node"], *, opens: bool = False
) -> list[Reached]:
    """Return the ways to nodes, in their order.

    Args:
        session: The session.
        cluster: The cluster.
        nodes: Its nodes, with their ranks.
        opens: Whether to open port 22 to the caller where it is closed.

    Raises:
        MulticomputeError: The cluster's key is on another machine.
    """
    identity = private_key_of(session, cluster)
    ways = _ways(session, nodes)
    why_not = [_why_not(cluster, way) for way in ways]
    possible = [way for way, reason in zip(ways, why_not, strict=True) if reason is None]
    if opens:
        _open_ports(session, cluster, possible)
    pins = Pins(cluster_folder(session, cluster.id))
    pinned = pins.nodes()
    hosts = _Hosts(
        session, identity, _host_keys(session, pinned, possible), pins.jump_hosts(), _head(session, cluster, ways)
    )
    found = []
    for way, reason in zip(ways, why_not, strict=True):
        patience = timedelta(0) if way.node.id in pinned or way.access.is_own else BOOT
        target = Target(way.node.rank, hosts.of(way), name=way.access.address, patience=patience)
        found.append(Reached(way.node, way.access, target, reason))
    return found


def addresses(session: "Session", nodes: Iterable["NodeRecord"]) -> dict[str, str]:
    """Return the addresses at which the nodes of a cluster reach each other, by the id of the node.

    It is a node's private address, except on a local cloud, whose nodes share one machine.
    """
    nodes = list(nodes)
    found = in_parallel(lambda node: _access(session, node.as_node()), nodes, at_once=_AT_ONCE)
    return {
        node.id: access.internal or node.private_ip or node.public_ip or access.address
        for node, access in zip(nodes, found, strict=True)
    }


def pin(
    session: "Session",
    cluster: "ClusterRecord",
    host_keys: Mapping[int, str],
    jump_host_keys: Mapping[str, str] | None = None,
) -> None:
    """Keep the host keys that were presented on first contact; from then on no other one is accepted.

    Args:
        session: The session.
        cluster: The cluster.
        host_keys: The keys of nodes, by rank.
        jump_host_keys: The keys of jump hosts, by "user@address:port".
    """
    ids = {node.rank: node.id for node in session.ledger.nodes(cluster.id) if node.ended_at is None}
    pins = Pins(cluster_folder(session, cluster.id))
    pins.add({ids[rank]: key for rank, key in host_keys.items() if rank in ids}, jump_host_keys or {})


@dataclass(frozen=True, slots=True)
class _Way:
    node: "Node"
    access: Access


def _is_direct(access: Access) -> bool:
    return not access.jump and not access.proxy_command


def _ways(session: "Session", nodes: Sequence["Node"]) -> list[_Way]:
    found = in_parallel(lambda node: _access(session, node), nodes, at_once=_AT_ONCE)
    return [_Way(node, access) for node, access in zip(nodes, found, strict=True)]


def _access(session: "Session", node: "Node") -> Access:
    provider = session.provider(node.provider)
    if Capability.SSH in provider.capabilities:
        return provider.access(node)
    return Access(node.public_ip or node.private_ip or "")


def _head(session: "Session", cluster: "ClusterRecord", ways: Sequence[_Way]) -> _Way | None:
    """Return the head, if other nodes are reached through it."""
    if all(way.access.jump != "head" for way in ways):
        return None
    head = next((way for way in ways if way.node.rank == 0), None)
    if head is not None:
        return head
    records = (node for node in session.ledger.nodes(cluster.id) if node.ended_at is None and node.rank == 0)
    return next(iter(_ways(session, [record.as_node() for record in records])), None)


def _why_not(cluster: "ClusterRecord", way: _Way) -> MulticomputeError | None:
    access, provider = way.access, way.node.provider
    name = f"{cluster.name}: rank {way.node.rank} ({way.node.id})"
    if access.problem:
        return MulticomputeError(f"{name}: {access.problem}", provider=provider)
    if not access.address:
        return MulticomputeError(f"{name} has no address yet", provider=provider, hint="refresh the cluster")
    if access.remedy and _is_direct(access) and not is_reachable(access.address, access.port or 22):
        text = f"{name} has no public address, and {access.address} can't be reached from here"
        return MulticomputeError(text, provider=provider, hint=access.remedy)
    return None


def _open_ports(session: "Session", cluster: "ClusterRecord", ways: Sequence[_Way]) -> None:
    """Let the caller in where no answer comes: a key that was made for the cluster opens no port, and addresses of callers change."""
    if cluster.spec.get("private"):
        return
    closed: dict[tuple[str, str], _Way] = {}
    for way in ways:
        if _is_direct(way.access) and not way.access.is_configured and way.node.public_ip:
            closed.setdefault((way.node.provider, way.node.region), way)
    for (name, region), way in closed.items():
        provider = session.provider(name)
        if Capability.SSH in provider.capabilities and not is_reachable(way.access.address, way.access.port or 22):
            try:
                provider.open_ssh(region, {TAG_CLUSTER: cluster.name, TAG_ID: cluster.id, TAG_OWNER: cluster.owner})
            except MulticomputeError as error:
                _log.warning("%s: port 22 may be closed in %s %s: %s", cluster.name, name, region, error)


def _host_keys(session: "Session", pinned: Mapping[str, str], ways: Sequence[_Way]) -> dict[str, str]:
    """Return the known host keys by the id of the node: pinned before, else given by the cloud."""
    known = dict(pinned)
    unknown: dict[str, list[Node]] = {}
    for way in ways:
        if way.node.id not in known and way.access.host_key:
            known[way.node.id] = way.access.host_key
        elif way.node.id not in known:
            unknown.setdefault(way.node.provider, []).append(way.node)
    for name, nodes in unknown.items():
        known |= _reported(session.provider(name), nodes)
    return known


def _reported(provider: Provider, nodes: Sequence["Node"]) -> Mapping[str, str]:
    if Capability.SSH not in provider.capabilities:
        return {}
    try:
        return provider.host_keys(nodes)
    except MulticomputeError as error:
        _log.info("%s: host keys can't be read, they are learned on first contact: %s", provider.name, error)
        return {}


class _Hosts:
    """Makes SSH servers of nodes."""

    def __init__(
        self,
        session: "Session",
        identity: Path | None,
        known: Mapping[str, str],
        jump_hosts: Mapping[str, str],
        head: _Way | None,
    ) -> None:
        self._identity = identity
        self._known = known
        self._jump_hosts = jump_hosts
        self._head = head
        self._config = user_file(session, ".ssh/config")
        self._known_hosts = user_file(session, ".ssh/known_hosts")

    def of(self, way: _Way) -> SshHost:
        access = way.access
        identity = Path(access.identity).expanduser() if access.identity else None
        host = SshHost(
            address=access.address,
            port=access.port or 22,
            user=access.user,
            identity=identity or self._identity,
            host_key=self._known.get(way.node.id),
        )
        if access.is_own:
            config = Path(access.ssh_config) if access.ssh_config else None
            # An alias of the configuration may have a port of its own.
            return replace(host, port=access.port, identity=identity, ssh_config=config, known_hosts=self._known_hosts)
        if access.proxy_command:
            values = {"instance_id": way.node.id, "region": way.node.region, "zone": way.node.zone}
            words = proxy_command(
                access.proxy_command, host=host.address, port=host.port or 22, user=host.user, values=values
            )
            return replace(host, proxy_command=words)
        if access.jump == "head" and way.node.rank != 0 and self._head is not None:
            inside = access.internal or way.node.private_ip or access.address
            return replace(host, address=inside, jump=self.of(self._head))
        if access.jump == "head":
            return host
        if access.jump:
            return replace(host, jump=self._jump(access.jump))
        if self._config is not None and not access.is_configured and has_proxy(self._config, host.address):
            return replace(host, ssh_config=self._config, known_hosts=self._known_hosts)
        return host

    def _jump(self, text: str) -> SshHost:
        """Return the jump host of a setting, with what the user's own SSH configuration says of it."""
        previous: SshHost | None = None
        for hop in text.split(","):
            user, _, place = hop.strip().rpartition("@")
            address, colon, port = place.rpartition(":")
            is_plain = not colon or not port.isdigit()
            host = SshHost(
                address=(place if is_plain else address).strip("[]"),
                port=None if is_plain else int(port),
                user=user,
                ssh_config=self._config,
                known_hosts=self._known_hosts,
                jump=previous,
            )
            previous = replace(host, host_key=self._jump_hosts.get(str(host)))
        assert previous is not None
        return previous
