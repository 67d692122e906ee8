"""Finds our TPU slices: queued resources and nodes, over all zones, and makes a node of each of their hosts."""

from dataclasses import dataclass
from typing import Any, Final

from multicompute.node import Cause, Node, NodeState
from multicompute.provider import TAG_ATTEMPT, Resource, Selector
from multicompute_gcp._errors import Place, cause_of, said_by_status
from multicompute_gcp._labels import is_meant, last_of, region_of, tags_of
from multicompute_gcp._session import Clients
from multicompute_gcp._tpu_types import hosts_of

# https://cloud.google.com/tpu/docs/reference/rest/v2/projects.locations.nodes#State
_NODE_STATES: Final = {
    "CREATING": NodeState.PENDING,
    "STARTING": NodeState.PENDING,
    "RESTARTING": NodeState.PENDING,
    "REIMAGING": NodeState.PENDING,
    "REPAIRING": NodeState.PENDING,
    "READY": NodeState.RUNNING,
    "STOPPING": NodeState.STOPPING,
    "DELETING": NodeState.STOPPING,
    "STOPPED": NodeState.STOPPED,
    "PREEMPTED": NodeState.STOPPED,
    "TERMINATED": NodeState.STOPPED,
    "HIDING": NodeState.STOPPING,
    "HIDDEN": NodeState.STOPPED,
}
# https://cloud.google.com/tpu/docs/reference/rest/v2/projects.locations.nodes#Health, of a node that is READY otherwise.
_UNWELL: Final = ("TIMEOUT", "UNHEALTHY_TENSORFLOW", "UNHEALTHY_MAINTENANCE")
# Of one that was: being repaired, and what a repair that has failed leaves behind.
_UNSOUND: Final = ("REPAIRING", "UNKNOWN")
# Of a queued resource whose nodes are not there (yet, or any more).
_QUEUE_STATES: Final = {
    "SUSPENDING": NodeState.STOPPING,
    "SUSPENDED": NodeState.STOPPED,
    "DELETING": NodeState.STOPPING,
    "FAILED": NodeState.GONE,
}
_TAKEN_BACK: Final = ("PREEMPTED", "SUSPENDING", "SUSPENDED")
# Answers after which there are no TPUs here to be found: the API was never enabled in the project.
_DISABLED: Final = ("accessNotConfigured", "SERVICE_DISABLED")


@dataclass(frozen=True, slots=True)
class Found:
    """Our queued resources and TPU nodes, in Google's words."""

    queued: tuple[dict[str, Any], ...] = ()
    nodes: tuple[dict[str, Any], ...] = ()


def zone_of(item: dict[str, Any]) -> str:
    """The zone in a name like projects/P/locations/ZONE/nodes/NAME."""
    parts = str(item["name"]).split("/")
    return parts[3] if len(parts) > 3 else ""


def find(clients: Clients, selector: Selector, place: Place) -> Found:
    """What is selected; the TPU API's listings have no filter, so all of the project's are read."""
    kept: dict[str, list[dict[str, Any]]] = {"queuedResources": [], "nodes": []}
    for kind, items in kept.items():
        for page in clients.pages(clients.tpu_url("-", kind), f"{kind}.list", place, pageSize=1000):
            items += [item for item in page.get(kind, ()) if _is_selected(item, selector)]
    by_name = {kind: tuple(sorted(items, key=lambda item: str(item["name"]))) for kind, items in kept.items()}
    return Found(by_name["queuedResources"], by_name["nodes"])


def _is_selected(item: dict[str, Any], selector: Selector) -> bool:
    if selector.region not in (None, region_of(zone_of(item))):
        return False
    return is_meant(labels_in(item), selector)


def labels_in(item: dict[str, Any]) -> dict[str, str]:
    """The labels of a node, or of the nodes that a queued resource asks for: it has none of its own."""
    specs = (item.get("tpu") or {}).get("nodeSpec")
    labels = (specs[0].get("node") or {}).get("labels") if specs else item.get("labels")
    return dict(labels or {})


def planned(queued: dict[str, Any]) -> list[str]:
    """The names of the nodes that a queued resource asks for, in order."""
    names: list[str] = []
    for spec in (queued.get("tpu") or {}).get("nodeSpec", ()):
        several = spec.get("multisliceParams")
        if several:
            count, prefix = int(several.get("nodeCount", 0)), several.get("nodeIdPrefix") or last_of(queued["name"])
            names += [f"{prefix}-{number}" for number in range(count)]
        else:
            names.append(str(spec.get("nodeId") or last_of(queued["name"])))
    return names


def nodes(clients: Clients, selector: Selector, place: Place) -> list[Node]:
    """Every host of every selected slice, in the order of the slices and of their workers."""
    return hosts_in(find(clients, selector, place), with_health=selector.with_health)


def hosts_in(found: Found, *, with_health: bool = False) -> list[Node]:
    """The same of what has been listed; with `with_health` the hosts of a slice that is not well are IMPAIRED."""
    by_place = {(zone_of(item), last_of(item["name"])): item for item in found.nodes}
    hosts: list[Node] = []
    for queued in found.queued:
        zone = zone_of(queued)
        names = planned(queued)
        for name in sorted(names, key=names.index):
            item = by_place.pop((zone, name), None)
            hosts += _hosts(item, queued, with_health=with_health) if item is not None else _absent(queued, name)
    for item in by_place.values():
        hosts += _hosts(item, None, with_health=with_health)
    return hosts


def _hosts(item: dict[str, Any], queued: dict[str, Any] | None, *, with_health: bool = False) -> list[Node]:
    state = str(item.get("state", "STATE_UNSPECIFIED"))
    endpoints = item.get("networkEndpoints") or []
    reason, cause = _why(item, state)
    found = _NODE_STATES.get(state, NodeState.PENDING)
    if with_health and (fault := _fault(item, state)):
        found, reason = NodeState.IMPAIRED, fault
    if (
        queued is not None
        and _queue_state(queued) in _QUEUE_STATES
        and found in (NodeState.RUNNING, NodeState.IMPAIRED)
    ):
        # It is being taken away, whatever the node says meanwhile.
        found = _QUEUE_STATES[_queue_state(queued)]
        reason, cause = _why_queued(queued)
    slice_type = str(item.get("acceleratorType", ""))
    made: list[Node] = []
    for worker in range(hosts_of(slice_type, endpoints=len(endpoints))):
        endpoint = endpoints[worker] if worker < len(endpoints) else {}
        # A host without an address can't be worked with yet.
        state_here = NodeState.PENDING if found is NodeState.RUNNING and not endpoint else found
        public = (endpoint.get("accessConfig") or {}).get("externalIp")
        made.append(_host(item, worker, state_here, reason, cause, endpoint.get("ipAddress"), public))
    return made


def _absent(queued: dict[str, Any], name: str) -> list[Node]:
    """The hosts of a slice that is not there: still in the queue, or gone again."""
    spec = queued["tpu"]["nodeSpec"][0]["node"]
    item = {**spec, "name": f"{str(queued['name']).partition('/queuedResources/')[0]}/nodes/{name}"}
    state = _QUEUE_STATES.get(_queue_state(queued), NodeState.PENDING)
    reason, cause = _why_queued(queued)
    if _queue_state(queued) == "ACTIVE":
        # It was active and has lost this node.
        state, reason, cause = NodeState.GONE, "PREEMPTED: the node is gone", _cause_of_loss(queued)
    slice_type = str(spec.get("acceleratorType", ""))
    return [_host(item, worker, state, reason, cause, None, None) for worker in range(hosts_of(slice_type))]


def _cause_of_loss(queued: dict[str, Any]) -> Cause:
    return "preemption" if "spot" in queued else ""


def _host(
    item: dict[str, Any],
    worker: int,
    state: NodeState,
    reason: str | None,
    cause: Cause,
    private_ip: str | None,
    public_ip: str | None,
) -> Node:
    zone = zone_of(item)
    return Node(
        id=f"{last_of(str(item['name']))}/{worker}",
        rank=-1,
        provider="gcp",
        instance_type=str(item.get("acceleratorType", "")),
        region=region_of(zone),
        zone=zone,
        state=state,
        private_ip=private_ip or None,
        public_ip=public_ip or None,
        token=tags_of(labels_in(item)).get(TAG_ATTEMPT, ""),
        reason=reason,
        cause=cause,
        is_spot=bool((item.get("schedulingConfig") or {}).get("spot")),
    )


def _queue_state(queued: dict[str, Any]) -> str:
    return str((queued.get("state") or {}).get("state", ""))


def _fault(item: dict[str, Any], state: str) -> str | None:
    """What Google finds wrong with a slice that is up, None for nothing; a health that is not known is none that is bad."""
    health = str(item.get("health") or "")
    word = health if state == "READY" and health in _UNWELL else state if state in _UNSOUND else ""
    return f"{word}: {item.get('healthDescription') or 'the slice is not well'}" if word else None


def _why(item: dict[str, Any], state: str) -> tuple[str | None, Cause]:
    if _NODE_STATES.get(state, NodeState.PENDING) in (NodeState.PENDING, NodeState.RUNNING):
        return None, ""
    text = item.get("healthDescription") or f"the node is {state.lower()}"
    return f"{state}: {text}", "preemption" if state in _TAKEN_BACK else ""


def _why_queued(queued: dict[str, Any]) -> tuple[str | None, Cause]:
    """Where a queued resource stands, in its own words; and why it failed."""
    state = _queue_state(queued)
    if state == "FAILED":
        said = said_by_status(((queued["state"].get("failedData") or {}).get("error")) or {})
        return f"{said.code}: {said.message or 'the queued resource failed'}", cause_of(said)
    if state in ("SUSPENDING", "SUSPENDED") and queued["state"].get("stateInitiator") != "USER":
        return f"{state}: Google has taken the slice back", "preemption"
    words = {
        "WAITING_FOR_RESOURCES": "in the queue until there is capacity",
        "ACCEPTED": "in the queue",
        "CREATING": "being put into the queue",
        "PROVISIONING": "there is capacity, and the slice is being made",
    }
    return f"{state}: {words.get(state, 'the queued resource is ' + state.lower())}", ""


def resources(found: Found) -> list[Resource]:
    """The queued resources, which cost nothing by themselves, and every host of the nodes."""
    listed: list[Resource] = []
    for item in found.queued:
        name, region = last_of(item["name"]), region_of(zone_of(item))
        listed.append(Resource("gcp", "queued-resource", name, region, billable=False, tags=tags_of(labels_in(item))))
    for item in found.nodes:
        tags, region = tags_of(labels_in(item)), region_of(zone_of(item))
        listed += [
            Resource("gcp", "tpu-host", node.id, region, node.state in (NodeState.PENDING, NodeState.RUNNING), tags)
            for node in _hosts(item, None)
        ]
    return listed


def is_disabled(code: str | None) -> bool:
    """Whether an error says that the project has never used TPUs."""
    return code in _DISABLED
