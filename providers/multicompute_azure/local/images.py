"""The images of the local Azure: those of the marketplace, with their plans, and of galleries."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multicompute_azure.local.arm import SUBSCRIPTION, ArmError, invalid

# (publisher, offer, sku) in lower case -> architecture and versions in the marketplace. The HPC images are those that the README of
# Azure/azhpc-images lists; NVIDIA's is sold with a free plan.
_IMAGES: Mapping[tuple[str, str, str], tuple[str, tuple[str, ...]]] = {
    ("microsoft-dsvm", "ubuntu-hpc", "2204"): ("x64", ("22.04.2025041101", "22.04.2026030201")),
    ("microsoft-dsvm", "ubuntu-hpc", "2404"): ("x64", ("24.04.2026030201",)),
    ("microsoft-dsvm", "ubuntu-hpc", "2204-rocm"): ("x64", ("22.04.2025041101",)),
    ("microsoft-dsvm", "ubuntu-hpc", "2204-v100"): ("x64", ("22.04.2026030201",)),
    ("nvidia", "ngc_azure_17_11", "ngc-base-version-25_9_1_gen2"): ("x64", ("25.9.1",)),
    ("canonical", "ubuntu-24_04-lts", "cvm"): ("x64", ("24.04.202610140",)),
    ("canonical", "ubuntu-24_04-lts", "server"): ("x64", ("24.04.202604160", "24.04.202610140")),
    ("canonical", "ubuntu-24_04-lts", "server-arm64"): ("Arm64", ("24.04.202604160", "24.04.202610140")),
    ("canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2"): ("x64", ("22.04.202604160",)),
    ("canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-arm64"): ("Arm64", ("22.04.202604160",)),
    ("canonical", "ubuntu-22_04-lts", "server"): ("x64", ("22.04.202604160",)),
    ("canonical", "ubuntu-22_04-lts", "server-arm64"): ("Arm64", ("22.04.202604160",)),
}
_WITH_PLAN = frozenset({"nvidia"})
_CONFIDENTIAL = "cvm"
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


@dataclass(frozen=True, slots=True)
class Details:
    """The properties of an image: the plan that it is sold with, and the value of its feature SecurityType, "" for none."""

    plan: Mapping[str, str] | None = None
    security: str = ""

    @property
    def supports_trusted_launch(self) -> bool:
        """Return whether machines can start from it with Trusted Launch."""
        return self.security == "TrustedLaunchSupported"

    @property
    def features(self) -> list[dict[str, str]]:
        """The features in a document."""
        return [{"name": "SecurityType", "value": self.security}] if self.security else []


def details_of(image: Mapping[str, Any], definitions: Mapping[str, Details]) -> Details:
    """Return the details of an image reference; `definitions` has those of gallery images by their id in lower case."""
    id_ = str(image.get("id") or "").lower().partition("/versions/")[0]
    if id_ or not image.get("publisher"):
        return definitions.get(id_, Details())
    names = [str(image.get(name) or "") for name in ("publisher", "offer", "sku")]
    if not versions(*names):
        return Details()
    if names[2].lower() == _CONFIDENTIAL:
        return Details(security="ConfidentialVmSupported")
    plan = {"name": names[2], "publisher": names[0], "product": names[1]} if names[0].lower() in _WITH_PLAN else None
    return Details(plan, "TrustedLaunchSupported" if architecture(*names) == "x64" else "")


def check_plan(details: Details, plan: Mapping[str, Any] | None) -> None:
    """Refuse a plan that is missing, wrong or not needed ("Common error messages in Azure virtual machines")."""
    given = {name: str((plan or {}).get(name) or "").lower() for name in ("name", "publisher", "product")}
    if details.plan is None:
        if plan is None:
            return
        text = "Creating a virtual machine from a non Marketplace image does not need Plan information, please remove the Plan information in the request."
    elif plan is None:
        text = "Creating a virtual machine from Marketplace image requires Plan information in the request."
    elif given == {name: value.lower() for name, value in details.plan.items()}:
        return
    else:
        text = "The purchase information does not match. Unable to deploy from the Marketplace image."
    raise ArmError("VMMarketplaceInvalidInput", f"{text} OS disk name is osdisk.", target="plan")


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
