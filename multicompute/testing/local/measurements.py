"""The measurements in a local cloud's monitoring."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from multicompute.node import Metric

MINUTE = timedelta(minutes=1)
Load = Mapping[Metric, float] | Mapping[str, float]
"""Metric, or its name ("cpu") -> value."""


def by_metric(load: Load) -> dict[Metric, float]:
    """Return a load whose keys are metrics.

    Raises:
        ValueError: A key is not the name of a metric.
    """
    return {Metric(name): value for name, value in load.items()}


@dataclass(frozen=True, slots=True)
class Measurement:
    """The values that were measured in the minute before `end`."""

    end: datetime
    load: Mapping[Metric, float]
    accelerator: int = 0
    """The number of the accelerator that the accelerator metrics are about."""


class Measurements:
    """The measurements of every node, one for each minute."""

    def __init__(self) -> None:
        """Start without measurements."""
        self._of: dict[str, list[Measurement]] = {}

    def add(self, node: str, load: Load, *, until: datetime, minutes: int, accelerator: int = 0) -> None:
        """Add the same load for each of the `minutes` before `until`."""
        values = by_metric(load)
        ends = [until - count * MINUTE for count in reversed(range(minutes))]
        found = self._of.setdefault(node, [])
        found += [Measurement(end, values, accelerator) for end in ends]
        found.sort(key=lambda one: one.end)

    def of(self, node: str) -> Sequence[Measurement]:
        """Return the measurements of a node, the oldest first."""
        return self._of.get(node, ())

    def nodes(self) -> Iterator[str]:
        """Return the nodes that have measurements."""
        return iter(self._of)

    def clear(self) -> None:
        """Delete every measurement."""
        self._of.clear()
