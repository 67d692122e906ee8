"""The rules for the disks of a request for instances."""

from dataclasses import dataclass

from multicompute_gcp.local.hardware import MachineType
from multicompute_gcp.local.images import Image, source
from multicompute_gcp.local.records import Disk, url_of
from multicompute_gcp.local.references import check_labels, check_name, member, split_url
from multicompute_gcp.local.responses import GcpError, Json, invalid
from multicompute_gcp.local.state import State

# https://cloud.google.com/compute/docs/disks/hyperdisks and each series' page: these accept only Hyperdisk, ...
_HYPERDISK_ONLY = ("a3-ultragpu", "a4-", "a4x-", "c4-", "c4a-", "n4-", "g4-")
# ... and these do not accept Hyperdisk Balanced.
_NO_BALANCED_HYPERDISK = ("n1-", "n2-", "e2-", "g2-", "a2-")
_OLD_SERIES = ("n1-", "n2-", "e2-")
_DISK_TYPES = frozenset(
    {
        "pd-standard",
        "pd-balanced",
        "pd-ssd",
        "pd-extreme",
        "hyperdisk-balanced",
        "hyperdisk-extreme",
        "hyperdisk-throughput",
        "hyperdisk-ml",
        "hyperdisk-balanced-high-availability",
        "local-ssd",
    }
)


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """A disk that each instance of a request gets.

    Attributes:
        name: Its name; "" for the name of the instance.
        attachment: The disk in the instance's own document, without its source.
        existing: A disk that exists and is to be attached; None to create one.
    """

    name: str
    type: str
    size_gb: int
    image: Image | None
    labels: dict[str, str]
    auto_delete: bool
    is_boot: bool
    attachment: Json
    existing: Disk | None = None
    is_scratch: bool = False
    description: str = ""


def read_disks(
    state: State, place: str, zone: str, machine: MachineType, properties: Json, *, bulk: bool
) -> tuple[DiskPlan, ...]:
    """Read the field `disks`.

    Raises:
        GcpError: Compute Engine would refuse the field.
    """
    given = properties.get("disks", [])
    plans = tuple(
        _disk(state, f"{place}.disks[{index}]", zone, machine, disk, bulk=bulk) for index, disk in enumerate(given)
    )
    if not plans or not plans[0].is_boot:
        raise GcpError(
            "invalid", f"Invalid value for field '{place}.disks': ''. Boot disk must be the first disk.", 400
        )
    if sum(1 for plan in plans if plan.is_boot) != 1:
        raise invalid(f"{place}.disks", len(plans), "There must be exactly one boot disk.")
    _check_architecture(place, machine, plans[0])
    return plans


def _check_architecture(place: str, machine: MachineType, boot: DiskPlan) -> None:
    wanted = "ARM64" if machine.arch == "arm64" else "X86_64"
    if boot.image is not None and boot.image.arch != wanted:
        raise invalid(
            f"{place}.disks[0].initializeParams.sourceImage",
            boot.image.name,
            f"Requested boot disk architecture ({boot.image.arch}) is not compatible with machine type architecture ({wanted}).",
        )


def _disk(state: State, field: str, zone: str, machine: MachineType, given: Json, *, bulk: bool) -> DiskPlan:
    attachment = {
        "kind": "compute#attachedDisk",
        "type": given.get("type", "PERSISTENT"),
        "mode": given.get("mode", "READ_WRITE"),
        "boot": given.get("boot", False),
        "autoDelete": given.get("autoDelete", False),
        "interface": given.get("interface", "SCSI"),
    }
    if "deviceName" in given:
        attachment["deviceName"] = given["deviceName"]
    if given.get("source"):
        return _attached(state, field, zone, given, attachment)
    params = given.get("initializeParams")
    if params is None:
        raise invalid(field, "", "Either source or initializeParams must be given.")
    if attachment["type"] == "SCRATCH":
        return DiskPlan(
            name="",
            type="local-ssd",
            size_gb=375,
            image=None,
            labels={},
            auto_delete=True,
            is_boot=False,
            attachment=attachment,
            is_scratch=True,
        )
    return _created(field, zone, machine, given, params, attachment, bulk=bulk)


def _attached(state: State, field: str, zone: str, given: Json, attachment: Json) -> DiskPlan:
    name = member(f"{field}.source", given["source"], "disks", f"zones/{zone}", by_name=False)
    disk = state.zone(zone).disks.find(name)
    if disk is None:
        raise invalid(f"{field}.source", given["source"], "The referenced disk resource cannot be found.")
    if disk.user is not None:
        raise GcpError(
            "resourceInUseByAnotherResource",
            f"The disk resource '{name}' is already being used by '{disk.user.name}'",
            400,
        )
    return DiskPlan(name, "", 0, None, {}, attachment["autoDelete"], attachment["boot"], attachment, existing=disk)


def _created(
    field: str, zone: str, machine: MachineType, given: Json, params: Json, attachment: Json, *, bulk: bool
) -> DiskPlan:
    place = f"{field}.initializeParams"
    image = source(f"{place}.sourceImage", params["sourceImage"]) if params.get("sourceImage") else None
    if image is None and attachment["boot"] and not params.get("sourceSnapshot"):
        raise invalid(f"{place}.sourceImage", "", "A boot disk needs an image.")
    size = int(params.get("diskSizeGb") or given.get("diskSizeGb") or (image.disk_gb if image else 10))
    if image is not None and size < image.disk_gb:
        raise invalid(
            f"{place}.diskSizeGb",
            size,
            f"Requested disk size cannot be smaller than the image size ({image.disk_gb} GB)",
        )
    if params.get("diskName"):
        check_name(f"{place}.diskName", params["diskName"])
    return DiskPlan(
        name=params.get("diskName", ""),
        type=_type(f"{place}.diskType", zone, machine, params.get("diskType"), bulk=bulk),
        size_gb=size,
        image=image,
        labels=check_labels(f"{place}.labels", params.get("labels", {})),
        description=params.get("description", ""),
        auto_delete=attachment["autoDelete"],
        is_boot=attachment["boot"],
        attachment={**attachment, "diskSizeGb": str(size)},
    )


def _type(field: str, zone: str, machine: MachineType, given: str | None, *, bulk: bool) -> str:
    hyperdisk_only = machine.name.startswith(_HYPERDISK_ONLY)
    if given is None:
        # compute.v1, AttachedDiskInitializeParams.diskType: the default.
        if hyperdisk_only or machine.name.startswith("a3-"):
            return "hyperdisk-balanced"
        return "pd-standard" if machine.name.startswith(_OLD_SERIES) else "pd-balanced"
    if not bulk:
        split_url(field, given)
    name = member(field, given, "diskTypes", f"zones/{zone}", by_name=bulk)
    if name not in _DISK_TYPES:
        raise invalid(field, given, "The referenced disk type cannot be found.")
    refused = name.startswith("pd-") if hyperdisk_only else name == "hyperdisk-balanced"
    if refused and (hyperdisk_only or machine.name.startswith(_NO_BALANCED_HYPERDISK)):
        raise GcpError("invalid", f"[{name}, {machine.name}] features are not compatible for creating instance.", 400)
    return name


def disk_body(zone: str, name: str, number: int, plan: DiskPlan, created: str) -> Json:
    """Return the document of a new disk."""
    body: Json = {
        "kind": "compute#disk",
        "id": str(number),
        "name": name,
        "creationTimestamp": created,
        "sizeGb": str(plan.size_gb),
        "type": url_of(f"zones/{zone}", "diskTypes", plan.type),
        "zone": url_of(f"zones/{zone}"),
        "selfLink": url_of(f"zones/{zone}", "disks", name),
    }
    if plan.description:
        body["description"] = plan.description
    if plan.image is not None:
        body["sourceImage"] = plan.image.url
    return body
