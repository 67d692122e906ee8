"""The methods on the project, regions with their quotas, zones, machine types and accelerator types."""

import zlib
from collections.abc import Mapping

from multicompute_gcp.local import quotas
from multicompute_gcp.local.calls import Call, Handler, aggregated_page, list_page
from multicompute_gcp.local.hardware import MachineType, hardware
from multicompute_gcp.local.records import PROJECT, PROJECT_NUMBER, ComputeResource, path_of, url_of
from multicompute_gcp.local.responses import Json, not_found
from multicompute_gcp.local.state import State


class Offerings:
    """The methods that describe what a project can use."""

    def __init__(self, state: State) -> None:
        self._state = state

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        return {
            "projects.get": self._project,
            "regions.list": self._regions,
            "regions.get": self._region,
            "zones.list": self._zones,
            "zones.get": self._zone,
            "machineTypes.list": self._machine_types,
            "machineTypes.get": self._machine_type,
            "machineTypes.aggregatedList": self._all_machine_types,
            "acceleratorTypes.list": self._accelerator_types,
            "acceleratorTypes.get": self._accelerator_type,
            "acceleratorTypes.aggregatedList": self._all_accelerator_types,
        }

    def _project(self, call: Call) -> Json:
        return {
            "kind": "compute#project",
            "id": PROJECT_NUMBER,
            "name": PROJECT,
            "selfLink": url_of(""),
            "defaultServiceAccount": f"{PROJECT_NUMBER}-compute@developer.gserviceaccount.com",
            "defaultNetworkTier": "PREMIUM",
            "quotas": quotas.project_wide(self._state, quotas.used(self._state.instances())),
            "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": "AAAAAAAAAAA="},
        }

    def _region(self, call: Call) -> Json:
        taken = quotas.used(self._state.instances(call.region))
        return _region(call.region, quotas.listed(self._state, call.region, taken))

    def _regions(self, call: Call) -> str:
        taken = quotas.used(self._state.instances())
        resources = [
            _resource(_region(name, quotas.listed(self._state, name, taken)), "region")
            for name in sorted(hardware().regions())
        ]
        return list_page(call, self._state, "region", "regions", resources)

    def _zone(self, call: Call) -> Json:
        return _zone(call.zone)

    def _zones(self, call: Call) -> str:
        resources = [_resource(_zone(name), "zone") for name in sorted(hardware().zones)]
        return list_page(call, self._state, "zone", "zones", resources)

    def _machine_type(self, call: Call) -> Json:
        zone, name = call.zone, call.path["machineType"]
        machine = hardware().machine_types.get(name)
        if machine is None or zone not in machine.zones:
            raise not_found(path_of(f"zones/{zone}", "machineTypes", name))
        return _machine(machine, zone)

    def _machine_types(self, call: Call) -> str:
        zone = call.zone
        return list_page(call, self._state, "machineType", f"zones/{zone}", _machines(zone))

    def _all_machine_types(self, call: Call) -> str:
        scopes = {f"zones/{zone}": _machines(zone) for zone in hardware().zones}
        return aggregated_page(call, self._state, "machineType", scopes)

    def _accelerator_type(self, call: Call) -> Json:
        zone, name = call.zone, call.path["acceleratorType"]
        for resource in _accelerators(zone):
            if resource.name == name:
                return resource.body
        raise not_found(path_of(f"zones/{zone}", "acceleratorTypes", name))

    def _accelerator_types(self, call: Call) -> str:
        zone = call.zone
        return list_page(call, self._state, "acceleratorType", f"zones/{zone}", _accelerators(zone))

    def _all_accelerator_types(self, call: Call) -> str:
        scopes = {f"zones/{zone}": _accelerators(zone) for zone in hardware().zones}
        return aggregated_page(call, self._state, "acceleratorType", scopes)


def _resource(body: Json, kind: str) -> ComputeResource:
    return ComputeResource(body["name"], int(body["id"]), "", kind, body)


def _id(text: str) -> str:
    return str(1000 + zlib.crc32(text.encode()))


def _region(name: str, limits: list[Json]) -> Json:
    return {
        "kind": "compute#region",
        "id": _id(name),
        "name": name,
        "status": "UP",
        "selfLink": url_of(f"regions/{name}"),
        "zones": [url_of(f"zones/{zone}") for zone in hardware().regions()[name]],
        "quotas": limits,
    }


def _zone(name: str) -> Json:
    return {
        "kind": "compute#zone",
        "id": _id(name),
        "name": name,
        "status": "UP",
        "region": url_of(f"regions/{hardware().zones[name]}"),
        "selfLink": url_of(f"zones/{name}"),
    }


def _machines(zone: str) -> list[ComputeResource]:
    found = [machine for machine in hardware().machine_types.values() if zone in machine.zones]
    return [_resource(_machine(machine, zone), "machineType") for machine in sorted(found, key=lambda one: one.name)]


def _machine(machine: MachineType, zone: str) -> Json:
    body: Json = {
        "kind": "compute#machineType",
        "id": _id(machine.name),
        "name": machine.name,
        "guestCpus": machine.vcpus,
        "memoryMb": int(machine.memory_gib * 1024),
        "architecture": "ARM64" if machine.arch == "arm64" else "X86_64",
        "zone": zone,
        "selfLink": url_of(f"zones/{zone}", "machineTypes", machine.name),
    }
    if machine.gpu:
        body["accelerators"] = [
            {"guestAcceleratorType": machine.gpu, "guestAcceleratorCount": max(int(machine.gpus), 1)}
        ]
    return body


def _accelerators(zone: str) -> list[ComputeResource]:
    def body(name: str, most: int) -> Json:
        return {
            "kind": "compute#acceleratorType",
            "id": _id(name),
            "name": name,
            "description": name.replace("-", " ").upper(),
            "maximumCardsPerInstance": most,
            "zone": url_of(f"zones/{zone}"),
            "selfLink": url_of(f"zones/{zone}", "acceleratorTypes", name),
        }

    found: Mapping[str, int] = hardware().gpus_in(zone)
    return [_resource(body(name, found[name]), "acceleratorType") for name in sorted(found)]
