"""The TPU slice types of the offer tables, and the software that each generation boots."""

import csv
import functools
import re
from importlib import resources
from typing import Final

from multicompute.offer import InstanceType
from multicompute.provider_kit.vendor_errors import Place, invalid_request

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
    return name in _hosts() or _SLICE.fullmatch(name) is not None


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
    return _hosts().get(slice_type) or max(endpoints, 1)


def chips_by_slice(accelerator: str) -> dict[str, int]:
    """Return the number of chips of each slice type of an accelerator ("tpu-v5p"); empty if the tables do not have it."""
    return {row["instance_type"]: int(float(row["accelerators"])) for row in _rows().get(accelerator, ())}


@functools.cache
def _hosts() -> dict[str, int]:
    """Return the number of hosts of each slice type in the tables."""
    return {row["instance_type"]: int(row["hosts"]) for rows in _rows().values() for row in rows}


@functools.cache
def _rows() -> dict[str, list[dict[str, str]]]:
    """Return the rows of the tables of slice types, by accelerator."""
    found: dict[str, list[dict[str, str]]] = {}
    for folder in resources.files("multicompute_gcp").joinpath("data").iterdir():
        if folder.name.startswith("tpu"):
            with folder.joinpath("types.csv").open(encoding="utf-8") as lines:
                found[folder.name] = list(csv.DictReader(lines))
    return found
