"""The rules of the TPU API for nodes, and its quotas."""

import re
from collections.abc import Mapping

from multicompute_gcp.local.hardware import SliceType, hardware
from multicompute_gcp.local.records import PROJECT
from multicompute_gcp.local.responses import GcpError, Json
from multicompute_gcp.local.tpu_records import TpuRecords

_NAME = re.compile(r"[A-Za-z0-9_.~+%-]+")
_NODE_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY, _LABEL_VALUE = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")
# https://cloud.google.com/tpu/docs/runtimes: the runtimes of each generation.
_RUNTIMES: Mapping[str, str] = {
    "tpu-v2": r"tpu-ubuntu2204-base|tpu-vm-[a-z0-9.-]+",
    "tpu-v3": r"tpu-ubuntu2204-base|tpu-vm-[a-z0-9.-]+",
    "tpu-v4": r"tpu-ubuntu2204-base|tpu-vm-v4-[a-z0-9.-]+",
    "tpu-v5e": r"v2-alpha-tpuv5-lite|tpu-ubuntu2204-base",
    "tpu-v5p": r"v2-alpha-tpuv5|tpu-ubuntu2204-base",
    "tpu-v6e": r"v2-alpha-tpuv6e|tpu-ubuntu2204-base",
    "tpu7x": r"v2-alpha-tpu7[a-z0-9.-]*",
}
RUNTIME_VERSIONS = (
    "tpu-ubuntu2204-base",
    "v2-alpha-tpuv5",
    "v2-alpha-tpuv5-lite",
    "v2-alpha-tpuv6e",
    "v2-alpha-tpu7-ubuntu2404",
)
# The names in the Cloud Quotas API; each counts chips or cores, like the number in the slice type's name.
_QUOTAS: Mapping[str, str] = {
    "tpu-v2": "TPUV2s",
    "tpu-v3": "TPUV3s",
    "tpu-v4": "TPUV4s",
    "tpu-v5e": "TPUV5sLitepod",
    "tpu-v5p": "TPUV5P",
    "tpu-v6e": "TPUV6E",
    "tpu7x": "TPU7x",
}
_SUFFIX = "PerProjectPerZoneForTPUAPI"


def quota_name(generation: str, *, spot: bool) -> str:
    """Return the quota that slices of a generation count against."""
    return f"{_QUOTAS[generation]}{'Preemptible' if spot else ''}{_SUFFIX}"


QUOTA_NAMES = frozenset(quota_name(generation, spot=spot) for generation in _QUOTAS for spot in (False, True))


def bad(message: str) -> GcpError:
    """Return the TPU API's error for a bad request."""
    return GcpError("INVALID_ARGUMENT", f"Cloud TPU received a bad request. {message} [EID: 0x1bc8f9d790be9142]", 400)


def no_capacity(zone: str) -> str:
    """Return the TPU API's message for a lack of capacity; the code is 8, the same as for a quota."""
    return (
        f'There is no more capacity in the zone "{zone}"; you can try in another zone where Cloud TPU Nodes are offered'
        " (see https://cloud.google.com/tpu/docs/regions) [EID: 0x1bc8f9d790be9142]"
    )


def check_id(name: str, what: str) -> str:
    """Return an id; refuse an invalid one."""
    if not _NAME.fullmatch(name):
        raise bad(f'The {what} "{name}" must match ^[A-Za-z0-9_.~+%-]+$')
    return name


def check_node_id(name: str) -> str:
    """Return the id of a node; refuse one that cannot be part of a host name."""
    if not _NODE_NAME.fullmatch(name):
        raise bad(f'The node_id "{name}" must match ^[a-z]([-a-z0-9]*[a-z0-9])?$ and have at most 63 characters')
    return name


def read_node(node: Json, zone: str) -> SliceType:
    """Check the description of a node, and return its slice type.

    Raises:
        GcpError: The TPU API would refuse the node.
    """
    if node.get("acceleratorConfig"):
        raise bad("The local Cloud TPU takes acceleratorType, not acceleratorConfig.")
    name = node.get("acceleratorType", "")
    kind = hardware().slices.get(name)
    if kind is None or zone not in kind.zones:
        raise bad(
            f'The requested accelerator configuration for accelerator type, "{name}", could not be found in the zonal'
            f' accelerator configurations for "{zone}".'
        )
    runtime = node.get("runtimeVersion", "")
    if not re.fullmatch(_RUNTIMES[kind.generation], runtime):
        raise bad(f'The runtime version "{runtime}" is not available for accelerator type "{name}".')
    for key, value in node.get("labels", {}).items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise bad(f'The label "{key}: {value}" is not in the alphabet of labels.')
    scheduling = node.get("schedulingConfig", {})
    if sum(1 for how in ("preemptible", "reserved", "spot") if scheduling.get(how)) > 1:
        raise bad("Only one of preemptible, reserved and spot can be set.")
    return kind


def check_network(records: TpuRecords, node: Json, zone: str) -> None:
    """Refuse a subnetwork that is not in the network of the node (tpu.v2, NetworkConfig: "default" if no network is given)."""
    given = node.get("networkConfig", {})
    path = str(given.get("subnetwork", ""))
    region = zone.rpartition("-")[0]
    project, name = path.split("/")[1] if "/" in path else PROJECT, path.rpartition("/")[2]
    key = f"regions/{region}" if project == PROJECT else f"{project}/regions/{region}"
    subnetwork = records.state.store("subnetwork", key).find(name)
    if not path:
        return
    if subnetwork is None:
        raise bad(f'The subnetwork "{path}" was not found.')
    network = given.get("network", "default")
    if subnetwork.body["network"].rpartition("/")[2] != network.rpartition("/")[2]:
        raise bad(f'The subnetwork "{path}" is not in the network "{network}".')


def check_parent(parent: str, zone: str) -> None:
    """Refuse a node whose parent is not the zone of its queued resource."""
    if parent != f"projects/{PROJECT}/locations/{zone}":
        raise bad(f'The parent "{parent}" of a node is not that of the queued resource.')


def check_quota(records: TpuRecords, zone: str, kind: SliceType, count: int, *, spot: bool) -> None:
    """Refuse more slices than the quota allows, also before a request can wait in the queue."""
    name = quota_name(kind.generation, spot=spot)
    limit = records.state.quotas.get((name, zone))
    if limit is None:
        return
    taken = sum(
        _units(node.slice)
        for node in records.zone(zone).nodes
        if (node.slice.generation, node.spot) == (kind.generation, spot) and node.preempted_at is None
    )
    if taken + count * _units(kind) > limit:
        message = f"Quota limit '{name}' has been exceeded. Limit: {limit:g} in zone {zone}."
        raise GcpError("RESOURCE_EXHAUSTED", message, 429)


def _units(kind: SliceType) -> int:
    return int(kind.name.rsplit("-", 1)[-1])
