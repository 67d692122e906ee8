"""Foreign resources for the local Google Cloud, created by its own methods."""

import json
from collections.abc import Mapping
from typing import Any

from multicompute.testing import foreign
from multicompute_gcp.local.calls import Call, Handler
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.records import PROJECT, url_of

_MACHINE, _SLICE, _RUNTIME = "e2-standard-2", "v5litepod-4", "v2-alpha-tpuv5-lite"
_IMAGE = "projects/debian-cloud/global/images/family/debian-12"


def seed(region: str, handlers: Mapping[str, Handler]) -> None:
    """Create one of everything that the provider creates: for each kind of foreign tags, and once with a name like ours."""
    named = [(f"foreign-{number}", tags) for number, tags in enumerate(foreign.ALL)]
    # The provider names its resources after the cluster and the region.
    like_ours = f"{foreign.LIKE_OURS.removeprefix('multicompute-')}-{region}"
    for name, tags in [*named, (like_ours, {})]:
        for operation, path, query, body in _requests(region, name, tags):
            handlers[operation](Call(operation, {"project": PROJECT, **path}, query, body))


def _requests(
    region: str, name: str, tags: Mapping[str, str]
) -> list[tuple[str, dict[str, str], dict[str, str], dict[str, Any]]]:
    zone = next(zone for zone in hardware().regions()[region] if zone in hardware().machine_types[_MACHINE].zones)
    labels, description = dict(tags), json.dumps(dict(tags))
    boot = {"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": _IMAGE, "labels": labels}}
    instance = {
        "name": name,
        "machineType": f"zones/{zone}/machineTypes/{_MACHINE}",
        "labels": labels,
        "disks": [boot],
        "networkInterfaces": [{"network": "global/networks/default"}],
    }
    policy = {"name": name, "description": description, "groupPlacementPolicy": {"collocation": "COLLOCATED"}}
    template = {"name": name, "description": description, "properties": {"machineType": _MACHINE, "labels": labels}}
    group = {"name": name, "description": description, "instanceTemplate": f"regions/{region}/instanceTemplates/{name}"}
    firewall = {"name": name, "description": description, "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}]}
    found: list[tuple[str, dict[str, str], dict[str, str], dict[str, Any]]] = [
        ("instances.insert", {"zone": zone}, {}, instance),
        ("disks.insert", {"zone": zone}, {}, {"name": f"{name}-data", "sizeGb": "10", "labels": labels}),
        ("resourcePolicies.insert", {"region": region}, {}, policy),
        ("regionInstanceTemplates.insert", {"region": region}, {}, template),
        ("instanceGroupManagers.insert", {"zone": zone}, {}, group),
        ("firewalls.insert", {}, {}, firewall | {"network": url_of("global", "networks", "default")}),
    ]
    slice_zones = [each for each in hardware().slices[_SLICE].zones if hardware().zones[each] == region]
    if slice_zones:
        zone = min(slice_zones)
        node = {"acceleratorType": _SLICE, "runtimeVersion": _RUNTIME, "labels": labels}
        spec = {"parent": f"projects/{PROJECT}/locations/{zone}", "nodeId": f"{name}-tpu", "node": node}
        queued = {"tpu": {"nodeSpec": [spec]}}
        found.append(("tpu.queuedResources.create", {"zone": zone}, {"queuedResourceId": f"{name}-queued"}, queued))
    return found
