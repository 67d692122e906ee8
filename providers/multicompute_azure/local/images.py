"""The marketplace images of the local Azure."""

import re
from collections.abc import Mapping
from typing import Any

from multicompute_azure.local.arm import SUBSCRIPTION, ArmError, invalid

# (publisher, offer, sku) in lower case -> architecture and versions in the marketplace.
_IMAGES: Mapping[tuple[str, str, str], tuple[str, tuple[str, ...]]] = {
    ("microsoft-dsvm", "ubuntu-hpc", "2204"): ("x64", ("22.04.2025041101", "22.04.2026030201")),
    ("microsoft-dsvm", "ubuntu-hpc", "2404"): ("x64", ("24.04.2026030201",)),
    ("microsoft-dsvm", "ubuntu-hpc", "2204-rocm"): ("x64", ("22.04.2025041101",)),
    ("microsoft-dsvm", "ubuntu-hpc", "2404-gb200"): ("Arm64", ("24.04.2026030201",)),
    ("canonical", "ubuntu-24_04-lts", "server"): ("x64", ("24.04.202604160", "24.04.202610140")),
    ("canonical", "ubuntu-24_04-lts", "server-arm64"): ("Arm64", ("24.04.202604160", "24.04.202610140")),
    ("canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2"): ("x64", ("22.04.202604160",)),
    ("canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-arm64"): ("Arm64", ("22.04.202604160",)),
    ("canonical", "ubuntu-22_04-lts", "server"): ("x64", ("22.04.202604160",)),
    ("canonical", "ubuntu-22_04-lts", "server-arm64"): ("Arm64", ("22.04.202604160",)),
}
_OWN = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute/(images/[^/]+|galleries/[^/]+/images/[^/]+(/versions/[^/]+)?)",
    re.IGNORECASE,
)


def versions(publisher: str, offer: str, sku: str) -> tuple[str, ...]:
    """Return the versions of an image; none for an unknown image."""
    found = _IMAGES.get((publisher.lower(), offer.lower(), sku.lower()))
    return found[1] if found else ()


def architecture(publisher: str, offer: str, sku: str) -> str:
    """Return the architecture of an image."""
    return _IMAGES[publisher.lower(), offer.lower(), sku.lower()][0]


def check(image: Mapping[str, Any], arch: str) -> None:
    """Refuse an image that does not exist or has another architecture."""
    if image.get("communityGalleryImageId") or image.get("sharedGalleryImageId"):
        return
    if image.get("id"):
        if not _OWN.fullmatch(str(image["id"])):
            raise invalid("imageReference", f"The value '{image['id']}' of parameter 'imageReference.id' is invalid.")
        return
    names = [str(image.get(name) or "") for name in ("publisher", "offer", "sku", "version")]
    known = versions(*names[:3])
    if not known or (names[3] != "latest" and names[3] not in known):
        raise ArmError(
            "PlatformImageNotFound",
            f"The platform image '{':'.join(names)}' is not available. Verify that all fields in the storage profile are correct. "
            "For more details about storage profile information, please refer to https://aka.ms/storageprofile",
            404,
            target="imageReference",
        )
    if architecture(*names[:3]) != arch:
        raise ArmError(
            "BadRequest",
            f"Cannot create a VM of size with CPU architecture '{arch}' because the image has CPU architecture "
            f"'{architecture(*names[:3])}'.",
        )


def document(publisher: str, offer: str, sku: str, location: str, version: str) -> dict[str, Any]:
    """Return one version of an image as the API lists it."""
    id_ = (
        f"/Subscriptions/{SUBSCRIPTION}/Providers/Microsoft.Compute/Locations/{location}/Publishers/{publisher}/ArtifactTypes/VMImage"
        f"/Offers/{offer}/Skus/{sku}/Versions/{version}"
    )
    return {"id": id_, "name": version, "location": location}
