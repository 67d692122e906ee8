"""Interruptions: how often a gang stops, how often it should save its state, and what share of the time makes progress."""

import math
from dataclasses import dataclass
from typing import Final

from multicompute.errors import SpecError

HARDWARE_RATE: Final = 1 / 50_000
"""Unexpected interruptions per accelerator-hour: 419 in 54 days on 16,384 H100 (Llama Team 2024, arXiv 2407.21783,
section 3.3.4)."""
SPOT_RATE: Final = 0.2
"""Preemptions of a spot node per day. An assumption (one in five days): rates differ by type, place and week."""
RESTART_MINUTES: Final = 10.0
"""From an interruption until the job makes progress again. An assumption; replacing a node can take longer."""
WRITE_GB_PER_SECOND: Final = 1.0
"""The rate at which a node writes checkpoints to the storage. An assumption; it grows with the nodes, as with sharded checkpoints."""
SHORTEST_CHECKPOINT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruptions:
    """The interruptions of a job, and their cost.

    Attributes:
        spot_per_node_day: Preemptions of one spot node per day.
        per_accelerator_hour: Hardware failures per accelerator-hour.
        restart_minutes: From an interruption until the job makes progress again.
        write_gb_per_second: What one node writes to the storage for checkpoints.
    """

    spot_per_node_day: float = SPOT_RATE
    per_accelerator_hour: float = HARDWARE_RATE
    restart_minutes: float = RESTART_MINUTES
    write_gb_per_second: float = WRITE_GB_PER_SECOND

    def __post_init__(self) -> None:
        """Refuse rates and times that are negative or not finite."""
        for name in ("spot_per_node_day", "per_accelerator_hour", "restart_minutes"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SpecError(f"{name}={getattr(self, name)!r}: must be at least 0")
        if not 0 < self.write_gb_per_second < math.inf:
            raise SpecError(f"write_gb_per_second={self.write_gb_per_second!r}: must be more than 0")

    def hours_between(self, *, nodes: int, accelerators: int, spot: bool, hardware: bool = True) -> float:
        """Return the mean hours between interruptions of a gang, in which any node stops all: 1 / (sum of the rates)."""
        rate = self.per_accelerator_hour * accelerators if hardware else 0.0
        rate += self.spot_per_node_day / 24 * nodes if spot else 0.0
        return 1 / rate if rate else math.inf

    def checkpoint_hours(self, checkpoint_bytes: float, nodes: int) -> float:
        """Return how long one checkpoint takes: bytes / (nodes x bytes per second), at least ten seconds."""
        seconds = checkpoint_bytes / (self.write_gb_per_second * 1e9 * nodes)
        return max(seconds, SHORTEST_CHECKPOINT_SECONDS) / 3600


def young_interval(checkpoint: float, between: float) -> float:
    """Return the time between checkpoints that loses least: tau = sqrt(2 delta M).

    Args:
        checkpoint: Delta, the time that one checkpoint takes.
        between: M, the mean time between interruptions, in the same unit.

    Source: Young 1974, "A first order approximation to the optimum checkpoint interval".
    """
    return math.sqrt(2 * checkpoint * between)


def daly_interval(checkpoint: float, between: float) -> float:
    """Return the time between checkpoints by Daly's higher-order formula.

    tau = sqrt(2 delta M) (1 + (1/3) sqrt(delta / 2M) + (1/9) (delta / 2M)) - delta for delta < 2 M, else M.

    Source: Daly 2006, "A higher order estimate of the optimum checkpoint interval for restart dumps", equation 37.
    """
    if math.isinf(between):
        return math.inf
    if checkpoint >= 2 * between:
        return between
    ratio = checkpoint / (2 * between)
    return young_interval(checkpoint, between) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - checkpoint


def lost_share(checkpoint: float, between: float, restart: float) -> float:
    """Return the share of the time that makes no progress: delta / tau + tau / 2M + R / M, at most 1.

    Checkpoints, work since the last one that an interruption loses, and restarts.

    Args:
        checkpoint: Delta, the time that one checkpoint takes.
        between: M, the mean time between interruptions.
        restart: R, the time from an interruption until there is progress again; all in the same unit.
    """
    if math.isinf(between):
        return 0.0
    interval = daly_interval(checkpoint, between)
    return min(1.0, checkpoint / interval + interval / (2 * between) + restart / between)
