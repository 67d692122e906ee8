"""Finds our scale sets and their instances, by tag and by name, to the last page."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

from multicompute.node import Cause, Node, NodeState
from multicompute.provider import TAG_ATTEMPT, Selector
from multicompute_azure._errors import PARTIAL, Place, Said, cause_of
from multicompute_azure._health import with_health
from multicompute_azure._names import canonical, group_name, parse_id, plain_region, zone_name
from multicompute_azure._pending import Pending
from multicompute_azure._session import COMPUTE, NETWORK, Clients, within
from multicompute_azure._tags import are_meant

SCALE_SETS: Final = f"{COMPUTE}/virtualMachineScaleSets"
_MACHINES: Final = f"{COMPUTE}/virtualMachines"
_INTERFACES: Final = f"{NETWORK}/networkInterfaces"
_PUBLIC_ADDRESSES: Final = f"{NETWORK}/publicIPAddresses"
_AT_ONCE: Final = 8
# With more scale sets than this, listings of the whole subscription cost fewer calls than one for each.
_MANY_SETS: Final = 16
_KEPT_ADDRESSES: Final = 50_000
_POWER: Final = {
    "running": NodeState.RUNNING,
    "starting": NodeState.PENDING,
    "creating": NodeState.PENDING,
    "stopping": NodeState.STOPPING,
    "deallocating": NodeState.STOPPING,
    "stopped": NodeState.STOPPED,
    "deallocated": NodeState.STOPPED,
}
_NOT_UP: Final = ("OSProvisioning", "VMProvisioning")
_LACKING: Final = Said(PARTIAL, "the scale set failed with fewer instances than were asked for")


@dataclass(frozen=True, slots=True)
class ScaleSet:
    """A scale set of ours, as Compute lists it."""

    id: str
    group: str
    name: str
    region: str
    state: str
    capacity: int
    instance_type: str
    is_spot: bool
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        return Place(self.region, instance_type=self.instance_type)


class Discovery:
    """Asks Compute for the scale sets and nodes that a selector means, and Network for their addresses."""

    def __init__(self, clients: Clients, pending: Pending) -> None:
        self._clients = clients
        self._settings = clients.settings
        self._pending = pending
        # Addresses stay with an instance for its life, so that they are asked for once.
        self._addresses: dict[str, tuple[str, str | None]] = {}

    # --- scale sets and nodes -----------------------------------------------------------------------------------------

    def scale_sets(self, selector: Selector) -> list[ScaleSet]:
        """The selected scale sets, in the order of their names; those that listings do not show yet, by the ids of their instances."""
        found = {item.id: item for item in self._listed(selector)}
        for group, name in sorted({_set_of(node_id) for node_id in selector.node_ids}):
            if name and not any(item.name == name and item.group.lower() == group.lower() for item in found.values()):
                hidden = self.scale_set(group, name, Place(selector.region or ""))
                if hidden is not None and are_meant(hidden.tags, selector):
                    found[hidden.id] = hidden
        return sorted(found.values(), key=lambda item: (item.region, item.name))

    def scale_set(self, group: str, name: str, place: Place) -> ScaleSet | None:
        """One scale set by name, None where there is none."""
        item = self._clients.get("look at the scale set", place, within(group, SCALE_SETS, name))
        return None if item is None else self._scale_set(item)

    def _listed(self, selector: Selector) -> list[ScaleSet]:
        place = Place(selector.region or self._settings.home_region)
        group = self._settings.resource_group
        if group is None and selector.cluster_id is not None and selector.region is not None:
            group = group_name(selector.cluster_id, selector.region)
        listed = self._clients.pages("list the scale sets", place, within(group, SCALE_SETS))
        found = [self._scale_set(item) for item in listed]
        return [item for item in found if are_meant(item.tags, selector) and selector.region in (None, item.region)]

    def _scale_set(self, item: Any) -> ScaleSet:
        properties, sku = item.get("properties") or {}, item.get("sku") or {}
        own_id = self._id(item)
        named = parse_id(own_id)
        return ScaleSet(
            id=own_id,
            group=named.group,
            name=named.name,
            region=plain_region(item.get("location")),
            state=str(properties.get("provisioningState") or ""),
            capacity=int(sku.get("capacity") or 0),
            instance_type=str(sku.get("name") or ""),
            is_spot=str((properties.get("virtualMachineProfile") or {}).get("priority") or "") == "Spot",
            tags=dict(item.get("tags") or {}),
        )

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """The selected nodes: one listing of scale sets, one of instances for each, one of addresses while some are not known, and one of
        Azure's own findings where they are asked for.
        """
        sets = self.scale_sets(selector)
        if len(sets) > _MANY_SETS:
            of = self._all_instances(selector)
            found = [self._made_of(item, of.get(item.id.lower(), [])) for item in sets]
        elif len(sets) <= 1:
            found = [self.nodes_of(item) for item in sets]
        else:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="multicompute-azure") as pool:
                found = list(pool.map(self.nodes_of, sets))
        nodes = self._with_addresses([node for nodes in found for node in nodes], sets)
        return tuple(with_health(self._clients, nodes, sets[0].place) if selector.with_health and nodes else nodes)

    def nodes_of(self, scale_set: ScaleSet) -> list[Node]:
        """The nodes of one scale set, in a stable order, without addresses, and the lost ones where it failed short of them."""
        return self._made_of(scale_set, self._instances(scale_set))

    def _made_of(self, scale_set: ScaleSet, items: Iterable[Any]) -> list[Node]:
        found = [self._node(item, scale_set) for item in sorted(items, key=lambda item: str(item["name"]))]
        failure = self._pending.failure(scale_set.id, scale_set.place)
        if failure is None and scale_set.state.lower() == "failed" and len(found) < scale_set.capacity:
            failure = _LACKING
        if failure is None:
            return found
        explained = [_explained(node, failure) for node in found]
        return explained + self._missing(scale_set, failure, scale_set.capacity - len(found))

    def _instances(self, scale_set: ScaleSet) -> list[Any]:
        wanted = f"'virtualMachineScaleSet/id' eq '{scale_set.id}'"
        path = within(scale_set.group, _MACHINES)
        return list(
            self._clients.pages("list the instances", scale_set.place, path, _filter=wanted, _expand="instanceView")
        )

    def _all_instances(self, selector: Selector) -> dict[str, list[Any]]:
        """The instances of all scale sets, by scale set, in two listings: Azure tells what they are in one and how they are in another."""
        place, path = Place(selector.region or self._settings.home_region), within(None, _MACHINES)
        views = {
            str(item["id"]).lower(): (item.get("properties") or {}).get("instanceView")
            for item in self._clients.pages("list the states of all instances", place, path, statusOnly="true")
        }
        found: dict[str, list[Any]] = defaultdict(list)
        for item in self._clients.pages("list all instances", place, path):
            properties = {**(item.get("properties") or {}), "instanceView": views.get(str(item["id"]).lower())}
            owner = str((properties.get("virtualMachineScaleSet") or {}).get("id") or "")
            if owner:
                own_id = canonical(owner, self._settings.resource_group).lower()
                found[own_id].append({**item, "properties": properties})
        return found

    def _id(self, item: Any) -> str:
        return canonical(str(item["id"]), self._settings.resource_group)

    def _node(self, item: Any, scale_set: ScaleSet) -> Node:
        properties = item.get("properties") or {}
        zones = item.get("zones") or ()
        tags = item.get("tags") or {}
        state, reason, cause = _state(properties, scale_set)
        return Node(
            id=self._id(item),
            rank=-1,
            provider="azure",
            instance_type=str((properties.get("hardwareProfile") or {}).get("vmSize") or scale_set.instance_type),
            region=scale_set.region,
            zone=zone_name(scale_set.region, str(zones[0]) if zones else ""),
            state=state,
            token=str(tags.get(TAG_ATTEMPT) or scale_set.tags.get(TAG_ATTEMPT, "")),
            reason=reason,
            cause=cause,
            is_spot=scale_set.is_spot,
        )

    def _missing(self, scale_set: ScaleSet, failure: Said, count: int) -> list[Node]:
        """The instances that were asked for and will not come: without them a gang would look as if it only took its time."""
        return [
            Node(
                id=f"{scale_set.id}/missing/{index}",
                rank=-1,
                provider="azure",
                instance_type=scale_set.instance_type,
                region=scale_set.region,
                zone="",
                state=NodeState.GONE,
                token=scale_set.tags.get(TAG_ATTEMPT, ""),
                reason=f"{failure.code}: {failure.message}",
                cause=cause_of(failure),
            )
            for index in range(count)
        ]

    # --- addresses ----------------------------------------------------------------------------------------------------

    def _with_addresses(self, nodes: list[Node], sets: list[ScaleSet]) -> list[Node]:
        unknown = any(node.state is NodeState.RUNNING and node.id.lower() not in self._addresses for node in nodes)
        if unknown:
            groups = {item.group for item in sets}
            self._learn_addresses(groups.pop() if len(groups) == 1 else None, sets[0].place)
        return [self._addressed(node) for node in nodes]

    def _addressed(self, node: Node) -> Node:
        found = self._addresses.get(node.id.lower())
        return node if found is None else replace(node, private_ip=found[0], public_ip=found[1])

    def _learn_addresses(self, group: str | None, place: Place) -> None:
        """Learn the addresses of the instances of a resource group, or of all; one whose public address is still to come is left."""
        private: dict[str, tuple[str, str]] = {}
        for item in self._clients.pages("list the network interfaces", place, within(group, _INTERFACES)):
            properties = item.get("properties") or {}
            owner = str((properties.get("virtualMachine") or {}).get("id") or "")
            for configuration in (properties.get("ipConfigurations") or ())[:1]:
                of = configuration.get("properties") or {}
                public = str((of.get("publicIPAddress") or {}).get("id") or "")
                if owner and of.get("privateIPAddress"):
                    own_id = canonical(owner, self._settings.resource_group).lower()
                    private[own_id] = (str(of["privateIPAddress"]), public.lower())
        public_ips = self._public_addresses(group, place) if any(public for _, public in private.values()) else {}
        if len(self._addresses) > _KEPT_ADDRESSES:
            self._addresses.clear()
        for owner, (address, public) in private.items():
            if not public or public in public_ips:
                self._addresses[owner] = (address, public_ips.get(public))

    def _public_addresses(self, group: str | None, place: Place) -> dict[str, str]:
        return {
            str(item["id"]).lower(): str(item["properties"]["ipAddress"])
            for item in self._clients.pages("list the public addresses", place, within(group, _PUBLIC_ADDRESSES))
            if (item.get("properties") or {}).get("ipAddress")
        }


def _explained(node: Node, failure: Said) -> Node:
    """A node of a failed scale set that does not live, with the reason that the scale set's operation gave."""
    if node.state in (NodeState.PENDING, NodeState.RUNNING) or node.cause:
        return node
    return replace(node, reason=f"{failure.code}: {failure.message}", cause=cause_of(failure))


def _set_of(node_id: str) -> tuple[str, str]:
    """Group and name of the scale set that an instance is in, by the instance's id."""
    try:
        named = parse_id(node_id)
    except ValueError:
        return ("", "")
    if named.type.lower() == SCALE_SETS.lower():
        return (named.group, named.name.partition("/")[0])
    return (named.group, named.name.rpartition("_")[0])


def _state(properties: Any, scale_set: ScaleSet) -> tuple[NodeState, str | None, Cause]:
    """What an instance's provisioning state and its power state together mean."""
    statuses = (properties.get("instanceView") or {}).get("statuses") or ()
    provisioning = str(properties.get("provisioningState") or "").lower()
    power = _power(statuses)
    if provisioning == "deleting":
        is_lone = scale_set.is_spot and scale_set.state.lower() not in ("deleting", "failed")
        # We delete scale sets whole; a spot instance that goes by itself is taken back.
        return (
            (NodeState.STOPPING, "Evicted: Azure deletes the spot instance", "preemption")
            if is_lone
            else (NodeState.STOPPING, None, "")
        )
    if provisioning == "failed":
        said = _failed(statuses)
        if power is not NodeState.RUNNING or said.code.startswith(_NOT_UP):
            return NodeState.STOPPED, f"{said.code}: {said.message}", cause_of(said)
    if provisioning in ("creating", "updating") and power is not NodeState.RUNNING:
        return NodeState.PENDING, None, ""
    if provisioning == "creating":
        return NodeState.PENDING, None, ""
    return power or NodeState.RUNNING, None, ""


def _power(statuses: Iterable[Any]) -> NodeState | None:
    for status in statuses:
        kind, _, value = str(status.get("code") or "").partition("/")
        if kind == "PowerState":
            return _POWER.get(value.lower(), NodeState.PENDING)
    return None


def _failed(statuses: Iterable[Any]) -> Said:
    """Why an instance failed: "ProvisioningState/failed/AllocationFailed" and a message."""
    for status in statuses:
        parts = str(status.get("code") or "").split("/")
        if parts[0] == "ProvisioningState" and parts[1:2] == ["failed"]:
            code = parts[2] if len(parts) > 2 else "ProvisioningFailed"
            return Said(code, " ".join(str(status.get("message") or "").split())[:400])
    return Said("ProvisioningFailed", "Azure does not say why")
