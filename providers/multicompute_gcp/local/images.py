"""The public images: their projects, families and properties."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from multicompute_gcp.local.calls import Call, Handler
from multicompute_gcp.local.references import split_url
from multicompute_gcp.local.responses import GcpError, Json, invalid, not_found

# Google renames families with every driver version: only the form is checked. https://cloud.google.com/compute/docs/images/os-details
_FAMILIES: Mapping[str, tuple[str, int]] = {
    "ubuntu-os-cloud": (r"ubuntu-(?:minimal-)?\d{4}(?:-lts)?(?:-amd64|-arm64)?", 10),
    "ubuntu-os-accelerator-images": (r"ubuntu-accelerator-[a-z0-9-]+", 20),
    "debian-cloud": (r"debian-\d+(?:-arm64)?", 10),
    "rocky-linux-cloud": (r"rocky-linux-[a-z0-9-]+", 20),
    "rocky-linux-accelerator-cloud": (r"rocky-linux-[a-z0-9-]+", 20),
    "deeplearning-platform-release": (r"(?:common|pytorch|tf|tf2)-[a-z0-9-]+", 50),
    "ml-images": (r"(?:common|pytorch|tf|tpu)-[a-z0-9-]+", 50),
    "cos-cloud": (r"cos-(?:stable|beta|dev|\d+-lts)|cos-arm64-stable", 10),
}
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
    pattern, size = _FAMILIES.get(project, ("", 0))
    if not pattern or not re.fullmatch(pattern, family):
        raise not_found(f"projects/{project}/global/images/family/{family}")
    return Image(project, f"{family}-{_VERSION}", family, size)


def by_name(project: str, name: str) -> Image:
    """Return the image with a name.

    Raises:
        GcpError: The image does not exist.
    """
    pattern, size = _FAMILIES.get(project, ("", 0))
    family, dash, _ = name.rpartition("-v")
    if not pattern or not dash or not re.fullmatch(pattern, family):
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
