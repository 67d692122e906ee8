"""Describes one part of a gang as Compute Engine's bulkInsert takes it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from multicompute.offer import InstanceType, Part
from multicompute.provider import LaunchRequest
from multicompute_gcp._access import GcpSettings
from multicompute_gcp._image import disk_type_of, image_of
from multicompute_gcp._labels import labels_of, name_of, part_name
from multicompute_gcp._reserved import Reserved
from multicompute_gcp._startup import metadata_of

# Room for a framework, a container or two and checkpoints.
_DEFAULT_DISK_GIB: Final = 200
_DEFAULT_PLAIN_DISK_GIB: Final = 50
# https://cloud.google.com/compute/docs/instances/limit-vm-runtime: from 30 seconds to 120 days; flex-start: ten minutes to seven days.
_LEAST_RUN: Final = timedelta(seconds=30)
_LONGEST_RUN: Final = timedelta(days=120)
_LEAST_FLEX_START: Final = timedelta(minutes=10)
_LONGEST_FLEX_START: Final = timedelta(days=7)
# What a node needs to write logs and metrics and to read its data; nothing with which it could change the project.
_NODE_SCOPES: Final = (
    "https://www.googleapis.com/auth/devstorage.read_write",
    "https://www.googleapis.com/auth/logging.write",
    "https://www.googleapis.com/auth/monitoring.write",
)
# What the catalog calls an attached accelerator, as Compute Engine does.
_ATTACHED: Final = {name: f"nvidia-tesla-{name}" for name in ("t4", "v100", "p100", "p4", "k80")}
ATTACHED_NAMES: Final = {said: name for name, said in _ATTACHED.items()}
"""Google's name of what can be attached to a machine -> ours."""
# Series that take gVNIC only, or are much faster with it.
_GVNIC: Final = ("a2-", "a3-", "a4", "g2-", "g4-", "c3", "c4", "n4")


def names_of(request: LaunchRequest, index: int, part: Part) -> list[str]:
    """The names of the nodes of a part, in order: made from the token, so that a repeated launch can't make others."""
    return [f"{part_name(request.token, index)}-{number:04d}" for number in range(1, part.nodes + 1)]


def properties(
    request: LaunchRequest,
    part: Part,
    settings: GcpSettings,
    *,
    project: str,
    policies: Sequence[str],
    reserved: Reserved | None,
    now: datetime,
) -> dict[str, Any]:
    """The `instanceProperties`: names of types, where a single insert takes URLs."""
    instance = part.offer.instance
    wanted: dict[str, Any] = {
        "machine_type": instance.name,
        "labels": labels_of(request.tags),
        "tags": {"items": [network_tag(request.cluster_id)]},
        "disks": [_boot_disk(request, instance)],
        "network_interfaces": interfaces(request, part, settings, project=project),
        "scheduling": scheduling(request, part, settings, reserved=reserved, now=now),
        "metadata": {"items": [{"key": key, "value": value} for key, value in metadata_of(request).items()]},
        "reservation_affinity": _affinity(reserved),
    }
    if not request.image:
        # Without secure boot, which would refuse drivers that are built on the node. An image of the user's own may not boot by UEFI, and is
        # then refused with any such option; where it does, these are on by themselves.
        wanted["shielded_instance_config"] = {"enable_vtpm": True, "enable_integrity_monitoring": True}
    if instance.attached and instance.accelerator:
        kind = _ATTACHED.get(instance.accelerator, f"nvidia-{instance.accelerator}")
        wanted["guest_accelerators"] = [{"accelerator_type": kind, "accelerator_count": int(instance.accelerators)}]
    if settings.service_account:
        wanted["service_accounts"] = [{"email": settings.service_account, "scopes": list(_NODE_SCOPES)}]
    if policies:
        wanted["resource_policies"] = list(policies)
    return wanted


def network_tag(cluster_id: str) -> str:
    """The network tag of the nodes of a cluster, by which a firewall rule finds them."""
    return name_of(cluster_id)


def _boot_disk(request: LaunchRequest, instance: InstanceType) -> dict[str, Any]:
    default = _DEFAULT_DISK_GIB if instance.accelerator else _DEFAULT_PLAIN_DISK_GIB
    size = default if request.disk_gib is None else -int(-request.disk_gib // 1)
    return {
        "boot": True,
        # Else it outlives the instance, is billed, and blocks the name.
        "auto_delete": True,
        "initialize_params": {
            "source_image": image_of(instance, request.image),
            "disk_size_gb": size,
            "disk_type": disk_type_of(instance),
            "labels": labels_of(request.tags),
        },
    }


def scheduling(
    request: LaunchRequest, part: Part, settings: GcpSettings, *, reserved: Reserved | None, now: datetime
) -> dict[str, Any]:
    """How the part is bought, and when Compute Engine itself ends it.

    The time limit can't be moved while a machine runs (setScheduling takes stopped ones only), and a lease can be. So it lies
    `extension_room` beyond the lease, as the last resort for a node that can't end itself; the timer on the node is exact.
    """
    instance, purchase = part.offer.instance, part.offer.purchase
    wanted: dict[str, Any] = {"automatic_restart": False}
    if instance.accelerator:
        # A machine with GPUs can't be moved to another host.
        wanted["on_host_maintenance"] = "TERMINATE"
    limit = None if request.expires_at is None else request.expires_at - now + settings.extension_room
    if reserved is not None and reserved.is_bound:
        wanted["provisioning_model"] = "RESERVATION_BOUND"
    elif reserved is not None:
        wanted["provisioning_model"] = "STANDARD"
    elif purchase == "spot":
        wanted |= {"provisioning_model": "SPOT", "on_host_maintenance": "TERMINATE"}
    elif purchase == "flex_start":
        left = _LONGEST_FLEX_START if request.expires_at is None else request.expires_at - now
        limit = min(max(left, _LEAST_FLEX_START), _LONGEST_FLEX_START)
        wanted["provisioning_model"] = "FLEX_START"
    else:
        wanted["provisioning_model"] = "STANDARD"
    if limit is not None:
        run = min(max(limit, _LEAST_RUN), _LONGEST_RUN)
        wanted["max_run_duration"] = {"seconds": int(run.total_seconds())}
    if limit is not None or wanted["provisioning_model"] != "STANDARD":
        wanted["instance_termination_action"] = "DELETE"
    return wanted


def _affinity(reserved: Reserved | None) -> dict[str, Any]:
    if reserved is None:
        # What others have reserved for themselves is not ours to use up, although Compute Engine would by default.
        return {"consume_reservation_type": "NO_RESERVATION"}
    return {
        "consume_reservation_type": "SPECIFIC_RESERVATION",
        "key": "compute.googleapis.com/reservation-name",
        "values": [reserved.name],
    }


def interfaces(request: LaunchRequest, part: Part, settings: GcpSettings, *, project: str) -> list[dict[str, Any]]:
    """The network interfaces: one, and those of the fabric where the settings name subnetworks for them.

    https://cloud.google.com/compute/docs/gpus/gpudirect: A3 High takes four further gVNIC interfaces, A3 Mega eight; A3 Ultra and A4 take
    one further gVNIC and eight MRDMA interfaces, each in a network of its own, which only the account's owner can lay out.
    """
    region, instance = part.offer.region, part.offer.instance
    first = _network(settings, project=project, region=region)
    if instance.name.startswith(_GVNIC):
        first["nic_type"] = "GVNIC"
    if not request.private:
        first["access_configs"] = [{"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}]
    further = settings.gpu_subnetworks if request.fabric else ()
    return [first] + [
        {
            "subnetwork": _subnetwork(name, project=project, region=region),
            "nic_type": "MRDMA" if instance.fabric == "roce" and number > 0 else "GVNIC",
        }
        for number, name in enumerate(further)
    ]


def _network(settings: GcpSettings, *, project: str, region: str) -> dict[str, Any]:
    if settings.subnetwork:
        return {"subnetwork": _subnetwork(settings.subnetwork, project=project, region=region)}
    return {"network": network_path(settings, project=project)}


def network_path(settings: GcpSettings, *, project: str) -> str:
    """The path of the network that nodes are in."""
    name = settings.network or "default"
    return name if "/" in name else f"projects/{project}/global/networks/{name}"


def _subnetwork(name: str, *, project: str, region: str) -> str:
    return name if "/" in name else f"projects/{project}/regions/{region}/subnetworks/{name}"
