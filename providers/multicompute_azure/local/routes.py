"""The requests that the local Azure accepts: methods, paths, api-versions and models, from the installed SDK."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from multicompute.testing.local.server import Request
from multicompute_azure.local import schema
from multicompute_azure.local.arm import SUBSCRIPTION, ArmError, ArmResponse, Json

_S = "/subscriptions/{subscription}"
_G = _S + "/resourceGroups/{group}"
_COMPUTE, _NETWORK, _RESOURCES = "compute", "network", "resource.resources"
# The client of subscriptions is in a separate package, which is not needed for this; these are its api-versions.
_SUBSCRIPTION_VERSIONS = frozenset({"2016-06-01", "2019-06-01", "2020-01-01", "2021-01-01", "2022-12-01"})
# Versions that Azure has published in addition to those of the installed SDK, from its specifications. They are accepted for requests
# without a body; a body is checked against the SDK's models, and needs the SDK's version.
_MONITOR_VERSIONS = frozenset({"2023-10-01", "2024-02-01"})
_HEALTH_VERSIONS = frozenset({"2022-10-01", "2025-05-01"})
_GALLERY_VERSIONS = frozenset({"2022-08-03", "2023-07-03", "2024-03-03"})
# The network provider answers below a scale set in this version only: the SDK's functions for it have it as their default.
_PART_VERSIONS = frozenset({"2018-10-01"})
_BATCH_VERSIONS = frozenset({"2020-06-01"})
_PUBLISHED = {_COMPUTE: {"2024-07-01"}, _NETWORK: {"2024-05-01"}, _RESOURCES: {"2024-03-01"}}


@dataclass(frozen=True, slots=True)
class Route:
    """An operation of the API.

    Attributes:
        method: The HTTP method.
        template: The path, with names in braces.
        operation: Its name in faults and in the record of calls.
        package: The package of the SDK below `azure.mgmt`.
        builder: The SDK's function that builds its request, and has its api-version.
        model: The SDK's class of the body, "" for no body.
        known: The api-versions of an operation without a builder.
    """

    method: str
    template: str
    operation: str
    package: str = ""
    builder: str = ""
    model: str = ""
    known: frozenset[str] = frozenset()

    @property
    def versions(self) -> frozenset[str]:
        """The api-versions that are accepted."""
        if not self.builder:
            return self.known or _SUBSCRIPTION_VERSIONS
        known = schema.versions(self.package, self.builder)
        return known if self.model or self.operation == "skus.list" else known | _PUBLISHED[self.package]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an operation.

    Attributes:
        route: The operation.
        params: The parameters in the path.
        query: The parameters in the query; names in lower case.
        document: The JSON document.
        request: The original request.
        base_url: The URL of the local cloud as the client knows it, for links in the response.
        failure: Returns the injected error for the long-running operation that this call starts, if there is one.
    """

    route: Route
    params: Mapping[str, str]
    query: Mapping[str, str]
    document: Json
    request: Request
    base_url: str
    failure: Callable[[], ArmError | None] = field(default=lambda: None)

    @property
    def group(self) -> str:
        """The resource group in the path."""
        return self.params["group"]

    @property
    def name(self) -> str:
        """The name of the resource in the path."""
        return self.params["name"]

    @property
    def version(self) -> str:
        """The api-version."""
        return self.query["api-version"]


Handler = Callable[[Call], ArmResponse]


def _crud(
    provider: str,
    plural: str,
    builder: str,
    model: str,
    update: str,
    package: str,
    lists: tuple[str, str],
    patch: str = "update",
) -> list[Route]:
    """Return the six operations that a type of resource has."""
    where = f"{_G}/providers/{provider}/{plural}"
    one = where + "/{name}"
    everywhere = f"{_S}/providers/{provider}/{plural}"
    return [
        Route("PUT", one, f"{plural}.createOrUpdate", package, f"{builder}_create_or_update", model),
        Route("GET", one, f"{plural}.get", package, f"{builder}_get"),
        Route("PATCH", one, f"{plural}.update", package, f"{builder}_{patch}", update),
        Route("DELETE", one, f"{plural}.delete", package, f"{builder}_delete"),
        Route("GET", where, f"{plural}.list", package, f"{builder}_{lists[0]}"),
        Route("GET", everywhere, f"{plural}.listAll", package, f"{builder}_{lists[1]}"),
    ]


def _compute() -> list[Route]:
    provider, by = "Microsoft.Compute", ("list_by_resource_group", "list_by_subscription")
    plain = ("list", "list_all")
    sets, machines = "virtual_machine_scale_sets", "virtual_machines"
    machine = f"{_G}/providers/{provider}/virtualMachines/{{name}}"
    place = f"{_S}/providers/{provider}/locations/{{location}}"
    images = place + "/publishers/{publisher}/artifacttypes/vmimage/offers/{offer}/skus/{sku}/versions"
    group = f"{_G}/providers/{provider}/capacityReservationGroups/{{parent}}/capacityReservations"
    gallery = f"{_G}/providers/{provider}/galleries/{{parent}}/images"
    reservations = "capacity_reservations"
    found = [
        *_crud(provider, "virtualMachineScaleSets", sets, "VirtualMachineScaleSet", "VirtualMachineScaleSetUpdate", _COMPUTE, plain),
        *_crud(provider, "virtualMachines", machines, "VirtualMachine", "VirtualMachineUpdate", _COMPUTE, plain),
        *_crud(provider, "disks", "disks", "Disk", "DiskUpdate", _COMPUTE, ("list_by_resource_group", "list")),
        *_crud(
            provider, "proximityPlacementGroups", "proximity_placement_groups", "ProximityPlacementGroup",
            "ProximityPlacementGroupUpdate", _COMPUTE, by,
        ),
        *_crud(
            provider, "capacityReservationGroups", "capacity_reservation_groups", "CapacityReservationGroup",
            "CapacityReservationGroupUpdate", _COMPUTE, by,
        ),
        *_instances(),
        Route("POST", machine + "/deallocate", "virtualMachines.deallocate", _COMPUTE, f"{machines}_deallocate"),
        Route("POST", machine + "/start", "virtualMachines.start", _COMPUTE, f"{machines}_start"),
        Route("POST", machine + "/powerOff", "virtualMachines.powerOff", _COMPUTE, f"{machines}_power_off"),
        Route("POST", machine + "/simulateEviction", "virtualMachines.simulateEviction", _COMPUTE, f"{machines}_simulate_eviction"),
        Route("GET", machine + "/instanceView", "virtualMachines.instanceView", _COMPUTE, f"{machines}_instance_view"),
        Route("GET", place + "/usages", "usages.list", _COMPUTE, "usage_list"),
        Route("GET", f"{_S}/providers/{provider}/skus", "skus.list", _COMPUTE, "resource_skus_list"),
        Route("GET", images, "virtualMachineImages.list", _COMPUTE, "virtual_machine_images_list"),
        Route("GET", images + "/{name}", "virtualMachineImages.get", _COMPUTE, "virtual_machine_images_get"),
        Route("GET", gallery + "/{name}", "galleryImages.get", known=_GALLERY_VERSIONS),
        Route("PUT", group + "/{name}", "capacityReservations.createOrUpdate", _COMPUTE, f"{reservations}_create_or_update", "CapacityReservation"),
        Route("GET", group + "/{name}", "capacityReservations.get", _COMPUTE, f"{reservations}_get"),
        Route("DELETE", group + "/{name}", "capacityReservations.delete", _COMPUTE, f"{reservations}_delete"),
        Route("GET", group, "capacityReservations.list", _COMPUTE, f"{reservations}_list_by_capacity_reservation_group"),
    ]  # fmt: skip
    return found


def _instances() -> list[Route]:
    """Return the operations on the instances of Uniform scale sets."""
    owner = f"{_G}/providers/Microsoft.Compute/virtualMachineScaleSets"
    every = owner + "/{name}/virtualMachines"
    one, plural, vms = (
        owner + "/{parent}/virtualMachines/{name}",
        "virtualMachineScaleSetVMs",
        "virtual_machine_scale_set_vms",
    )
    delete, ids = "virtualMachineScaleSets.deleteInstances", "VirtualMachineScaleSetVMInstanceRequiredIDs"
    return [
        Route("GET", every, f"{plural}.list", _COMPUTE, f"{vms}_list"),
        Route("GET", one, f"{plural}.get", _COMPUTE, f"{vms}_get"),
        Route("PUT", one, f"{plural}.update", _COMPUTE, f"{vms}_update", "VirtualMachineScaleSetVM"),
        Route("DELETE", one, f"{plural}.delete", _COMPUTE, f"{vms}_delete"),
        Route("GET", one + "/instanceView", f"{plural}.instanceView", _COMPUTE, f"{vms}_get_instance_view"),
        Route("POST", one + "/deallocate", f"{plural}.deallocate", _COMPUTE, f"{vms}_deallocate"),
        Route("POST", one + "/powerOff", f"{plural}.powerOff", _COMPUTE, f"{vms}_power_off"),
        Route("POST", one + "/start", f"{plural}.start", _COMPUTE, f"{vms}_start"),
        Route("POST", one + "/simulateEviction", f"{plural}.simulateEviction", _COMPUTE, f"{vms}_simulate_eviction"),
        Route("POST", owner + "/{name}/delete", delete, _COMPUTE, "virtual_machine_scale_sets_delete_instances", ids),
        Route("GET", owner + "/{name}/networkInterfaces", "virtualMachineScaleSets.listNetworkInterfaces", known=_PART_VERSIONS),
        Route("GET", owner + "/{name}/publicipaddresses", "virtualMachineScaleSets.listPublicIPAddresses", known=_PART_VERSIONS),
    ]  # fmt: skip


def _network() -> list[Route]:
    provider, plain = "Microsoft.Network", ("list", "list_all")
    subnets = f"{_G}/providers/{provider}/virtualNetworks/{{parent}}/subnets"
    rules = f"{_G}/providers/{provider}/networkSecurityGroups/{{parent}}/securityRules/{{name}}"

    def crud(plural: str, builder: str, model: str) -> list[Route]:
        return _crud(provider, plural, builder, model, "TagsObject", _NETWORK, plain, "update_tags")

    return [
        *crud("networkSecurityGroups", "network_security_groups", "NetworkSecurityGroup"),
        *crud("virtualNetworks", "virtual_networks", "VirtualNetwork"),
        *crud("publicIPAddresses", "public_ip_addresses", "PublicIPAddress"),
        *crud("networkInterfaces", "network_interfaces", "NetworkInterface"),
        Route(
            "PUT", rules, "securityRules.createOrUpdate", _NETWORK, "security_rules_create_or_update", "SecurityRule"
        ),
        Route("GET", rules, "securityRules.get", _NETWORK, "security_rules_get"),
        Route("DELETE", rules, "securityRules.delete", _NETWORK, "security_rules_delete"),
        Route("PUT", subnets + "/{name}", "subnets.createOrUpdate", _NETWORK, "subnets_create_or_update", "Subnet"),
        Route("GET", subnets + "/{name}", "subnets.get", _NETWORK, "subnets_get"),
        Route("DELETE", subnets + "/{name}", "subnets.delete", _NETWORK, "subnets_delete"),
        Route("GET", subnets, "subnets.list", _NETWORK, "subnets_list"),
    ]


def _resources() -> list[Route]:
    groups, tags = "resource_groups", "tags"
    at = "{scope}/providers/Microsoft.Resources/tags/default"
    return [
        Route("PUT", _G, "resourceGroups.createOrUpdate", _RESOURCES, f"{groups}_create_or_update", "ResourceGroup"),
        Route("GET", _G, "resourceGroups.get", _RESOURCES, f"{groups}_get"),
        Route("HEAD", _G, "resourceGroups.checkExistence", _RESOURCES, f"{groups}_check_existence"),
        Route("PATCH", _G, "resourceGroups.update", _RESOURCES, f"{groups}_update", "ResourceGroupPatchable"),
        Route("DELETE", _G, "resourceGroups.delete", _RESOURCES, f"{groups}_delete"),
        Route("GET", _S + "/resourceGroups", "resourceGroups.list", _RESOURCES, f"{groups}_list"),
        Route("GET", _S + "/resources", "resources.list", _RESOURCES, "resources_list"),
        Route(
            "GET", _G + "/resources", "resources.listByResourceGroup", _RESOURCES, "resources_list_by_resource_group"
        ),
        Route("GET", at, "tags.getAtScope", _RESOURCES, f"{tags}_get_at_scope"),
        Route("PUT", at, "tags.createOrUpdateAtScope", _RESOURCES, f"{tags}_create_or_update_at_scope", "TagsResource"),
        Route("PATCH", at, "tags.updateAtScope", _RESOURCES, f"{tags}_update_at_scope", "TagsPatchResource"),
        Route("DELETE", at, "tags.deleteAtScope", _RESOURCES, f"{tags}_delete_at_scope"),
        Route("GET", _S + "/providers/{namespace}", "providers.get", _RESOURCES, "providers_get"),
        Route("POST", _S + "/providers/{namespace}/register", "providers.register", _RESOURCES, "providers_register"),
        Route("GET", _S, "subscriptions.get"),
        Route("GET", "/subscriptions", "subscriptions.list"),
        Route("GET", _S + "/locations", "subscriptions.listLocations"),
    ]


def _monitoring() -> list[Route]:
    """Return operations of SDK packages that are not needed: in published versions; `Monitoring` and `Batch` check the bodies."""
    health, listed = "providers/Microsoft.ResourceHealth/availabilityStatuses", "availabilityStatuses.list"
    return [
        Route("POST", _S + "/metrics:getBatch", "metrics.getBatch", known=_MONITOR_VERSIONS),
        Route("GET", "{scope}/providers/Microsoft.Insights/metrics", "metrics.list", known=_MONITOR_VERSIONS),
        Route("GET", f"{_G}/{health}", f"{listed}ByResourceGroup", known=_HEALTH_VERSIONS),
        Route("GET", f"{_S}/{health}", listed, known=_HEALTH_VERSIONS),
        Route("POST", "/batch", "batch", known=_BATCH_VERSIONS),
    ]


ROUTES: tuple[Route, ...] = (*_resources(), *_compute(), *_network(), *_monitoring())


class Router:
    """An index of the routes by path, whose fixed parts are case-insensitive, as in Azure."""

    def __init__(self) -> None:
        """Index the templates in `ROUTES` by method and number of parts."""
        self._routes: dict[tuple[str, int], list[tuple[Route, list[str]]]] = {}
        for route in ROUTES:
            parts = route.template.split("/")
            if route.template.startswith("{scope}"):
                # The scope is a subscription, a resource group, a resource, or a resource in another.
                for length in (2, 4, 8, 10):
                    self._add(route, ["", *[f"{{scope{number}}}" for number in range(length)], *parts[1:]])
            else:
                self._add(route, parts)

    def _add(self, route: Route, parts: list[str]) -> None:
        self._routes.setdefault((route.method, len(parts)), []).append((route, parts))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route of a path and the parameters in the path, or None."""
        parts = [unquote(part) for part in path.rstrip("/").split("/")]
        for route, wanted in self._routes.get((method, len(parts)), ()):
            params = _match(wanted, parts)
            if params is not None:
                if route.template.startswith("{scope}"):
                    params = {"scope": "/".join(parts[: -(route.template.count("/"))])}
                return route, params
        return None


def _match(wanted: list[str], parts: list[str]) -> dict[str, str] | None:
    params: dict[str, str] = {}
    for want, part in zip(wanted, parts, strict=True):
        if want.startswith("{"):
            params[want[1:-1]] = part
        elif want.lower() != part.lower():
            return None
    return params


def query_of(request: Request) -> dict[str, str]:
    """Return the parameters in the query; names in lower case, because they are case-insensitive in Azure."""
    return {name.lower(): value for name, value in parse_qsl(request.query, keep_blank_values=True)}


def check_version(route: Route, query: Mapping[str, str]) -> None:
    """Refuse a request without an api-version, or with an unknown one."""
    version = query.get("api-version", "")
    if not version:
        raise ArmError(
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    if version not in route.versions:
        known = ", ".join(sorted(route.versions))
        raise ArmError(
            "InvalidApiVersionParameter",
            f"The api-version '{version}' is invalid for {route.operation}. The supported versions are '{known}'.",
        )


def check_subscription(params: Mapping[str, str]) -> None:
    """Refuse a subscription that is not the one of this cloud."""
    scope = params.get("scope", "").split("/")
    name = params.get("subscription") or (scope[2] if len(scope) > 2 else SUBSCRIPTION)
    if name.lower() != SUBSCRIPTION.lower():
        raise ArmError("SubscriptionNotFound", f"The subscription '{name}' could not be found.", 404)
