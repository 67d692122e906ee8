"""Describes the network interfaces of an instance: the first one, and those of the fabric of its machine type."""

from collections.abc import Mapping
from typing import Any, Final

from multicompute.offer import InstanceType, Part
from multicompute.provider import LaunchRequest
from multicompute_gcp._names import region_of
from multicompute_gcp._settings import GcpSettings

# Machine series that accept gVNIC only, or are much faster with it.
_GVNIC: Final = ("a2-", "a3-", "a4", "g2-", "g4-", "c3", "c4", "n4")
# https://cloud.google.com/compute/docs/gpus/gpu-network-bandwidth: the additional interfaces of a machine type, as gVNIC and as RDMA. A3 High
# has five interfaces in total, A3 Mega nine, A3 Ultra and A4 two gVNIC and eight RDMA, A4X two gVNIC and four RDMA.
_ADDITIONAL: Final[Mapping[str, tuple[int, int]]] = {
    "a3-highgpu-8g": (4, 0),
    "a3-edgegpu-8g": (4, 0),
    "a3-megagpu-8g": (8, 0),
    "a3-ultragpu-8g": (1, 8),
    "a4-highgpu-8g": (1, 8),
    "a4x-highgpu-4g": (1, 4),
}
# Of a machine type without local SSDs; everything else is the same.
_NO_LOCAL_DISKS: Final = "-nolssd"


def interfaces(request: LaunchRequest, part: Part, settings: GcpSettings, *, project: str) -> list[dict[str, Any]]:
    """Return the network interfaces of an instance: one, and those of the fabric if the settings name subnetworks for them.

    Each interface of the fabric needs a subnetwork of its own, which only the owner of the account can lay out.
    """
    region, instance = part.offer.region, part.offer.instance
    if settings.subnetwork:
        first: dict[str, Any] = {"subnetwork": subnetwork_path(settings.subnetwork, project=project, region=region)}
    else:
        first = {"network": network_path(settings, project=project)}
    if instance.name.startswith(_GVNIC):
        first["nic_type"] = "GVNIC"
    if not request.private:
        first["access_configs"] = [{"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}]
    named = gpu_subnetworks(instance, part.offer.zone, settings) if request.fabric else ()
    plain, _ = additional(instance)
    others = [
        {
            "subnetwork": subnetwork_path(name, project=project, region=region),
            "nic_type": "GVNIC" if number < plain else "MRDMA",
        }
        for number, name in enumerate(named)
    ]
    return [first, *others]


def gpu_subnetworks(instance: InstanceType, zone: str, settings: GcpSettings) -> tuple[str, ...]:
    """Return the subnetworks that the settings name for a machine type in a zone, as many of them as it has interfaces for."""
    given = settings.gpu_subnetworks
    if isinstance(given, tuple):
        named = given
    else:
        # The longest key is the most specific one; the keys with a zone come first, because RoCE networks are zonal.
        fitting = [key for key in given if _fits(key, instance.name, zone)]
        best = max(fitting, key=lambda key: ("/" in key, len(key)), default=None)
        named = given[best] if best is not None else ()
    return named[: sum(additional(instance))]


def additional(instance: InstanceType) -> tuple[int, int]:
    """Return how many interfaces a machine type has in addition to the first: gVNIC, and RDMA."""
    return _ADDITIONAL.get(instance.name.removesuffix(_NO_LOCAL_DISKS), (0, 0))


def _fits(key: str, name: str, zone: str) -> bool:
    """Return whether a key of the setting, such as "a3-megagpu" or "a4/us-central1-b", is about a machine type in a zone."""
    start, _, only = key.partition("/")
    return (name == start or name.startswith(f"{start}-")) and only in ("", zone, region_of(zone))


def network_path(settings: GcpSettings, *, project: str) -> str:
    """Return the path of the network that the settings name."""
    return path_of(settings.network or "default", "global/networks", project=project)


def subnetwork_path(name: str, *, project: str, region: str) -> str:
    """Return the path of a subnetwork that the settings name, by its name or its path."""
    return path_of(name, f"regions/{region}/subnetworks", project=project)


def path_of(name: str, collection: str, *, project: str) -> str:
    """Return the path "projects/..." of a resource that is given by its name, a part of its path, or its URL."""
    if "/" not in name:
        return f"projects/{project}/{collection}/{name}"
    _, separator, rest = name.partition("projects/")
    return f"projects/{rest}" if separator else f"projects/{project}/{name.lstrip('/')}"


def project_of(path: str) -> str:
    """Return the project in a path "projects/...": a Shared VPC network belongs to another project than its instances."""
    return path.split("/")[1]
