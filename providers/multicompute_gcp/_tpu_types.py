"""What the offer tables know of TPU slice types, and the software that each generation boots."""

import csv
import functools
import re
from dataclasses import dataclass
from importlib import resources
from typing import Final

from multicompute.errors import InvalidRequestError
from multicompute.offer import InstanceType

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


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice type: how many hosts it has, and the accelerators and the generation of all of them."""

    hosts: int
    chips: float
    generation: str


def is_tpu(instance: InstanceType) -> bool:
    """Whether it is a TPU slice, which is bought through an API of its own."""
    return instance.accelerator.startswith("tpu")


def runtime_of(instance: InstanceType, named: str | None) -> str:
    """The runtime version of a slice: the user's own choice, else the one of its generation.

    Raises:
        InvalidRequestError: none is known.
    """
    if named:
        return named
    runtime = _RUNTIMES.get(instance.accelerator)
    if runtime is None:
        raise InvalidRequestError(
            f"gcp {instance.name}: no runtime version is known for {instance.accelerator}",
            provider="gcp",
            instance_type=instance.name,
            code="NoRuntimeVersion",
            scope="zone",
            hint="name one: image=; `gcloud compute tpus tpu-vm versions list` lists them",
        )
    return runtime


def hosts_of(slice_type: str, *, endpoints: int = 0) -> int:
    """How many hosts a slice of this type has; where the tables do not know it, as many as have an address already."""
    known = _slices().get(slice_type)
    return known.hosts if known else max(endpoints, 1)


def looks_like_slice(name: str) -> bool:
    """Whether `name` is that of a slice type."""
    return name in _slices() or _SLICE.fullmatch(name) is not None


@functools.cache
def _slices() -> dict[str, Slice]:
    found: dict[str, Slice] = {}
    for folder in resources.files("multicompute_gcp").joinpath("data").iterdir():
        if not folder.name.startswith("tpu"):
            continue
        with folder.joinpath("types.csv").open(encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                found[row["instance_type"]] = Slice(int(row["hosts"]), float(row["accelerators"]), folder.name)
    return found
