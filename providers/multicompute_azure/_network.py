"""Makes what lies around a cluster's machines in a region: resource group, security group, network; or finds the given ones."""

import ipaddress
import threading
import urllib.request
from datetime import timedelta
from typing import Any, Final, NamedTuple

from multicompute.errors import ConfigError, ProviderError
from multicompute.provider import LaunchRequest, Selector
from multicompute_azure._access import is_resource_id
from multicompute_azure._errors import Place, log, refusal, retryable, translate_errors, unavailable_here
from multicompute_azure._names import beside_name, group_name, parse_id, plain_region
from multicompute_azure._operation import Operation, wait_for
from multicompute_azure._scaleset import NetworkRefs
from multicompute_azure._session import Clients, within
from multicompute_azure._tags import are_meant

# Asked only when a key may log in, nothing says from where, and Azure itself is the one that is talked to.
_WHO_AM_I: Final = "https://api.ipify.org"
_WHO_AM_I_SECONDS: Final = 3.0
_SPACE: Final = "10.0.0.0/16"
_SUBNET: Final = "nodes"
# https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-orchestration-modes: no default outbound connectivity.
_NO_WAY_OUT: Final = (
    "private nodes in a network made for them reach nothing outside; set vnet= and subnet= with a NAT gateway for that"
)
# Networks are made in some seconds; one that takes longer is asked for again by the repeated launch.
_PATIENCE: Final = timedelta(seconds=30)


class Room(NamedTuple):
    """The resource group that a part goes into, and what is there already."""

    group: str
    around: NetworkRefs


class Network:
    """Makes groups and networks, once per cluster and region and process: the next attempt costs no call."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._settings = clients.settings
        self._rooms: dict[tuple[str, str], Room] = {}
        self._lock = threading.Lock()
        self._own_address: str | None = None

    def group_of(self, cluster_id: str, region: str) -> str:
        """The resource group that a cluster's machines of a region are in."""
        return self._settings.resource_group or group_name(cluster_id, region)

    def room(self, request: LaunchRequest, place: Place) -> Room:
        """Everything that a launch of this request in this region needs around it, made where it does not exist yet."""
        key = (request.cluster_id, place.region)
        if key not in self._rooms:
            group = self.group_of(request.cluster_id, place.region)
            if not self._settings.resource_group:
                self._make_group(group, request, place)
            self._rooms[key] = Room(group, self._around(group, request, place))
        return self._rooms[key]

    def forget(self, cluster_id: str) -> None:
        """Forget what was made for a cluster that is torn down."""
        for key in [key for key in self._rooms if key[0] == cluster_id]:
            self._rooms.pop(key, None)

    def proximity_group(self, group: str, request: LaunchRequest, place: Place) -> str:
        """The id of the cluster's proximity placement group for a zone, made where it does not exist yet."""
        name = beside_name(request.cluster_id, place.zone or place.region, "ppg")
        body: dict[str, Any] = {
            "location": place.region,
            "tags": dict(request.tags),
            "properties": {"proximityPlacementGroupType": "Standard"},
        }
        with translate_errors("make the proximity placement group", place):
            self._clients.compute.proximity_placement_groups.create_or_update(group, name, body)  # type: ignore[call-overload]
        return self._id(group, "Microsoft.Compute/proximityPlacementGroups", name)

    def _make_group(self, group: str, request: LaunchRequest, place: Place) -> None:
        """The cluster's own resource group; one of its name that is somebody else's is left alone, tags included (I9)."""
        found = self._clients.get("look at the resource group", place, f"resourceGroups/{group}")
        if found is not None and not is_ours(found, request.cluster_id):
            raise ProviderError(
                f"{place}: a resource group {group} exists and is not ours",
                provider="azure",
                region=place.region,
                code="ResourceAlreadyExists",
                hint="delete it, or name another cluster",
            )
        if (
            found is not None
            and str((found.get("properties") or {}).get("provisioningState", "")).lower() == "deleting"
        ):
            raise retryable(f"the resource group {group} is being deleted", "ResourceGroupBeingDeleted", place)
        if found is None:
            body: Any = {"location": place.region, "tags": dict(request.tags)}
            with translate_errors("make the resource group", place):
                self._clients.resources.resource_groups.create_or_update(group, body)

    def _around(self, group: str, request: LaunchRequest, place: Place) -> NetworkRefs:
        security = beside_name(request.cluster_id, place.region, "nsg")
        started = [("make the security group", self._begin_security_group(group, security, request, place))]
        subnet = self._given_subnet(place)
        if not subnet:
            if request.private:
                log.warning("%s: %s", place, _NO_WAY_OUT)
            name = beside_name(request.cluster_id, place.region, "vnet")
            started.append(("make the network", self._begin_network(group, name, request, place)))
            subnet = self._id(group, "Microsoft.Network/virtualNetworks", name) + f"/subnets/{_SUBNET}"
        clock, step = self._clients.clock, self._clients.step
        for what, operation in started:
            failure = wait_for(operation, what, place, clock=clock, step=step, patience=_PATIENCE)
            if failure is not None:
                raise refusal(failure, operation=what, place=place)
            if not operation.finished():
                raise retryable(f"{what}: not through after {_PATIENCE}", "InProgress", place)
        return NetworkRefs(subnet, self._id(group, "Microsoft.Network/networkSecurityGroups", security))

    def _begin_security_group(self, group: str, name: str, request: LaunchRequest, place: Place) -> Operation:
        """Azure's own rules let the machines of a network talk to each other and nobody else in; SSH is added where asked for."""
        rules = []
        if request.ssh_public_key and not request.private:
            rules = [_ssh_rule(blocks) for blocks in (self._callers(place),) if blocks]
        body = {"location": place.region, "tags": dict(request.tags), "properties": {"securityRules": rules}}
        operation = self._clients.operation()
        with translate_errors("make the security group", place):
            self._clients.network.network_security_groups.begin_create_or_update(group, name, body, polling=operation)  # type: ignore[call-overload]
        return operation

    def _begin_network(self, group: str, name: str, request: LaunchRequest, place: Place) -> Operation:
        subnet = {"name": _SUBNET, "properties": {"addressPrefix": _SPACE}}
        body = {
            "location": place.region,
            "tags": dict(request.tags),
            "properties": {"addressSpace": {"addressPrefixes": [_SPACE]}, "subnets": [subnet]},
        }
        operation = self._clients.operation()
        with translate_errors("make the network", place):
            self._clients.network.virtual_networks.begin_create_or_update(group, name, body, polling=operation)  # type: ignore[call-overload]
        return operation

    def _given_subnet(self, place: Place) -> str:
        """The id of the configured subnet, "" where none is configured.

        Raises:
            CapacityError: its network is in another region.
            ConfigError: the network is named, and nothing says in which group it is.
        """
        settings = self._settings
        if not settings.vnet and not settings.subnet:
            return ""
        subnet = settings.subnet or "default"
        if not is_resource_id(subnet):
            vnet = settings.vnet or ""
            if not is_resource_id(vnet):
                if not settings.resource_group:
                    raise ConfigError(
                        f"[providers.azure] vnet={vnet!r}: is a name, and no resource_group is configured that has it",
                        provider="azure",
                        hint="give the network's resource id",
                    )
                vnet = self._id(settings.resource_group, "Microsoft.Network/virtualNetworks", vnet)
            subnet = f"{vnet}/subnets/{subnet}"
        self._check_region(subnet, place)
        return subnet

    def _check_region(self, subnet: str, place: Place) -> None:
        network = parse_id(subnet.rpartition("/subnets/")[0])
        found = self._clients.get(
            "look at the configured network", place, within(network.group, network.type, network.name)
        )
        if found is None:
            raise ConfigError(
                f"[providers.azure] vnet={network.name!r}: there is no such network in the resource group {network.group}",
                provider="azure",
                hint="give the network's resource id",
            )
        location = plain_region(found.get("location"))
        if location != place.region:
            raise unavailable_here(
                f"the configured network {network.name} is in {location}",
                code="NoSubnet",
                place=place,
                scope="region",
                hint="leave vnet and subnet out of [providers.azure] to have one made in each region",
            )

    def _callers(self, place: Place) -> tuple[str, ...]:
        """From where port 22 is opened: as configured, else the caller's own address; nothing where that is not known."""
        if self._settings.ssh_from:
            return self._settings.ssh_from
        if self._settings.is_local:
            return ("127.0.0.1/32",)
        with self._lock:
            if self._own_address is None and self._settings.endpoint_url is None:
                self._own_address = _ask_own_address()
        if not self._own_address:
            log.warning("%s: port 22 stays closed: the caller's address is not known; set ssh_from", place)
            return ()
        return (f"{self._own_address}/32",)

    def _id(self, group: str, kind: str, name: str) -> str:
        return f"/subscriptions/{self._clients.subscription}/resourceGroups/{group}/providers/{kind}/{name}"


def is_ours(group: Any, cluster_id: str) -> bool:
    """Whether a resource group was made for this cluster."""
    return are_meant(group.get("tags") or {}, Selector(cluster_id=cluster_id))


def _ssh_rule(blocks: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": "ssh",
        "properties": {
            "priority": 1000,
            "direction": "Inbound",
            "access": "Allow",
            "protocol": "Tcp",
            "sourceAddressPrefixes": list(blocks),
            "sourcePortRange": "*",
            "destinationAddressPrefix": "*",
            "destinationPortRange": "22",
        },
    }


def _ask_own_address() -> str:
    """The address under which this machine is seen from outside, or "" where nobody tells."""
    try:
        with urllib.request.urlopen(_WHO_AM_I, timeout=_WHO_AM_I_SECONDS) as answer:
            return str(ipaddress.IPv4Address(answer.read(64).decode("ascii").strip()))
    except (OSError, ValueError):
        return ""
