"""The queue of the TPU API: a request gets all its slices at once or waits; it can fail, be suspended or be deleted."""

import re
from datetime import datetime, timedelta

from multicompute_gcp.local.responses import GcpError, Json
from multicompute_gcp.local.tpu_records import QueuedResource, TpuNode, TpuRecords, full_name
from multicompute_gcp.local.tpu_rules import (
    bad,
    check_id,
    check_network,
    check_node_id,
    check_parent,
    check_quota,
    no_capacity,
    read_node,
)

_RESOURCE_EXHAUSTED = 8
_LIMITS = ("validUntilDuration", "validUntilTime", "validAfterDuration", "validAfterTime", "validInterval")


class Queue:
    """The queued resources of all zones."""

    def __init__(self, records: TpuRecords) -> None:
        """Queue requests in `records`."""
        self._records = records
        self._state = records.state

    def add(self, zone: str, name: str, body: Json) -> QueuedResource:
        """Add a request to the queue.

        Raises:
            GcpError: The TPU API would refuse the request.
        """
        spec = _spec(body)
        check_parent(spec.get("parent", ""), zone)
        node = spec.get("node") or {}
        kind = read_node(node, zone)
        check_network(self._records, node, zone)
        ids = _node_ids(name, spec)
        _check_reservation(body.get("reservationName", ""), zone)
        if "spot" in body and "guaranteed" in body:
            raise bad("Only one of spot and guaranteed can be set.")
        spot = "spot" in body
        for node_id in ids:
            if self._records.zone(zone).nodes.find(node_id) is not None:
                path = full_name(zone, "nodes", node_id)
                raise GcpError("ALREADY_EXISTS", f"Resource '{path}' already exists", 409)
        check_quota(self._records, zone, kind, len(ids), spot=spot)
        now, timing = self._state.now(), self._state.timing
        queued = QueuedResource(
            name=name,
            zone=zone,
            body=body,
            slice=kind,
            node=node,
            node_ids=ids,
            spot=spot,
            created_at=now,
            decided_at=now + timing.operation,
            listed_from=now + timing.lag,
            labels=node.get("labels", {}),
        )
        until = _valid_until(body.get("queueingPolicy", {}), now)
        self._records.zone(zone).queued.add(queued)
        self._state.at(queued.decided_at, lambda: self._decide(queued))
        if until is not None:
            self._state.at(until, lambda: self._expire(queued))
        return queued

    def grant_waiting(self) -> None:
        """Grant the waiting requests, in the order of their creation, as far as there is capacity."""
        for zone in self._records.zones():
            waiting = [one for one in self._records.zone(zone).queued if one.waits]
            for queued in sorted(waiting, key=lambda one: one.created_at):
                self._decide(queued)

    def _decide(self, queued: QueuedResource) -> None:
        if queued.gone_at or queued.failure or queued.granted_at:
            return
        count = len(queued.node_ids)
        if not self._records.has_capacity(queued.zone, queued.slice, count):
            if self._records.fails_without_capacity:
                self.fail(queued, _RESOURCE_EXHAUSTED, no_capacity(queued.zone))
            else:
                queued.waits = True
            return
        queued.waits = False
        queued.granted_at = self._state.now()
        queued.ready_at = queued.granted_at + self._state.timing.boot
        for node_id in queued.node_ids:
            self._records.create_node(
                queued.zone,
                node_id,
                queued.slice,
                {**queued.node, "schedulingConfig": {**queued.node.get("schedulingConfig", {}), "spot": queued.spot}},
                spot=queued.spot,
                queued=queued.name,
                of_several=count > 1,
            )

    def _expire(self, queued: QueuedResource) -> None:
        if queued.granted_at is None and queued.gone_at is None and queued.failure is None:
            self.fail(queued, _RESOURCE_EXHAUSTED, no_capacity(queued.zone))

    def fail(self, queued: QueuedResource, code: int, message: str, *, leaves_nodes: bool = False) -> None:
        """Fail a request, and delete its slices unless they are to stay."""
        queued.failure, queued.waits = (code, message), False
        if not leaves_nodes:
            for node in self.nodes_of(queued):
                self._records.delete_node(node, self._state.now())

    def preempt(self, node: TpuNode) -> None:
        """Preempt a slice; with the last slice of a queued resource, suspend the queued resource.

        Google does not document what happens to the other slices of a request. Here they keep running, which is the harder case
        for a client.
        """
        node.preempted_at = self._state.now()
        queued = self._records.zone(node.zone).queued.find(node.queued) if node.queued else None
        if queued is None or any(one.preempted_at is None for one in self.nodes_of(queued)):
            return
        gone_at = self._state.now() + self._state.timing.shutdown
        for one in self.nodes_of(queued):
            self._records.delete_node(one, gone_at)
        queued.suspended_by, queued.suspended_at = "SERVICE", gone_at

    def note_deletion(self, node: TpuNode, gone_at: datetime) -> None:
        """Suspend the queued resource of a slice that is deleted individually, if it was the last slice."""
        queued = self._records.zone(node.zone).queued.find(node.queued) if node.queued else None
        if queued is not None and all(one.gone_at is not None for one in self.nodes_of(queued)):
            queued.suspended_by, queued.suspended_at = "USER", gone_at

    def delete(self, queued: QueuedResource, gone_at: datetime) -> None:
        """Begin to delete a queued resource; it is gone at `gone_at`."""
        if queued.gone_at is None:
            queued.gone_at, queued.waits = gone_at, False
            self._state.at(gone_at, lambda: self._records.zone(queued.zone).queued.remove(queued.name))

    def nodes_of(self, queued: QueuedResource) -> list[TpuNode]:
        """Return the slices that a queued resource has now."""
        return [node for node in self._records.zone(queued.zone).nodes if node.queued == queued.name]


def _check_reservation(name: str, zone: str) -> None:
    """Refuse a reservation that is not named as tpu.v2 (QueuedResource.reservationName) and gcloud's tpu_utils have it."""
    if name and not re.fullmatch(rf"(projects|folders|organizations)/[^/]+/locations/{zone}/reservations/[^/]+", name):
        raise bad(f'The reservation name "{name}" must be projects/PROJECT/locations/{zone}/reservations/NAME.')


def _spec(body: Json) -> Json:
    specs = body.get("tpu", {}).get("nodeSpec", [])
    if len(specs) != 1:
        raise bad("A queued resource needs exactly one node_spec; several slices are asked for by multislice_params.")
    spec: Json = specs[0]
    return spec


def _node_ids(name: str, spec: Json) -> list[str]:
    several, single = spec.get("multisliceParams"), spec.get("nodeId")
    if (several is None) == (not single):
        raise bad("Exactly one of node_id and multislice_params must be set.")
    if several is None:
        return [check_node_id(str(single))]
    count = int(several.get("nodeCount", 0))
    if count <= 1:
        raise bad(f"node_count is {count}: it needs to be > 1.")
    prefix = check_id(several.get("nodeIdPrefix") or name, "node_id_prefix")
    return [check_node_id(f"{prefix}-{number}") for number in range(count)]


def _valid_until(policy: Json, now: datetime) -> datetime | None:
    given = [name for name in _LIMITS if name in policy]
    if len(given) > 1:
        raise bad(f"Only one of {', '.join(given)} can be set.")
    if "validUntilDuration" in policy:
        return now + timedelta(seconds=float(policy["validUntilDuration"].removesuffix("s")))
    if "validUntilTime" in policy:
        return datetime.fromisoformat(policy["validUntilTime"])
    if "validInterval" in policy:
        end = policy["validInterval"].get("endTime")
        return datetime.fromisoformat(end) if end else None
    return None
