"""Creates what a cluster's machines need in a region: resource group, security group and network; or finds the configured ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, NamedTuple

from multicompute.errors import ConfigError, MulticomputeError
from multicompute.provider import LaunchRequest, Selector
from multicompute.provider_kit.vendor_errors import Place, retryable, unavailable_here
from multicompute_azure._errors import GROUP_NOT_FOUND, failed_operation, foreign_resource, translate_errors
from multicompute_azure._names import dependent_name, group_name, is_resource_id, parse_id, plain_region
from multicompute_azure._operations import Operation
from multicompute_azure._resources import find_group, is_being_deleted
from multicompute_azure._security_group import SECURITY_GROUPS, SecurityGroups
from multicompute_azure._session import NETWORK, Clients, path_of
from multicompute_azure._tags import are_selected

_NETWORKS: Final = f"{NETWORK}/virtualNetworks"
_ADDRESSES: Final = "10.0.0.0/16"
_SUBNET: Final = "nodes"
# A network takes some seconds; one that takes longer is waited for by the repeated launch.
_PATIENCE: Final = timedelta(seconds=30)


class NetworkRefs(NamedTuple):
    """The ids of the resources that a scale set refers to."""

    subnet: str
    security_group: str


class Network:
    """The groups and networks of clusters, created once per cluster, region and process, so the next attempt needs no call."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._settings = clients.settings
        self._created: dict[tuple[str, str], NetworkRefs] = {}
        self._security_groups = SecurityGroups(clients)

    def group_of(self, cluster_id: str, region: str) -> str:
        """Return the name of the resource group of a cluster in a region."""
        return self._settings.resource_group or group_name(cluster_id, region)

    def require_ssh(self, request: LaunchRequest, place: Place) -> None:
        """Refuse, before anything is created, nodes that are to accept SSH from an address that is not known.

        Raises:
            InvalidRequestError: The caller's address can't be found.
        """
        self._security_groups.sources(request, place)

    def refs(self, request: LaunchRequest, place: Place) -> NetworkRefs:
        """Return what a scale set of this launch refers to in this region, created if it does not exist yet."""
        key = (request.cluster_id, place.region)
        if key not in self._created:
            group = self.group_of(request.cluster_id, place.region)
            if not self._settings.resource_group:
                self._create_group(group, request, place)
            with self._in_group(group, place):
                self._created[key] = self._create_network(group, request, place)
        return self._created[key]

    def open_ssh(self, cluster_id: str, place: Place) -> None:
        """Open port 22 of a cluster's nodes to the caller, and wait until it is open."""
        name = dependent_name(cluster_id, place.region, "nsg")
        call, operation = self._security_groups.open(self.group_of(cluster_id, place.region), name, place)
        if operation is not None:
            self._wait(operation, call, place)

    @contextmanager
    def _in_group(self, group: str, place: Place) -> Iterator[None]:
        """Have a launch repeated that does not find the group which was created for it.

        A group may be unknown to other services for some seconds after it was created (hashicorp/terraform-provider-azurerm#18268).
        """
        try:
            yield
        except MulticomputeError as error:
            if error.code != GROUP_NOT_FOUND or self._settings.resource_group:
                raise
            text = f"the resource group {group} is not known yet"
            raise retryable(text, code=GROUP_NOT_FOUND, place=place) from error

    def forget(self, cluster_id: str) -> None:
        """Forget what was created for a cluster that is torn down."""
        for key in [key for key in self._created if key[0] == cluster_id]:
            self._created.pop(key, None)

    def _create_group(self, group: str, request: LaunchRequest, place: Place) -> None:
        """Create the cluster's own resource group. A foreign one of its name is not changed, nor are its tags (I9)."""
        found = find_group(self._clients, group, place)
        if found is None:
            body: Any = {"location": place.region, "tags": dict(request.tags)}
            with translate_errors("resourceGroups.createOrUpdate", place):
                self._clients.resources.resource_groups.create_or_update(group, body)
        elif not are_selected(found.get("tags") or {}, Selector(cluster_id=request.cluster_id)):
            raise foreign_resource("resource group", group, place)
        elif is_being_deleted(found):
            text = f"the resource group {group} is being deleted"
            raise retryable(text, code="ResourceGroupBeingDeleted", place=place)

    def _create_network(self, group: str, request: LaunchRequest, place: Place) -> NetworkRefs:
        """Create the security group, and the network unless a subnet is configured, and wait for both."""
        security = dependent_name(request.cluster_id, place.region, "nsg")
        begun = dict([self._security_groups.begin(group, security, request, place)])
        subnet = self._configured_subnet(place)
        if not subnet:
            name = dependent_name(request.cluster_id, place.region, "vnet")
            begun["virtualNetworks.createOrUpdate"] = self._begin_network(group, name, request, place)
            subnet = f"{self._clients.id_of(group, _NETWORKS, name)}/subnets/{_SUBNET}"
        for name, operation in begun.items():
            if operation is not None:
                self._wait(operation, name, place)
        return NetworkRefs(subnet, self._clients.id_of(group, SECURITY_GROUPS, security))

    def _wait(self, operation: Operation, name: str, place: Place) -> None:
        clock = self._clients.clock
        deadline = clock.now() + _PATIENCE
        while not operation.finished() and clock.now() < deadline:
            clock.sleep(self._clients.step)
            operation.refresh(name, place)
        if operation.failure is not None:
            raise failed_operation(operation.failure, name, place)
        if not operation.finished():
            raise retryable(f"{name} has not finished after {_PATIENCE}", code="InProgress", place=place)

    def _begin_network(self, group: str, name: str, request: LaunchRequest, place: Place) -> Operation | None:
        """Begin to create the network; None if it exists: the user may have attached a NAT gateway or a route table to it since."""
        if self._clients.find("virtualNetworks.get", place, path_of(group, _NETWORKS, name)) is not None:
            return None
        if request.private:
            what = "private nodes in a network that is created for them can't reach the internet"
            remedy = "if they need to, set [providers.azure] vnet and subnet to a subnet with a NAT gateway"
            request.warn(f"{place}: {what}; {remedy}")
        # "Default outbound access in Azure": new networks have none after 2026-03-31 with new versions of the API, and Flexible scale sets
        # never had it. It is turned off, so that nodes do not depend on either: those with a public address use that.
        subnet = {"name": _SUBNET, "properties": {"addressPrefix": _ADDRESSES, "defaultOutboundAccess": False}}
        body = _body(request, place, {"addressSpace": {"addressPrefixes": [_ADDRESSES]}, "subnets": [subnet]})
        operation = self._clients.operation()
        with translate_errors("virtualNetworks.createOrUpdate", place):
            networks: Any = self._clients.network.virtual_networks
            networks.begin_create_or_update(group, name, body, polling=operation)
        return operation

    def _configured_subnet(self, place: Place) -> str:
        """Return the id of the configured subnet, "" if none is configured.

        Raises:
            CapacityError: Its network is in another region.
            ConfigError: Its network does not exist.
        """
        settings = self._settings
        if not settings.vnet and not settings.subnet:
            return ""
        subnet = settings.subnet or "default"
        if not is_resource_id(subnet):
            vnet = settings.vnet or ""
            network = (
                vnet if is_resource_id(vnet) else self._clients.id_of(settings.resource_group or "", _NETWORKS, vnet)
            )
            subnet = f"{network}/subnets/{subnet}"
        self._check_region(subnet, place)
        return subnet

    def _check_region(self, subnet: str, place: Place) -> None:
        network = parse_id(subnet.rpartition("/subnets/")[0])
        path = path_of(network.group, network.type, network.name)
        found = self._clients.find("virtualNetworks.get", place, path)
        if found is None:
            raise ConfigError(
                f"[providers.azure] vnet={network.name!r}: the resource group {network.group} has no such network",
                provider="azure",
                hint="write the network's resource id",
            )
        location = plain_region(found.get("location"))
        if location != place.region:
            raise unavailable_here(
                f"the configured network {network.name} is in {location}",
                code="NoSubnet",
                place=place,
                scope="region",
                hint="leave vnet and subnet out of [providers.azure] to have a network created in each region",
            )


def _body(request: LaunchRequest, place: Place, properties: dict[str, Any]) -> dict[str, Any]:
    return {"location": place.region, "tags": dict(request.tags), "properties": properties}
