"""The TPU slice types of the offer tables, and the software that each generation boots."""

import re
from typing import Final

from multicompute.offer import InstanceType
from multicompute.provider_kit.vendor_errors import Place, invalid_request
from multicompute_gcp._slices import hosts_by_slice

# https://cloud.google.com/tpu/docs/runtimes: one runtime for each generation; JAX and PyTorch are installed on top of it.
_RUNTIMES: Final = {
    "tpu-v2": "tpu-ubuntu2204-base",
    "tpu-v3": "tpu-ubuntu2204-base",
    "tpu-v4": "tpu-ubuntu2204-base",
    "tpu-v5e": "v2-alpha-tpuv5-lite",
    "tpu-v5p": "v2-alpha-tpuv5",
    "tpu-v6e": "v2-alpha-tpuv6e",
    "tpu7x": "v2-alpha-tpu7-ubuntu2404",
}
_SLICE: Final = re.compile(r"(v\d+[a-z]*|v5litepod|tpu7x)-\d+")


def is_slice(instance: InstanceType) -> bool:
    """Return whether an offer is for a TPU slice, which is bought through the TPU API."""
    return instance.accelerator.startswith("tpu")


def is_slice_type(name: str) -> bool:
    """Return whether `name` is the name of a slice type, also of one that the tables do not have."""
    return name in hosts_by_slice() or _SLICE.fullmatch(name) is not None


def runtime_of(instance: InstanceType, named: str | None) -> str:
    """Return the runtime version of a slice: the user's choice, else the one of its generation.

    Raises:
        InvalidRequestError: None is known.
    """
    if named:
        return named
    runtime = _RUNTIMES.get(instance.accelerator)
    if runtime is None:
        raise invalid_request(
            f"no runtime version is known for {instance.accelerator}",
            code="NoRuntimeVersion",
            place=Place("gcp", instance_type=instance.name),
            scope="zone",
            hint="name one: image=; `gcloud compute tpus tpu-vm versions list` lists them",
        )
    return runtime


def hosts_of(slice_type: str, *, endpoints: int = 0) -> int:
    """Return how many hosts a slice has; if the tables do not have its type, as many as have an address already, and at least one."""
    return hosts_by_slice().get(slice_type) or max(endpoints, 1)
