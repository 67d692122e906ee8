"""Resources of somebody else, which nobody may touch; and the proof that nobody did."""

import json
from collections.abc import Mapping
from typing import Any

from multicompute.provider import Resource
from multicompute.testing import foreign
from multicompute_gcp.local.calls import Call, Handler
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.records import PROJECT, url_of
from multicompute_gcp.local.state import State

_MACHINE, _SLICE, _RUNTIME = "e2-standard-2", "v5litepod-4", "v2-alpha-tpuv5-lite"
_IMAGE = "projects/debian-cloud/global/images/family/debian-12"

Key = tuple[str, str, str]


class ForeignResources:
    """One of everything that we make for each kind of foreign resource, and once named like ours without labels."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._expected: dict[Key, Mapping[str, str]] = {}

    def forget(self) -> None:
        """Know of none any more."""
        self._expected.clear()

    def is_one(self, resource: Resource) -> bool:
        """Whether a resource is a foreign resource."""
        return _key(resource) in self._expected

    def seed(self, region: str, handlers: Mapping[str, Handler], listed: Any) -> None:
        """Make them in a region; `listed` tells everything that is alive."""
        before = {_key(resource) for resource in listed()}
        with self._state.lock:
            named = [(f"foreign-{number}", tags) for number, tags in enumerate(foreign.ALL)]
            # Ours are called after the cluster and the region.
            like_ours = f"{foreign.LIKE_OURS.removeprefix('multicompute-')}-{region}"
            for name, tags in [*named, (like_ours, {})]:
                for operation, path, query, body in _requests(region, name, tags):
                    handlers[operation](Call(operation, {"project": PROJECT, **path}, query, body))
        self._expected |= {_key(one): dict(one.tags) for one in listed() if _key(one) not in before}

    def are_intact(self, alive: list[Resource]) -> bool:
        """Whether all of them are among what is alive, with the labels that they had."""
        found = {_key(resource): dict(resource.tags) for resource in alive}
        return all(found.get(key) == tags for key, tags in self._expected.items())


def _key(resource: Resource) -> Key:
    return resource.kind, resource.region, resource.id


def _requests(
    region: str, name: str, tags: Mapping[str, str]
) -> list[tuple[str, dict[str, str], dict[str, str], dict[str, Any]]]:
    zone = next(zone for zone in hardware().regions()[region] if zone in hardware().machine_types[_MACHINE].zones)
    labels, note = dict(tags), json.dumps(dict(tags))
    boot = {"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": _IMAGE, "labels": labels}}
    instance = {
        "name": name,
        "machineType": f"zones/{zone}/machineTypes/{_MACHINE}",
        "labels": labels,
        "disks": [boot],
        "networkInterfaces": [{"network": "global/networks/default"}],
    }
    policy = {"name": name, "description": note, "groupPlacementPolicy": {"collocation": "COLLOCATED"}}
    firewall = {"name": name, "description": note, "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}]}
    found: list[tuple[str, dict[str, str], dict[str, str], dict[str, Any]]] = [
        ("instances.insert", {"zone": zone}, {}, instance),
        ("disks.insert", {"zone": zone}, {}, {"name": f"{name}-data", "sizeGb": "10", "labels": labels}),
        ("resourcePolicies.insert", {"region": region}, {}, policy),
        ("firewalls.insert", {}, {}, firewall | {"network": url_of("global", "networks", "default")}),
    ]
    slices = [place for place in hardware().slices[_SLICE].zones if hardware().zones[place] == region]
    if slices:
        place = min(slices)
        node = {"acceleratorType": _SLICE, "runtimeVersion": _RUNTIME, "labels": labels}
        spec = {"parent": f"projects/{PROJECT}/locations/{place}", "nodeId": f"{name}-tpu", "node": node}
        queued = {"tpu": {"nodeSpec": [spec]}}
        found.append(("tpu.queuedResources.create", {"zone": place}, {"queuedResourceId": f"{name}-queued"}, queued))
    return found
