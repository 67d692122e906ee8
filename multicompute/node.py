"""What runs: nodes, the states they and their clusters can be in, and the events that tell their story."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal


class ClusterState(StrEnum):
    """The life of a cluster. FAILED and TERMINATED mean that nothing of it lives."""

    REQUESTED = "REQUESTED"
    PROVISIONING = "PROVISIONING"
    READY = "READY"
    DEGRADED = "DEGRADED"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"
    FAILED = "FAILED"

    @property
    def is_live(self) -> bool:
        """Whether something of it may still run and cost money."""
        return self not in (ClusterState.TERMINATED, ClusterState.FAILED)

    @property
    def is_up(self) -> bool:
        """Whether its gang came up and it is not being torn down: READY or DEGRADED."""
        return self in (ClusterState.READY, ClusterState.DEGRADED)

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it lives: TERMINATED or FAILED."""
        return not self.is_live


class NodeState(StrEnum):
    """A node as its cloud reports it; GONE is what the cloud says is deleted for good."""

    PENDING = "pending"
    RUNNING = "running"
    IMPAIRED = "impaired"
    """It runs and is billed, and fails the cloud's own checks of it."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    GONE = "gone"

    @property
    def has_ended(self) -> bool:
        """Whether the machine no longer runs and will not run again by itself."""
        return self in (NodeState.STOPPING, NodeState.STOPPED, NodeState.GONE)


class Metric(StrEnum):
    """What can be measured of a node, in the unit that `unit` names."""

    CPU = "cpu"
    NETWORK_RECEIVED = "network_received"
    NETWORK_SENT = "network_sent"
    ACCELERATOR = "accelerator"
    """Share of the time in which the accelerator was at work: the GPU's utilisation, the TPU's duty cycle."""
    ACCELERATOR_MEMORY = "accelerator_memory"
    ACCELERATOR_TEMPERATURE = "accelerator_temperature"
    ACCELERATOR_POWER = "accelerator_power"

    @property
    def unit(self) -> str:
        """ "%", "bytes/s", "celsius" or "watts"; memory is the share in use, in "%"."""
        return _UNITS.get(self, "%")


_UNITS = {
    Metric.NETWORK_RECEIVED: "bytes/s",
    Metric.NETWORK_SENT: "bytes/s",
    Metric.ACCELERATOR_TEMPERATURE: "celsius",
    Metric.ACCELERATOR_POWER: "watts",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement, as a cloud's monitoring has it. What a cloud does not measure has no sample: it is never a zero.

    Attributes:
        metric: what was measured.
        node: id of the node.
        at: end of the interval that `value` is the mean of, in UTC.
        value: in the metric's unit.
        accelerator: which of the node's accelerators, from 0; None for the node as a whole.
    """

    metric: Metric
    node: str
    at: datetime
    value: float
    accelerator: int | None = None

    @property
    def unit(self) -> str:
        """The unit of `value`."""
        return self.metric.unit


Cause = Literal["", "capacity", "quota", "preemption", "request"]


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a cluster.

    Attributes:
        id: the cloud's own id.
        rank: its place in the gang, from 0 (the head); -1 until the gang is complete.
        state: as the cloud reports it.
        accelerators: how many are on this machine.
        hourly_cost: USD per hour for this machine.
        token: the attempt that launched it.
        reason: why it stopped, in the cloud's words, where it says so.
        cause: the kind of that reason: "capacity", "quota", "preemption", "request" (the launch asked for what can't be
            had anywhere), "" where the cloud does not say.
        is_spot: whether the cloud says that it is a spot node.
        attached: the canonical name of the accelerators that were attached to it, where the cloud says so; "" where its instance
            type tells which it has.
    """

    id: str
    rank: int
    provider: str
    instance_type: str
    region: str
    zone: str
    state: NodeState
    private_ip: str | None = None
    public_ip: str | None = None
    accelerators: float = 0.0
    hourly_cost: float = 0.0
    token: str = ""
    reason: str | None = None
    cause: Cause = ""
    is_spot: bool = False
    attached: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a cluster's story.

    Attributes:
        at: when, in UTC.
        kind: a word to filter by: "requested", "attempt", "capacity", "quota", "retry", "launched", "ready",
            "degraded", "extended", "terminating", "stuck", "terminated", "failed", "note", ...
        message: the sentence for people.
        cluster_id: whose story it is.
        data: what programs may want: place, instance type, code, counts.
    """

    at: datetime
    kind: str
    message: str
    cluster_id: str
    data: Mapping[str, object] = field(default_factory=dict)
