"""The capabilities of each size in the list of SKUs: processor, generation, security, and the disks of the machine itself."""

import re
from typing import Final

from multicompute_azure.local.hardware import Size

# The temporary disk in GiB, from the pages of the size series (learn.microsoft.com/azure/virtual-machines/sizes, 2026-11) and from copies of
# the list of SKUs (Azure/karpenter-provider-azure, pkg/fake/zz_generated.sku.southcentralus.go, of 2025-06-03). Sizes that are not in here
# have none that an operating system can be on.
_TEMPORARY_GIB: Final = {
    "b2s": 8,
    "b2ms": 16,
    "b4ms": 32,
    "b8ms": 64,
    "f2s_v2": 16,
    "f4s_v2": 32,
    "f8s_v2": 64,
    "f16s_v2": 128,
    "f32s_v2": 256,
    "f48s_v2": 384,
    "f64s_v2": 512,
    "f72s_v2": 576,
    "nc4as_t4_v3": 176,
    "nc8as_t4_v3": 352,
    "nc16as_t4_v3": 352,
    "nc64as_t4_v3": 2816,
    "nc6s_v3": 736,
    "nc12s_v3": 1474,
    "nc24s_v3": 2948,
    "nc24rs_v3": 2948,
    "nd40rs_v2": 2948,
    "nc24ads_a100_v4": 64,
    "nc48ads_a100_v4": 128,
    "nc96ads_a100_v4": 256,
    "nd96asr_v4": 6000,
    "nd96amsr_a100_v4": 6400,
    "nc40ads_h100_v5": 128,
    "nc80adis_h100_v5": 256,
    "nd96isr_h100_v5": 1000,
    "nd96isr_h200_v5": 1000,
    "nd96is_mi300x_v5": 1000,
    "nd96isr_mi300x_v5": 1000,
}
# The cache in GiB, from the same sources.
_CACHE_GIB: Final = {
    "b2s": 30,
    "b2ms": 30,
    "b4ms": 30,
    "b8ms": 30,
    "f2s_v2": 32,
    "f4s_v2": 64,
    "f8s_v2": 128,
    "f16s_v2": 256,
    "f32s_v2": 512,
    "f48s_v2": 768,
    "f64s_v2": 1024,
    "f72s_v2": 1520,
}
# Of these Azure lists that they start as a confidential VM only, with AMD's SEV-SNP.
_CONFIDENTIAL: Final = re.compile(r"(ncc|dc|ec)\d", re.IGNORECASE)
# Dpsv5 and its like ("Trusted Launch for Azure virtual machines": currently not supported size families).
_WITHOUT_TRUSTED_LAUNCH: Final = re.compile(r"d\d+pl?d?s_v5", re.IGNORECASE)


def capabilities(size: Size, region: str) -> dict[str, str]:
    """Return the capabilities of a size in a region, as the list of SKUs has them."""
    name = size.name.removeprefix("Standard_").lower()
    temporary, cache = _TEMPORARY_GIB.get(name, 0), _CACHE_GIB.get(name, 0)
    found = {
        "vCPUs": str(size.vcpus),
        "MemoryGB": f"{size.memory_gib:g}",
        "GPUs": f"{size.accelerators:g}",
        "CpuArchitectureType": size.arch,
        "RdmaEnabled": str(size.has_rdma),
        "LowPriorityCapable": str(region in size.spot_prices),
        "HyperVGenerations": "V2",
        "PremiumIO": "True",
        "AcceleratedNetworkingEnabled": "True",
        "CapacityReservationSupported": "True",
        "MaxResourceVolumeMB": str(temporary * 1024),
        "EphemeralOSDiskSupported": str(bool(temporary)),
    }
    if temporary:
        placements = "ResourceDisk,CacheDisk" if cache else "ResourceDisk"
        found["SupportedEphemeralOSDiskPlacements"] = placements
    if cache:
        found["CachedDiskBytes"] = str(cache << 30)
    if _CONFIDENTIAL.match(name):
        found |= {"ConfidentialComputingType": "SNP", "TrustedLaunchDisabled": "True"}
    elif _WITHOUT_TRUSTED_LAUNCH.match(name):
        found["TrustedLaunchDisabled"] = "True"
    return found
