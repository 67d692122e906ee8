"""The records of the local Cloud TPU: nodes, queued resources and operations, and their state at a time."""

import ipaddress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from multicompute_gcp.local.hardware import SliceType
from multicompute_gcp.local.records import PROJECT, Labels, timestamp
from multicompute_gcp.local.responses import Json
from multicompute_gcp.local.state import ResourceStore, State

_TYPES = "type.googleapis.com/google.cloud.tpu.v2."
_PRIVATE = int(ipaddress.IPv4Address("10.64.0.2"))
_PUBLIC = int(ipaddress.IPv4Address("198.19.0.1"))
_PORT = 8470
Failure = tuple[int, str]
"""The number and message of a google.rpc.Status."""


def full_name(zone: str, collection: str, name: str) -> str:
    """Return the full name of a resource in the TPU API."""
    return f"projects/{PROJECT}/locations/{zone}/{collection}/{name}"


@dataclass(slots=True)
class TpuNode:
    """A slice with all its hosts: one node of the TPU API.

    Attributes:
        first_address: The number of the first host's address.
        queued: The queued resource that created it, "" for none.
        health: The result of Google's health checks.
    """

    name: str
    id: int
    zone: str
    slice: SliceType
    body: Json
    spot: bool
    created_at: datetime
    ready_at: datetime
    listed_from: datetime
    first_address: int
    queued: str = ""
    is_one_of_several: bool = False
    preempted_at: datetime | None = None
    gone_at: datetime | None = None
    stopped_at: datetime | None = None
    health: str = "HEALTHY"

    @property
    def labels(self) -> Labels:
        """The labels."""
        found: Labels = self.body.get("labels", {})
        return found

    def state(self, now: datetime) -> str:
        """Return the state as the API names it."""
        if self.gone_at is not None:
            return "DELETING"
        if self.preempted_at is not None:
            return "PREEMPTED"
        if self.stopped_at is not None:
            return "STOPPED"
        return "READY" if now >= self.ready_at else "CREATING"

    def as_json(self, now: datetime) -> Json:
        """Return the document."""
        found: Json = {
            **self.body,
            "name": full_name(self.zone, "nodes", self.name),
            "id": str(self.id),
            "state": self.state(now),
            "apiVersion": "V2",
            "createTime": timestamp(self.created_at),
            "networkEndpoints": self._endpoints() if now >= self.ready_at else [],
        }
        if now >= self.ready_at:
            found["health"] = self.health
            if self.health != "HEALTHY":
                found["healthDescription"] = "The TPU does not answer its health checks."
        if self.queued:
            found["queuedResource"] = full_name(self.zone, "queuedResources", self.queued)
        if self.is_one_of_several:
            found["multisliceNode"] = True
        return found

    def machine_number(self, worker: int) -> str:
        """Return the machine number of a host, which only the host itself can read from Google."""
        return str(self.id + 10_000_000 * (worker + 1))

    def _endpoints(self) -> list[Json]:
        has_public = self.body.get("networkConfig", {}).get("enableExternalIps", False)
        found: list[Json] = []
        for host in range(self.slice.hosts):
            number = self.first_address + host
            item: Json = {"ipAddress": str(ipaddress.IPv4Address(_PRIVATE + number)), "port": _PORT}
            if has_public:
                item["accessConfig"] = {"externalIp": str(ipaddress.IPv4Address(_PUBLIC + number % 2**16))}
            found.append(item)
        return found


@dataclass(slots=True)
class QueuedResource:
    """A request in the queue.

    Attributes:
        node_ids: The ids of its nodes.
        decided_at: When the queue first tries to grant it; CREATING until then.
        waits: Whether it waits for capacity.
        granted_at: When it was granted; None while it waits.
        suspended_by: "USER" or "SERVICE", once its nodes are gone.
    """

    name: str
    zone: str
    body: Json
    slice: SliceType
    node: Json
    node_ids: list[str]
    spot: bool
    created_at: datetime
    decided_at: datetime
    listed_from: datetime
    labels: Labels = field(default_factory=dict)
    waits: bool = False
    granted_at: datetime | None = None
    ready_at: datetime | None = None
    failure: Failure | None = None
    suspended_by: str = ""
    suspended_at: datetime | None = None
    gone_at: datetime | None = None

    def state(self, now: datetime) -> str:
        """Return the state as the API names it."""
        if self.gone_at is not None:
            return "DELETING"
        if self.failure is not None:
            return "FAILED"
        if self.suspended_at is not None:
            return "SUSPENDED" if now >= self.suspended_at else "SUSPENDING"
        if now < self.decided_at:
            return "CREATING"
        return self._in_the_queue(now)

    def _in_the_queue(self, now: datetime) -> str:
        if self.granted_at is None or self.ready_at is None:
            return "WAITING_FOR_RESOURCES" if self.waits else "ACCEPTED"
        if now >= self.ready_at:
            return "ACTIVE"
        return "PROVISIONING" if now >= self.granted_at + (self.ready_at - self.granted_at) / 4 else "ACCEPTED"

    def as_json(self, now: datetime) -> Json:
        """Return the document."""
        state = self.state(now)
        word = "".join(part.capitalize() for part in state.split("_"))
        status: Json = {"state": state}
        if state != "WAITING_FOR_RESOURCES":
            status[word[0].lower() + word[1:] + "Data"] = {}
        if self.failure is not None and state == "FAILED":
            status["failedData"] = {"error": {"code": self.failure[0], "message": self.failure[1]}}
        if state in ("SUSPENDING", "SUSPENDED"):
            status["stateInitiator"] = self.suspended_by
        return {
            **self.body,
            "name": full_name(self.zone, "queuedResources", self.name),
            "createTime": timestamp(self.created_at),
            "state": status,
        }


@dataclass(slots=True)
class TpuOperation:
    """A long-running operation of the TPU API."""

    name: str
    zone: str
    verb: str
    target: str
    created_at: datetime
    done_at: datetime
    polls_left: int
    response: Json
    kind: str
    failure: Failure | None = None

    @property
    def labels(self) -> Labels:
        """No labels: operations have none."""
        return {}

    def as_json(self, now: datetime) -> Json:
        """Return the document."""
        metadata: Json = {
            "@type": f"{_TYPES}OperationMetadata",
            "createTime": timestamp(self.created_at),
            "target": self.target,
            "verb": self.verb,
            "apiVersion": "v2",
        }
        found: Json = {"name": full_name(self.zone, "operations", self.name), "metadata": metadata, "done": False}
        if self.polls_left > 0 or now < self.done_at:
            return found
        metadata["endTime"] = timestamp(self.done_at)
        found["done"] = True
        if self.failure is not None:
            found["error"] = {"code": self.failure[0], "message": self.failure[1]}
        elif self.kind:
            found["response"] = {"@type": f"{_TYPES}{self.kind}", **self.response}
        else:
            found["response"] = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        return found


@dataclass
class TpuZone:
    """The resources of one zone."""

    nodes: ResourceStore[TpuNode] = field(default_factory=ResourceStore)
    queued: ResourceStore[QueuedResource] = field(default_factory=ResourceStore)
    operations: ResourceStore[TpuOperation] = field(default_factory=ResourceStore)


class TpuRecords:
    """The resources of all zones.

    Attributes:
        state: The state of the cloud.
        unauthorized: The zones that the project may not use.
        fails_without_capacity: Whether a queued resource without capacity fails at once; otherwise it waits, as Google's does.
    """

    def __init__(self, state: State) -> None:
        """Start without any resources; `state` has the clock, the capacity and the lock."""
        self.state = state
        self.fails_without_capacity = False
        self.unauthorized: set[str] = set()
        self._zones: dict[str, TpuZone] = {}

    def zone(self, name: str) -> TpuZone:
        """Return the records of a zone."""
        return self._zones.setdefault(name, TpuZone())

    def zones(self) -> list[str]:
        """Return the zones with resources, sorted."""
        return sorted(self._zones)

    def clear(self) -> None:
        """Delete every record."""
        self._zones.clear()

    def begin(
        self,
        zone: str,
        verb: str,
        target: str,
        *,
        kind: str = "",
        response: Json | None = None,
        done_at: datetime | None = None,
        failure: Failure | None = None,
    ) -> TpuOperation:
        """Begin an operation; `kind` is the message type of its response, "" for none."""
        now = self.state.now()
        operation = TpuOperation(
            name=f"operation-{int(now.timestamp() * 1000)}-{self.state.number():x}",
            zone=zone,
            verb=verb,
            target=target,
            created_at=now,
            done_at=now + self.state.timing.operation if done_at is None else done_at,
            polls_left=self.state.timing.polls,
            response=response or {},
            kind=kind,
            failure=failure,
        )
        self.zone(zone).operations.add(operation)
        return operation

    def used(self, zone: str, name: str) -> int:
        """Return how many slices of a type use capacity in a zone."""
        return sum(
            1
            for node in self.zone(zone).nodes
            if node.slice.name == name and node.preempted_at is None and node.stopped_at is None
        )

    def has_capacity(self, zone: str, kind: SliceType, count: int) -> bool:
        """Return whether a zone has capacity for `count` more slices of a type."""
        total = self.state.capacity.get((zone, kind.name))
        return total is None or self.used(zone, kind.name) + count <= total

    def create_node(
        self,
        zone: str,
        name: str,
        kind: SliceType,
        body: Json,
        *,
        spot: bool,
        queued: str = "",
        of_several: bool = False,
    ) -> TpuNode:
        """Create a slice."""
        now, timing = self.state.now(), self.state.timing
        first = self.state.number()
        for _ in range(kind.hosts):
            self.state.number()
        node = TpuNode(
            name=name,
            id=self.state.new_id(),
            zone=zone,
            slice=kind,
            body=body,
            spot=spot,
            created_at=now,
            ready_at=now + timing.boot,
            listed_from=now + timing.lag,
            first_address=first,
            queued=queued,
            is_one_of_several=of_several,
        )
        self.zone(zone).nodes.add(node)
        return node

    def stop_node(self, node: TpuNode) -> None:
        """Stop a slice.

        Raises:
            ValueError: It has several hosts.
        """
        if node.slice.hosts > 1:
            # tpu.v2, nodes.stop: "This operation is only available with single TPU nodes."
            raise ValueError(f"{node.name}: a slice with {node.slice.hosts} hosts can't be stopped")
        node.stopped_at = self.state.now()

    def start_node(self, node: TpuNode) -> None:
        """Start a stopped slice."""
        if node.stopped_at is not None:
            node.stopped_at, node.ready_at = None, self.state.now() + self.state.timing.boot

    def delete_node(self, node: TpuNode, gone_at: datetime) -> None:
        """Begin to delete a slice; it is gone at `gone_at`."""
        if node.gone_at is None:
            node.gone_at = gone_at
            self.state.at(gone_at, lambda: self._remove_node(node))

    def _remove_node(self, node: TpuNode) -> None:
        nodes = self.zone(node.zone).nodes
        if nodes.find(node.name) is node:
            nodes.remove(node.name)

    def deletion_time(self) -> timedelta:
        """Return how long a deletion takes."""
        return max(self.state.timing.operation, self.state.timing.shutdown)
