"""Gangs on an InfiniBand fabric: one Uniform scale set in one placement group, which later launches of the cluster enlarge.

"Orchestration modes for Virtual Machine Scale Sets in Azure": InfiniBand is for Uniform scale sets with a single placement group, not for
Flexible ones. "Set up InfiniBand on HPC VMs": machines in different scale sets can't reach each other through InfiniBand, and a single
placement group has at most 100 machines.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from multicompute.node import Node, NodeState
from multicompute.provider import LaunchRequest, Selector
from multicompute.provider_kit.vendor_errors import Place, invalid_request, retryable
from multicompute_azure._boot import custom_data
from multicompute_azure._errors import translate_errors
from multicompute_azure._list import nodes_of, scale_sets
from multicompute_azure._names import scale_set_name
from multicompute_azure._session import Clients
from multicompute_azure._sets import TAG_JOINED, ScaleSet, find_scale_set
from multicompute_azure._uniform import delete_instance, lower_capacity, record, unchanged

FABRIC: Final = "infiniband"
FABRIC_NODES: Final = 100
"""The most machines of a single placement group ("Virtual Machine Scale Sets and placement groups")."""


def on_fabric(request: LaunchRequest) -> bool:
    """Return whether the nodes of a launch are to be on an InfiniBand fabric; a single one that joins others, too."""
    return (request.fabric or bool(request.peers)) and any(part.offer.instance.fabric for part in request.parts)


def require_fabric(request: LaunchRequest) -> None:
    """Refuse, before anything is created, a gang that can't be on one fabric.

    Raises:
        InvalidRequestError: It has too many nodes, or its parts need more than one scale set.
    """
    place = Place.of(request.parts[0].offer)
    if request.node_count > FABRIC_NODES:
        raise _not_possible(
            f"{request.node_count} nodes can't share an InfiniBand fabric, which has at most {FABRIC_NODES}", place
        )
    if len(request.parts) > 1:
        text = f"{len(request.parts)} parts of a gang can't share an InfiniBand fabric, which is one scale set: of one type, zone, purchase and reservation"
        raise _not_possible(text, place)
    if request.parts[0].reservation:
        what = "a capacity reservation excludes the single placement group that Microsoft documents for InfiniBand"
        request.warn(f"{place}: {what}; check the fabric before you use it (`ibstat`)")


def _not_possible(text: str, place: Place) -> Exception:
    hint = 'pass interconnect="any" to do without InfiniBand, or ask for fewer nodes'
    return invalid_request(text, code="FabricNotPossible", place=place, hint=hint)


def fabric_set(clients: Clients, request: LaunchRequest, group: str) -> ScaleSet:
    """Return the scale set of the cluster's running nodes, to which the new nodes must be added.

    Raises:
        InvalidRequestError: There is none, there are several, or it has no more room; nodes in another one would not reach the others.
    """
    place, part = Place.of(request.parts[0].offer), request.parts[0]
    found = {item.id: item for item in _candidates(clients, request, group) if _has_peer(clients, item, request.peers)}
    if len(found) != 1:
        text = f"the nodes of the cluster are in {len(found)} scale sets, and InfiniBand does not connect scale sets"
        raise _not_joinable(text, place)
    (owner,) = found.values()
    if not owner.is_uniform:
        raise _not_joinable(f"the scale set {owner.name} is Flexible, and has no InfiniBand fabric", place)
    wanted = (part.offer.instance_type.lower(), part.offer.zone, part.offer.purchase == "spot")
    if (owner.instance_type.lower(), owner.zone, owner.is_spot) != wanted:
        text = f"the fabric of the cluster is the scale set {owner.name} of {owner.instance_type} in {owner.zone or owner.region}"
        raise _not_joinable(text, place)
    return owner


def _candidates(clients: Clients, request: LaunchRequest, group: str) -> Iterator[ScaleSet]:
    """Yield the scale sets of the cluster: those that are listed, and those that are named from a peer, perhaps the same."""
    yield from scale_sets(clients, Selector(region=request.region, cluster_id=request.cluster_id))
    for peer in request.peers:
        found = find_scale_set(clients, group, scale_set_name(peer, 0), Place.of(request.parts[0].offer))
        if found is not None:
            yield found


def _has_peer(clients: Clients, scale_set: ScaleSet, peers: Sequence[str]) -> bool:
    if scale_set.is_being_deleted:
        return False
    return any(node.token in peers and node.state is not NodeState.GONE for node in nodes_of(clients, scale_set))


def _not_joinable(text: str, place: Place) -> Exception:
    hint = "terminate the cluster and request it again; its nodes that run are not changed"
    return invalid_request(text, code="FabricNotPossible", place=place, hint=hint)


def has_joined(owner: ScaleSet, nodes: Sequence[Node], token: str) -> bool:
    """Return whether a launch has already enlarged the scale set: by its instances, or while they are not listed yet by its capacity."""
    if any(node.token == token and node.state is not NodeState.GONE for node in nodes):
        return True
    return owner.joined == token and owner.capacity > _count(nodes)


def enlarged(owner: ScaleSet, nodes: Sequence[Node], request: LaunchRequest) -> ScaleSet:
    """Return the scale set as it is to be with the nodes of the launch.

    Raises:
        InvalidRequestError: It would have more machines than one placement group.
        TransientError: An instance is being deleted, so it is not known which capacity the scale set will have.
    """
    place, count = Place.of(request.parts[0].offer), _count(nodes)
    if any(node.state is NodeState.STOPPING for node in nodes):
        raise retryable(f"an instance of {owner.name} is being deleted or stopped", code="Conflict", place=place)
    if count + request.node_count > FABRIC_NODES:
        text = f"the scale set {owner.name} has {count} of at most {FABRIC_NODES} machines"
        raise _not_joinable(text, place)
    tags = {**owner.tags, TAG_JOINED: request.token}
    return replace(owner, tags=tags, capacity=count + request.node_count)


def join_body(wanted: ScaleSet, request: LaunchRequest, identity: str | None) -> dict[str, Any]:
    """Return the body of the PATCH that enlarges a scale set: new instances get the token and the expiry in it, the others keep theirs."""
    data = custom_data(expires_at=request.expires_at, identity=identity, setup=request.setup, is_uniform=True)
    profile = {"userData": record(request.token, request.expires_at), "osProfile": {"customData": data}}
    return {
        "tags": dict(wanted.tags),
        "sku": {"name": wanted.instance_type, "tier": "Standard", "capacity": wanted.capacity},
        "properties": {"virtualMachineProfile": profile},
    }


def begin_join(clients: Clients, owner: ScaleSet, wanted: ScaleSet, request: LaunchRequest) -> None:
    """Begin to enlarge the scale set, unless it has changed since it was read.

    Raises:
        TransientError: It has changed; others: the call was refused.
    """
    operation = clients.operation()
    update: Any = clients.compute.virtual_machine_scale_sets.begin_update
    body = join_body(wanted, request, clients.settings.identity)
    with translate_errors("virtualMachineScaleSets.update", Place.of(request.parts[0].offer)):
        update(owner.group, owner.name, body, polling=operation, **unchanged(owner))
    clients.launches.add(owner.id, operation)


def withdraw(clients: Clients, scale_set: ScaleSet, token: str) -> list[Node]:
    """Delete the instances of one launch from a scale set that it shares, and give up those that do not exist yet.

    Returns:
        Its nodes that still exist.
    """
    nodes = nodes_of(clients, scale_set)
    own = [node for node in nodes if node.token == token and node.state is not NodeState.GONE]
    for node in own:
        if node.state is not NodeState.STOPPING:
            delete_instance(clients, node.id, scale_set.place)
    if scale_set.joined == token and scale_set.capacity > _count(nodes):
        lower_capacity(clients, scale_set, _count(nodes))
    return own


def is_kept(scale_set: ScaleSet, nodes: Sequence[Node], token: str) -> bool:
    """Return whether a scale set stays when one launch is deleted: it has instances of others, or is empty and was created by another."""
    if not scale_set.is_shared:
        return False
    tokens = {node.token for node in nodes if node.state is not NodeState.GONE}
    return tokens != {token} if tokens else scale_set.own_token != token


def _count(nodes: Sequence[Node]) -> int:
    return sum(node.state is not NodeState.GONE for node in nodes)
