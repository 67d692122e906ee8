"""Chooses the machine image of a node."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from multicompute.offer import InstanceType
from multicompute.provider_kit.vendor_errors import Place, invalid_request

# https://github.com/Azure/azhpc-images: these have drivers, CUDA or ROCm, InfiniBand and a container runtime.
_HPC: Final = "microsoft-dsvm:ubuntu-hpc:2204:latest"
_HPC_ROCM: Final = "microsoft-dsvm:ubuntu-hpc:2204-rocm:latest"
# The other images have NVIDIA's open kernel modules, which a V100 can't use.
_HPC_V100: Final = "microsoft-dsvm:ubuntu-hpc:2204-v100:latest"
# https://documentation.ubuntu.com/azure: generation 2, with support for trusted launch.
_PLAIN: Final = {
    "x86_64": "Canonical:ubuntu-24_04-lts:server:latest",
    "arm64": "Canonical:ubuntu-24_04-lts:server-arm64:latest",
}
# Fractions of GPUs and visualization types need the GRID or the Radeon Pro driver, FPGAs their own tools; the HPC image has none of these.
# NCads_A10_v4 (Azure/AgentBaker#7986) and the RTX PRO 6000 (Azure/AgentBaker#8619) need the GRID driver, too.
_WITHOUT_DRIVER: Final = re.compile(r"standard_((nv|ng|np)\d|nc\d+ads_a10_v4|nc\w+_rtxpro6000)", re.IGNORECASE)
_URN: Final = re.compile(r"[^:/\s]+:[^:/\s]+:[^:/\s]+:[^:/\s]+")


@dataclass(frozen=True, slots=True)
class Image:
    """An image as a scale set refers to it.

    Attributes:
        reference: Its names, or its id.
        is_plain: Whether it is Canonical's own, whose kernel modules all load under secure boot.
        supports_trusted_launch: Whether machines can start from it with Trusted Launch.
        plan: The plan that it is sold with; None if it is sold without one.
    """

    reference: dict[str, Any]
    is_plain: bool = False
    supports_trusted_launch: bool = False
    plan: Mapping[str, str] | None = None


def find_image(instance: InstanceType, place: Place, *, named: str | None, is_confidential: bool = False) -> Image:
    """Return the image for `instance`; no call is made.

    Args:
        instance: The instance type.
        place: The place to name in messages.
        named: The user's choice: "publisher:offer:sku:version", or the id of an image or of a gallery image (version).
        is_confidential: Whether the type starts as a confidential VM only.

    Raises:
        InvalidRequestError: `named` is none of these, or no default image has a driver for the type.
    """
    if named is None and is_confidential:
        text, hint = "no default image starts as a confidential VM", "name an image for confidential VMs: image="
        raise invalid_request(text, code="NoDefaultImage", place=place, scope="type", hint=hint)
    if named is None:
        return _default(instance, place)
    if _URN.fullmatch(named):
        return Image(_reference(named))
    lower = named.lower()
    if lower.startswith("/communitygalleries/"):
        return Image({"communityGalleryImageId": named})
    if lower.startswith("/sharedgalleries/"):
        return Image({"sharedGalleryImageId": named})
    if lower.startswith("/subscriptions/"):
        return Image({"id": named})
    hint = 'write "publisher:offer:sku:version" or the resource id of an image'
    text = f"image={named!r} is not an image of Azure"
    # Another region or cloud may have an image of its own, so this must not stop the request.
    raise invalid_request(text, code="InvalidImage", place=place, scope="region", hint=hint)


def _default(instance: InstanceType, place: Place) -> Image:
    if not instance.accelerator:
        is_arm = instance.arch != "x86_64"
        return Image(
            _reference(_PLAIN["arm64" if is_arm else "x86_64"]), is_plain=True, supports_trusted_launch=not is_arm
        )
    if instance.arch != "x86_64" or _WITHOUT_DRIVER.match(instance.name):
        text, hint = "no default image has a driver for the accelerator", "name an image that has one: image="
        raise invalid_request(text, code="NoDefaultImage", place=place, scope="type", hint=hint)
    if instance.accelerator.startswith("v100"):
        return Image(_reference(_HPC_V100))
    return Image(_reference(_HPC_ROCM if instance.accelerator.startswith("mi") else _HPC))


def _reference(urn: str) -> dict[str, Any]:
    publisher, offer, sku, version = urn.split(":")
    return {"publisher": publisher, "offer": offer, "sku": sku, "version": version}
