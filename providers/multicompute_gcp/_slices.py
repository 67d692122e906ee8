"""Reads the offer tables of TPU slice types."""

import csv
import functools
from importlib import resources


def chips_by_slice(accelerator: str) -> dict[str, int]:
    """Return the number of chips of each slice type of an accelerator ("tpu-v5p"); empty if the tables do not have it."""
    return {row["instance_type"]: int(float(row["accelerators"])) for row in _rows().get(accelerator, ())}


@functools.cache
def hosts_by_slice() -> dict[str, int]:
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
