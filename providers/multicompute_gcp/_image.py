"""Chooses the image of an instance by its family, and the type of disk that its machine type boots from."""

import re
from typing import Final

from multicompute.offer import InstanceType
from multicompute.provider_kit.vendor_errors import Place, invalid_request

# Canonical's images with NVIDIA's driver: https://documentation.ubuntu.com/gcp (accelerator images). Their open kernel module
# supports Turing and later; for older GPUs, Google's Deep Learning VM image is used: https://cloud.google.com/deep-learning-vm/docs/images.
_NVIDIA: Final = (
    "projects/ubuntu-os-accelerator-images/global/images/family/ubuntu-accelerator-2404-{arch}-with-nvidia-580"
)
_DEEP_LEARNING: Final = (
    "projects/deeplearning-platform-release/global/images/family/common-cu128-ubuntu-2204-nvidia-570"
)
_PLAIN: Final = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-{arch}"
_ARCHITECTURES: Final = {"x86_64": "amd64", "arm64": "arm64"}
_BEFORE_TURING: Final = frozenset({"k80", "p4", "p100", "v100"})

# https://cloud.google.com/compute/docs/disks/hyperdisks: machine series that boot from Hyperdisk only.
_HYPERDISK: Final = re.compile(r"(a3-ultragpu|a4x?|g4|c4[ad]?|n4[ad]?|x4|m4|h4d)-")


def image_of(instance: InstanceType, named: str | None) -> str:
    """Return the image for `instance`; `named` is the user's choice: a name in the own project, a path, or a URL.

    Raises:
        InvalidRequestError: No public image has the driver that the instance type needs.
    """
    if named:
        return named if "/" in named else f"global/images/{named}"
    if 0 < instance.accelerators < 1:
        # The fractional G4 types are vGPU partitions. On them, NVIDIA's open and proprietary modules find no GPU, and the guest driver of vGPU 19
        # does, as a user's log of July 2026 reports; no public image has it.
        raise invalid_request(
            f"{instance.name} has a part of a GPU, which the drivers in public images do not support",
            code="NoDefaultImage",
            place=Place("gcp", instance_type=instance.name),
            scope="type",
            hint="name an image with NVIDIA's vGPU 19 guest driver: image=",
        )
    arch = _ARCHITECTURES.get(instance.arch, "amd64")
    if not instance.accelerator:
        return _PLAIN.format(arch=arch)
    if instance.accelerator in _BEFORE_TURING:
        return _DEEP_LEARNING
    return _NVIDIA.format(arch=arch)


def disk_type_of(instance: InstanceType) -> str:
    """Return the name of the type of the boot disk."""
    return "hyperdisk-balanced" if _HYPERDISK.match(instance.name) else "pd-balanced"
