"""The instance types of the packaged tables."""

import csv
import functools
from collections.abc import Mapping
from pathlib import Path


@functools.cache
def _shards() -> Mapping[str, str]:
    with (Path(__file__).parent / "data" / "index.csv").open(encoding="utf-8", newline="") as file:
        return {row["instance_type"]: row["shard"] for row in csv.DictReader(file)}


def shard_of(instance_type: str) -> str | None:
    """Return the accelerator of an instance type in the packaged tables, "cpu" for none; None if they do not have the type."""
    return _shards().get(instance_type)
