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


class NodeState(StrEnum):
    """A node as its cloud reports it; GONE is what the cloud says is deleted for good."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    GONE = "gone"


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


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a cluster's story.

    Attributes:
        at: when, in UTC.
        kind: a word to filter by: "requested", "attempt", "capacity", "quota", "retry", "launched", "ready",
            "degraded", "extended", "terminating", "terminated", "failed", "note", ...
        message: the sentence for people.
        cluster_id: whose story it is.
        data: what programs may want: place, instance type, code, counts.
    """

    at: datetime
    kind: str
    message: str
    cluster_id: str
    data: Mapping[str, object] = field(default_factory=dict)
