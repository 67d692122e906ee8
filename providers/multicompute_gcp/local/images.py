"""The public images: their projects, families and properties."""

from collections.abc import Mapping
from dataclasses import dataclass

from multicompute_gcp.local.calls import Call, Handler
from multicompute_gcp.local.references import split_url
from multicompute_gcp.local.responses import GcpError, Json, invalid, not_found

_UBUNTU = tuple(
    f"ubuntu-{edition}{release}-{arch}"
    for edition in ("", "minimal-")
    for release in ("2404-lts", "2510", "2604-lts")
    for arch in ("amd64", "arm64")
)
_UBUNTU_2204 = tuple(f"ubuntu-{edition}2204-lts{arch}" for edition in ("", "minimal-") for arch in ("", "-arm64"))
_NVIDIA = tuple(
    f"ubuntu-accelerator-{release}-{arch}-with-nvidia-{driver}"
    for release in ("2204", "2404")
    for arch in ("amd64", "arm64")
    for driver in ("570", "580")
)
# The families of each project and the size of their images in GB. Ubuntu's are those that `gcloud compute images list` had in April 2026
# (as published in notes on GitHub); the others are those of https://cloud.google.com/compute/docs/images/os-details
# and https://cloud.google.com/deep-learning-vm/docs/images. Google renames families with every driver version, so others do not exist.
_FAMILIES: Mapping[str, tuple[tuple[str, ...], int]] = {
    "ubuntu-os-cloud": ((*_UBUNTU, *_UBUNTU_2204), 10),
    "ubuntu-os-accelerator-images": (
        (*_NVIDIA, "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e", "ubuntu-accel-2404-amd64-tpu-tpu7x"),
        20,
    ),
    "debian-cloud": (("debian-12", "debian-12-arm64", "debian-13", "debian-13-arm64"), 10),
    "rocky-linux-cloud": (("rocky-linux-8", "rocky-linux-9"), 20),
    "deeplearning-platform-release": (("common-cu128-ubuntu-2204-nvidia-570",), 50),
    "ml-images": (("common-cu128-ubuntu-2204-nvidia-570",), 50),
    "cos-cloud": (("cos-stable", "cos-beta", "cos-dev", "cos-arm64-stable"), 10),
}
_NO_FAMILIES: tuple[tuple[str, ...], int] = ((), 0)
_VERSION = "v20261101"


@dataclass(frozen=True, slots=True)
class Image:
    """A public image."""

    project: str
    name: str
    family: str
    disk_gb: int

    @property
    def arch(self) -> str:
        """The architecture as the API names it."""
        return "ARM64" if "arm64" in self.name else "X86_64"

    @property
    def url(self) -> str:
        """The full URL."""
        return f"https://www.googleapis.com/compute/v1/projects/{self.project}/global/images/{self.name}"

    def as_json(self) -> Json:
        """Return the document of the image."""
        return {
            "kind": "compute#image",
            "id": str(abs(hash(self.name)) % 10**18),
            "name": self.name,
            "family": self.family,
            "status": "READY",
            "architecture": self.arch,
            "diskSizeGb": str(self.disk_gb),
            "sourceType": "RAW",
            "selfLink": self.url,
        }


def of_family(project: str, family: str) -> Image:
    """Return the newest image of a family.

    Raises:
        GcpError: The family does not exist.
    """
    families, size = _FAMILIES.get(project, _NO_FAMILIES)
    if family not in families:
        raise not_found(f"projects/{project}/global/images/family/{family}")
    return Image(project, f"{family}-{_VERSION}", family, size)


def by_name(project: str, name: str) -> Image:
    """Return the image with a name.

    Raises:
        GcpError: The image does not exist.
    """
    families, size = _FAMILIES.get(project, _NO_FAMILIES)
    family = name.rpartition("-v")[0]
    if family not in families:
        raise not_found(f"projects/{project}/global/images/{name}")
    return Image(project, name, family, size)


def source(field: str, value: str) -> Image:
    """Return the source image of a disk.

    Raises:
        GcpError: The image does not exist, or the URL is malformed.
    """
    project, rest = split_url(field, value)
    parts = rest.split("/")
    if parts[:2] != ["global", "images"] or len(parts) not in (3, 4):
        raise invalid(field, value, "The URL is malformed.")
    try:
        return of_family(project, parts[3]) if parts[2] == "family" else by_name(project, parts[2])
    except GcpError as error:
        raise invalid(field, value, f"The referenced image resource cannot be found: {error.message}") from error


def handlers() -> Mapping[str, Handler]:
    """Return the handlers by method."""

    def family(call: Call) -> Json:
        return of_family(call.path["project"], call.path["family"]).as_json()

    def get(call: Call) -> Json:
        return by_name(call.path["project"], call.path["image"]).as_json()

    return {"images.getFromFamily": family, "images.get": get}
