"""Interruptions: how often a gang stops, how often it should save its state, and what share of the time makes progress."""

import math
from typing import Final

from multicompute.workloads import Finetuning, Training

PREEMPTIONS_PER_DAY: Final = 0.2
"""Preemptions of a spot node per day where neither the job nor the cloud gives a rate. An assumption (one in five days): rates differ
by type, place and week."""
SHORTEST_CHECKPOINT_SECONDS: Final = 10.0


def hours_between(
    workload: Training | Finetuning, *, nodes: int, accelerators: int, preemptions: float, failures: bool = True
) -> float:
    """Return the mean hours between interruptions of a gang, in which any node stops all: 1 / (sum of the rates).

    Args:
        workload: The job, which has the rate of failures.
        nodes: Nodes of the gang.
        accelerators: Accelerators of the gang.
        preemptions: Preemptions of one node per day.
        failures: Whether failures of hardware count.
    """
    rate = workload.failures_per_accelerator_hour * accelerators if failures else 0.0
    rate += preemptions / 24 * nodes
    return 1 / rate if rate else math.inf


def checkpoint_hours(workload: Training | Finetuning, checkpoint_bytes: float, nodes: int) -> float:
    """Return how long one checkpoint takes: bytes / (nodes x bytes per second), at least ten seconds."""
    seconds = checkpoint_bytes / (workload.storage_gb_per_second * 1e9 * nodes)
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
