"""The methods of the APIs, and which of them a request calls."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

COMPUTE = "compute/v1/"
TPU = "v2/"
MONITORING = "v3/"
BILLING = "v1/"
PRICING = "v1beta/"
_PROJECT = "projects/{project}"
_ZONAL = f"{_PROJECT}/zones/{{zone}}"
_REGIONAL = f"{_PROJECT}/regions/{{region}}"
_GLOBAL = f"{_PROJECT}/global"
_GROUP = f"{_ZONAL}/instanceGroupManagers/{{instanceGroupManager}}"
_LOCATION = "projects/{project}/locations/{zone}"

_COMPUTE_METHODS: Mapping[str, tuple[str, str]] = {
    "projects.get": ("GET", _PROJECT),
    "regions.list": ("GET", f"{_PROJECT}/regions"),
    "regions.get": ("GET", _REGIONAL),
    "zones.list": ("GET", f"{_PROJECT}/zones"),
    "zones.get": ("GET", _ZONAL),
    "machineTypes.list": ("GET", f"{_ZONAL}/machineTypes"),
    "machineTypes.get": ("GET", f"{_ZONAL}/machineTypes/{{machineType}}"),
    "machineTypes.aggregatedList": ("GET", f"{_PROJECT}/aggregated/machineTypes"),
    "acceleratorTypes.list": ("GET", f"{_ZONAL}/acceleratorTypes"),
    "acceleratorTypes.get": ("GET", f"{_ZONAL}/acceleratorTypes/{{acceleratorType}}"),
    "acceleratorTypes.aggregatedList": ("GET", f"{_PROJECT}/aggregated/acceleratorTypes"),
    "images.getFromFamily": ("GET", f"{_GLOBAL}/images/family/{{family}}"),
    "images.get": ("GET", f"{_GLOBAL}/images/{{image}}"),
    "instances.bulkInsert": ("POST", f"{_ZONAL}/instances/bulkInsert"),
    "instances.insert": ("POST", f"{_ZONAL}/instances"),
    "instances.list": ("GET", f"{_ZONAL}/instances"),
    "instances.aggregatedList": ("GET", f"{_PROJECT}/aggregated/instances"),
    "instances.get": ("GET", f"{_ZONAL}/instances/{{instance}}"),
    "instances.getGuestAttributes": ("GET", f"{_ZONAL}/instances/{{instance}}/getGuestAttributes"),
    "instances.delete": ("DELETE", f"{_ZONAL}/instances/{{instance}}"),
    "instances.stop": ("POST", f"{_ZONAL}/instances/{{instance}}/stop"),
    "instances.start": ("POST", f"{_ZONAL}/instances/{{instance}}/start"),
    "instances.suspend": ("POST", f"{_ZONAL}/instances/{{instance}}/suspend"),
    "instances.resume": ("POST", f"{_ZONAL}/instances/{{instance}}/resume"),
    "instances.setLabels": ("POST", f"{_ZONAL}/instances/{{instance}}/setLabels"),
    "instances.setMetadata": ("POST", f"{_ZONAL}/instances/{{instance}}/setMetadata"),
    "instances.setScheduling": ("POST", f"{_ZONAL}/instances/{{instance}}/setScheduling"),
    "instances.setDeletionProtection": ("POST", f"{_ZONAL}/instances/{{resource}}/setDeletionProtection"),
    "instanceTemplates.insert": ("POST", f"{_GLOBAL}/instanceTemplates"),
    "instanceTemplates.list": ("GET", f"{_GLOBAL}/instanceTemplates"),
    "instanceTemplates.aggregatedList": ("GET", f"{_PROJECT}/aggregated/instanceTemplates"),
    "instanceTemplates.get": ("GET", f"{_GLOBAL}/instanceTemplates/{{instanceTemplate}}"),
    "instanceTemplates.delete": ("DELETE", f"{_GLOBAL}/instanceTemplates/{{instanceTemplate}}"),
    "regionInstanceTemplates.insert": ("POST", f"{_REGIONAL}/instanceTemplates"),
    "regionInstanceTemplates.list": ("GET", f"{_REGIONAL}/instanceTemplates"),
    "regionInstanceTemplates.get": ("GET", f"{_REGIONAL}/instanceTemplates/{{instanceTemplate}}"),
    "regionInstanceTemplates.delete": ("DELETE", f"{_REGIONAL}/instanceTemplates/{{instanceTemplate}}"),
    "instanceGroupManagers.insert": ("POST", f"{_ZONAL}/instanceGroupManagers"),
    "instanceGroupManagers.list": ("GET", f"{_ZONAL}/instanceGroupManagers"),
    "instanceGroupManagers.aggregatedList": ("GET", f"{_PROJECT}/aggregated/instanceGroupManagers"),
    "instanceGroupManagers.get": ("GET", _GROUP),
    "instanceGroupManagers.delete": ("DELETE", _GROUP),
    "instanceGroupManagers.deleteInstances": ("POST", f"{_GROUP}/deleteInstances"),
    "instanceGroupManagerResizeRequests.insert": ("POST", f"{_GROUP}/resizeRequests"),
    "instanceGroupManagerResizeRequests.list": ("GET", f"{_GROUP}/resizeRequests"),
    "instanceGroupManagerResizeRequests.get": ("GET", f"{_GROUP}/resizeRequests/{{resizeRequest}}"),
    "instanceGroupManagerResizeRequests.cancel": ("POST", f"{_GROUP}/resizeRequests/{{resizeRequest}}/cancel"),
    "instanceGroupManagerResizeRequests.delete": ("DELETE", f"{_GROUP}/resizeRequests/{{resizeRequest}}"),
    "disks.insert": ("POST", f"{_ZONAL}/disks"),
    "disks.list": ("GET", f"{_ZONAL}/disks"),
    "disks.aggregatedList": ("GET", f"{_PROJECT}/aggregated/disks"),
    "disks.get": ("GET", f"{_ZONAL}/disks/{{disk}}"),
    "disks.delete": ("DELETE", f"{_ZONAL}/disks/{{disk}}"),
    "disks.setLabels": ("POST", f"{_ZONAL}/disks/{{resource}}/setLabels"),
    "reservations.list": ("GET", f"{_ZONAL}/reservations"),
    "reservations.aggregatedList": ("GET", f"{_PROJECT}/aggregated/reservations"),
    "reservations.get": ("GET", f"{_ZONAL}/reservations/{{reservation}}"),
    "reservationBlocks.get": ("GET", f"{_ZONAL}/reservations/{{reservation}}/reservationBlocks/{{reservationBlock}}"),
    "resourcePolicies.insert": ("POST", f"{_REGIONAL}/resourcePolicies"),
    "resourcePolicies.list": ("GET", f"{_REGIONAL}/resourcePolicies"),
    "resourcePolicies.aggregatedList": ("GET", f"{_PROJECT}/aggregated/resourcePolicies"),
    "resourcePolicies.get": ("GET", f"{_REGIONAL}/resourcePolicies/{{resourcePolicy}}"),
    "resourcePolicies.delete": ("DELETE", f"{_REGIONAL}/resourcePolicies/{{resourcePolicy}}"),
    "firewalls.insert": ("POST", f"{_GLOBAL}/firewalls"),
    "firewalls.list": ("GET", f"{_GLOBAL}/firewalls"),
    "firewalls.get": ("GET", f"{_GLOBAL}/firewalls/{{firewall}}"),
    "firewalls.delete": ("DELETE", f"{_GLOBAL}/firewalls/{{firewall}}"),
    "networks.list": ("GET", f"{_GLOBAL}/networks"),
    "networks.get": ("GET", f"{_GLOBAL}/networks/{{network}}"),
    "subnetworks.list": ("GET", f"{_REGIONAL}/subnetworks"),
    "subnetworks.aggregatedList": ("GET", f"{_PROJECT}/aggregated/subnetworks"),
    "subnetworks.get": ("GET", f"{_REGIONAL}/subnetworks/{{subnetwork}}"),
    "routes.list": ("GET", f"{_GLOBAL}/routes"),
    "routes.get": ("GET", f"{_GLOBAL}/routes/{{route}}"),
    "routers.list": ("GET", f"{_REGIONAL}/routers"),
    "routers.get": ("GET", f"{_REGIONAL}/routers/{{router}}"),
    "routers.aggregatedList": ("GET", f"{_PROJECT}/aggregated/routers"),
    "zoneOperations.get": ("GET", f"{_ZONAL}/operations/{{operation}}"),
    "zoneOperations.list": ("GET", f"{_ZONAL}/operations"),
    "zoneOperations.wait": ("POST", f"{_ZONAL}/operations/{{operation}}/wait"),
    "regionOperations.get": ("GET", f"{_REGIONAL}/operations/{{operation}}"),
    "regionOperations.list": ("GET", f"{_REGIONAL}/operations"),
    "regionOperations.wait": ("POST", f"{_REGIONAL}/operations/{{operation}}/wait"),
    "globalOperations.get": ("GET", f"{_GLOBAL}/operations/{{operation}}"),
    "globalOperations.list": ("GET", f"{_GLOBAL}/operations"),
    "globalOperations.wait": ("POST", f"{_GLOBAL}/operations/{{operation}}/wait"),
    "globalOperations.aggregatedList": ("GET", f"{_PROJECT}/aggregated/operations"),
}
_TPU_METHODS: Mapping[str, tuple[str, str]] = {
    "projects.locations.list": ("GET", "projects/{project}/locations"),
    "projects.locations.get": ("GET", _LOCATION),
    "projects.locations.acceleratorTypes.list": ("GET", f"{_LOCATION}/acceleratorTypes"),
    "projects.locations.acceleratorTypes.get": ("GET", f"{_LOCATION}/acceleratorTypes/{{acceleratorType}}"),
    "projects.locations.runtimeVersions.list": ("GET", f"{_LOCATION}/runtimeVersions"),
    "projects.locations.runtimeVersions.get": ("GET", f"{_LOCATION}/runtimeVersions/{{runtimeVersion}}"),
    "projects.locations.queuedResources.create": ("POST", f"{_LOCATION}/queuedResources"),
    "projects.locations.queuedResources.list": ("GET", f"{_LOCATION}/queuedResources"),
    "projects.locations.queuedResources.get": ("GET", f"{_LOCATION}/queuedResources/{{queuedResource}}"),
    "projects.locations.queuedResources.delete": ("DELETE", f"{_LOCATION}/queuedResources/{{queuedResource}}"),
    "projects.locations.nodes.create": ("POST", f"{_LOCATION}/nodes"),
    "projects.locations.nodes.list": ("GET", f"{_LOCATION}/nodes"),
    "projects.locations.nodes.get": ("GET", f"{_LOCATION}/nodes/{{node}}"),
    "projects.locations.nodes.delete": ("DELETE", f"{_LOCATION}/nodes/{{node}}"),
    "projects.locations.nodes.getGuestAttributes": ("POST", f"{_LOCATION}/nodes/{{node}}:getGuestAttributes"),
    "projects.locations.nodes.start": ("POST", f"{_LOCATION}/nodes/{{node}}:start"),
    "projects.locations.nodes.stop": ("POST", f"{_LOCATION}/nodes/{{node}}:stop"),
    "projects.locations.nodes.patch": ("PATCH", f"{_LOCATION}/nodes/{{node}}"),
    "projects.locations.operations.list": ("GET", f"{_LOCATION}/operations"),
    "projects.locations.operations.get": ("GET", f"{_LOCATION}/operations/{{operation}}"),
}
_MONITORING_METHODS: Mapping[str, tuple[str, str]] = {"projects.timeSeries.list": ("GET", f"{_PROJECT}/timeSeries")}
_BILLING_METHODS: Mapping[str, tuple[str, str]] = {
    "services.list": ("GET", f"{BILLING}services"),
    "services.skus.list": ("GET", f"{BILLING}services/{{service}}/skus"),
    "skus.price.get": ("GET", f"{PRICING}skus/{{sku}}/price"),
}


@dataclass(frozen=True, slots=True)
class Route:
    """The method that a request calls.

    Attributes:
        api: "compute", "tpu", "monitoring" or "cloudbilling".
        identifier: The id of the method in the discovery document.
        path: The parameters in the path.
    """

    api: str
    identifier: str
    path: Mapping[str, str]

    @property
    def operation(self) -> str:
        """The short name of the method."""
        return short_name(self.identifier)


def short_name(identifier: str) -> str:
    """Return the name under which calls of a method are recorded.

    Example:
        >>> short_name("compute.instances.bulkInsert"), short_name("tpu.projects.locations.nodes.list")
        ('instances.bulkInsert', 'tpu.nodes.list')
    """
    parts = identifier.removeprefix("compute.").split(".")
    return ".".join(parts if len(parts) < 4 else [parts[0], *parts[-2:]])


def route(method: str, path: str) -> Route | None:
    """Return the method that a request calls, or None."""
    path = path.lstrip("/")
    for pattern, verb, api, identifier in _ROUTES:
        if verb == method and (match := pattern.fullmatch(path)) is not None:
            return Route(api, identifier, match.groupdict())
    return None


def methods() -> Mapping[str, tuple[str, str]]:
    """Return every method by its id, with verb and path, to compare with the discovery documents."""
    found = {f"compute.{name}": (verb, COMPUTE + path) for name, (verb, path) in _COMPUTE_METHODS.items()}
    found |= {f"tpu.{name}": (verb, TPU + path) for name, (verb, path) in _TPU_METHODS.items()}
    found |= {f"cloudbilling.{name}": method for name, method in _BILLING_METHODS.items()}
    return found | {
        f"monitoring.{name}": (verb, MONITORING + path) for name, (verb, path) in _MONITORING_METHODS.items()
    }


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/:]+)", re.escape(path)))


_ROUTES = [(_pattern(path), verb, name.split(".", 1)[0], name) for name, (verb, path) in methods().items()]
