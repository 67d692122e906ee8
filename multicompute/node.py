"""Nodes, the states of nodes and clusters, measurements, and events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from multicompute.text import short_id


class ClusterState(StrEnum):
    """The state of a cluster. FAILED and TERMINATED mean that none of its resources exists."""

    REQUESTED = "REQUESTED"
    PROVISIONING = "PROVISIONING"
    READY = "READY"
    DEGRADED = "DEGRADED"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"
    FAILED = "FAILED"

    @property
    def is_live(self) -> bool:
        """Return whether resources of the cluster may still exist and cost money."""
        return self not in (ClusterState.TERMINATED, ClusterState.FAILED)

    @property
    def is_up(self) -> bool:
        """Return whether the gang came up and is not being torn down: READY or DEGRADED."""
        return self in (ClusterState.READY, ClusterState.DEGRADED)

    @property
    def is_coming_up(self) -> bool:
        """Return whether the nodes are being launched: REQUESTED or PROVISIONING."""
        return self in (ClusterState.REQUESTED, ClusterState.PROVISIONING)

    @property
    def has_ended(self) -> bool:
        """Return whether no resource of the cluster exists: TERMINATED or FAILED."""
        return not self.is_live


class NodeState(StrEnum):
    """The state of a node as its cloud reports it. GONE means that the cloud has deleted it for good."""

    PENDING = "pending"
    RUNNING = "running"
    IMPAIRED = "impaired"
    """The node runs and is billed, but fails the cloud's health checks."""
    STOPPING = "stopping"
    """The node no longer runs, and will soon be STOPPED or GONE."""
    STOPPED = "stopped"
    """The node was stopped, deallocated or suspended: it can be started again, and only its disks are billed.

    With `Node.is_billed`, its machine is billed as well.
    """
    GONE = "gone"


class Metric(StrEnum):
    """A metric of a node, measured in `unit`."""

    CPU = "cpu"
    NETWORK_RECEIVED = "network_received"
    NETWORK_SENT = "network_sent"
    ACCELERATOR = "accelerator"
    """The share of time in which the accelerator was busy: GPU utilization, TPU duty cycle."""
    ACCELERATOR_MEMORY = "accelerator_memory"
    ACCELERATOR_TEMPERATURE = "accelerator_temperature"
    ACCELERATOR_POWER = "accelerator_power"

    @property
    def unit(self) -> str:
        """The unit: "%", "bytes/s", "celsius" or "watts". Memory is the share in use, in "%"."""
        return _UNITS.get(self, "%")


_UNITS = {
    Metric.NETWORK_RECEIVED: "bytes/s",
    Metric.NETWORK_SENT: "bytes/s",
    Metric.ACCELERATOR_TEMPERATURE: "celsius",
    Metric.ACCELERATOR_POWER: "watts",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A measurement of a cloud's monitoring. A value that was not measured has no sample; it is never a zero.

    Attributes:
        metric: What was measured.
        node: The id of the node.
        at: The end of the interval that `value` is the mean of, in UTC.
        value: The measured value, in `metric.unit`.
        accelerator: The index of the accelerator on the node, from 0; None for the complete node.
    """

    metric: Metric
    node: str
    at: datetime
    value: float
    accelerator: int | None = None


Cause = Literal["", "capacity", "quota", "preemption", "request"]


@dataclass(frozen=True, slots=True, repr=False)
class Node:
    """A machine of a cluster.

    Attributes:
        id: The cloud's id.
        rank: The position in the gang, from 0 (the head); -1 until the gang is complete.
        state: The state as the cloud reports it.
        accelerators: The number of accelerators on this node.
        hourly_cost: USD per hour for this node.
        token: The token of the attempt that launched it.
        reason: Why it stopped, in the vendor's words; None if the cloud gives no reason.
        cause: The kind of that reason: "capacity", "quota", "preemption" or "request" (the launch request was invalid);
            "" if the cloud does not say.
        is_billed: Whether its machine is billed although it is STOPPED: on some clouds one that was stopped from inside is.
        is_tagged: Whether it has the tags of multicompute; False if it was found by its id or name only.
        is_spot: Whether the cloud reports it as a spot node.
        attached: The canonical name of the accelerators that are attached to it, as the cloud reports them; "" if the
            instance type determines them.
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
    is_tagged: bool = True
    is_billed: bool = False

    @property
    def is_lost(self) -> bool:
        """Return whether it is gone, or was taken back by the cloud for good."""
        return self.state is NodeState.GONE or (
            self.cause == "preemption" and self.state in (NodeState.STOPPING, NodeState.STOPPED)
        )

    def __repr__(self) -> str:
        """Return rank, id, state, place and instance type in one line."""
        return (
            f"<Node {self.rank} {short_id(self.id)} {self.state.value} in {self.provider} {self.zone or self.region}"
            f" {self.instance_type}>"
        )

    def _repr_html_(self) -> str:
        # Imported here: only notebooks need it.
        from multicompute.markup import html_facts

        facts = (
            ("rank", str(self.rank)),
            ("id", self.id),
            ("state", self.state.value),
            ("why", self.reason or ""),
            ("place", f"{self.provider} {self.zone or self.region}"),
            ("instance type", self.instance_type),
            ("accelerators", f"{self.accelerators:g}" if self.accelerators else ""),
            ("private address", self.private_ip or "-"),
            ("public address", self.public_ip or "-"),
            ("cost", f"${self.hourly_cost:,.2f} per hour"),
        )
        return html_facts("node", [(name, value) for name, value in facts if value])


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of a cluster's event log.

    Attributes:
        at: When it happened, in UTC.
        kind: A word to filter by: "requested", "attempt", "capacity", "quota", "retry", "launched", "ready",
            "degraded", "extended", "terminating", "stuck", "terminated", "failed", "note", ...
        message: A sentence for people.
        cluster_id: The id of the cluster.
        data: Values for programs: place, instance type, code, counts.
    """

    at: datetime
    kind: str
    message: str
    cluster_id: str
    data: Mapping[str, object] = field(default_factory=dict)
