"""The methods on the project, regions with their quotas, zones, machine types and accelerator types."""

import functools
import zlib
from collections.abc import Mapping

from multicompute_gcp.local import quotas
from multicompute_gcp.local.calls import Call, Handler, ZonalKind, list_page
from multicompute_gcp.local.hardware import MachineType, hardware
from multicompute_gcp.local.records import PROJECT, PROJECT_NUMBER, ComputeResource, url_of
from multicompute_gcp.local.responses import Json
from multicompute_gcp.local.state import ResourceStore, State


class Offerings:
    """The methods that describe what a project can use."""

    def __init__(self, state: State) -> None:
        """Describe the zones, with the limits and usage in `state`."""
        self._state = state

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        return {
            "projects.get": self._project,
            "regions.list": self._regions,
            "regions.get": self._region,
            "zones.list": self._zones,
            "zones.get": self._zone,
            **ZonalKind(self._state, "machineType", _machines).handlers(),
            **ZonalKind(self._state, "acceleratorType", _accelerators).handlers(),
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


@functools.cache
def _machines(zone: str) -> ResourceStore[ComputeResource]:
    found = (machine for machine in hardware().machine_types.values() if zone in machine.zones)
    return ResourceStore(_resource(_machine(machine, zone), "machineType") for machine in found)


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


@functools.cache
def _accelerators(zone: str) -> ResourceStore[ComputeResource]:
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

    found = hardware().gpus_in(zone)
    return ResourceStore(_resource(body(name, most), "acceleratorType") for name, most in found.items())
