"""Lists our TPU slices: queued resources and nodes, over all zones; each host of a slice is a node of a cluster."""

from dataclasses import dataclass, replace
from typing import Any, Final

from multicompute.node import Cause, Node, NodeState
from multicompute.provider import TAG_ATTEMPT, Resource, Selector
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._errors import answer_of_status, cause_of
from multicompute_gcp._health import slice_fault
from multicompute_gcp._names import last_segment, region_of, slice_of, token_of
from multicompute_gcp._session import Clients
from multicompute_gcp._tags import is_selected, tags_of
from multicompute_gcp.tpu._types import hosts_of

EXACT_TAGS: Final = "multicompute-tags"
"""The key of the metadata with the exact tags: the description of a TPU node may have 512 characters only."""
# https://cloud.google.com/tpu/docs/reference/rest/v2/projects.locations.nodes#State. Only a slice with one host can be stopped and started
# (nodes.stop in the discovery document of tpu.v2). A slice that was preempted or TERMINATED ("due to maintenance") does not come back.
_STATES: Final = {
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
    "UNHIDING": NodeState.PENDING,
}
# The states of a queued resource in which its nodes do not run, whatever they themselves report.
_QUEUE_STATES: Final = {
    "SUSPENDING": NodeState.STOPPING,
    "SUSPENDED": NodeState.STOPPED,
    "DELETING": NodeState.STOPPING,
    "FAILED": NodeState.GONE,
}
_QUEUE_REASONS: Final = {
    "WAITING_FOR_RESOURCES": "in the queue until there is capacity",
    "ACCEPTED": "in the queue",
    "CREATING": "being added to the queue",
    "PROVISIONING": "there is capacity, and the slice is being created",
}
_PREEMPTED: Final = ("PREEMPTED", "TERMINATED", "SUSPENDING", "SUSPENDED")
# The largest page of the TPU API.
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """Our queued resources and TPU nodes, as Google describes them."""

    queued: tuple[dict[str, Any], ...] = ()
    nodes: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class _Status:
    """The state of the hosts of a slice, and why they are in it."""

    state: NodeState
    reason: str | None = None
    cause: Cause = ""


def nodes(clients: Clients, selector: Selector, place: Place) -> list[Node]:
    """Return every host of the selected slices, in the order of the slices and of their workers."""
    found = find(clients, selector, place)
    untagged = {(zone_of(item), last_segment(item["name"])) for item in found.nodes if not has_tags(item, selector)}

    def checked(node: Node) -> Node:
        name = slice_of(node.id)
        if (node.zone, name) not in untagged:
            return node
        return replace(node, is_tagged=False, token=token_of(name, selector.tokens))

    return [checked(node) for node in hosts_in(found, with_health=selector.with_health)]


def find(clients: Clients, selector: Selector, place: Place) -> Found:
    """Return what is selected, by label or by name; the listings of the TPU API have no filter, so everything of the project is read."""

    def here(kind: str) -> list[dict[str, Any]]:
        pages = clients.pages(clients.tpu_url(clients.tpu_name("-", kind)), f"{kind}.list", place, pageSize=_PAGE)
        items = [item for page in pages for item in page.get(kind, ())]
        return sorted((item for item in items if _is_here(item, selector)), key=lambda item: str(item["name"]))

    if selector.only:
        only = {slice_of(node_id) for node_id in selector.only}
        queued = [item for item in here("queuedResources") if only.issuperset(_requested_names(item))]
        return Found(tuple(queued), tuple(item for item in here("nodes") if last_segment(item["name"]) in only))
    known = {slice_of(node_id) for node_id in selector.known_ids} - {""}
    queued = [
        item
        for item in here("queuedResources")
        if has_tags(item, selector) or _is_known(item, selector) or not known.isdisjoint(_requested_names(item))
    ]
    # The labels of a node can be removed, but not those of the queued resource that has created it.
    owners = {str(item["name"]) for item in queued}
    nodes = [
        item
        for item in here("nodes")
        if has_tags(item, selector)
        or _is_known(item, selector)
        or last_segment(item["name"]) in known
        or str(item.get("queuedResource") or "") in owners
    ]
    return Found(tuple(queued), tuple(nodes))


def _is_here(item: dict[str, Any], selector: Selector) -> bool:
    return selector.region in (None, region_of(zone_of(item)))


def has_tags(item: dict[str, Any], selector: Selector) -> bool:
    """Return whether the labels of a node or queued resource select it; otherwise it was found by its name."""
    return is_selected(labels_in(item), _exact_tags(item), selector)


def _is_known(item: dict[str, Any], selector: Selector) -> bool:
    """Return whether the name of a node or queued resource was made from one of the tokens."""
    return bool(token_of(last_segment(item["name"]), selector.tokens))


def zone_of(item: dict[str, Any]) -> str:
    """Return the zone in a name like projects/P/locations/ZONE/nodes/NAME."""
    parts = str(item["name"]).split("/")
    return parts[3] if len(parts) > 3 else ""


def labels_in(item: dict[str, Any]) -> dict[str, str]:
    """Return the labels of a node, or of the nodes that a queued resource requests, because it has none of its own."""
    return dict(_node_in(item).get("labels") or {})


def _node_in(item: dict[str, Any]) -> dict[str, Any]:
    specs = (item.get("tpu") or {}).get("nodeSpec")
    return (specs[0].get("node") or {}) if specs else item


def _exact_tags(item: dict[str, Any]) -> str | None:
    return (_node_in(item).get("metadata") or {}).get(EXACT_TAGS)


def _tags(item: dict[str, Any]) -> dict[str, str]:
    return tags_of(labels_in(item), _exact_tags(item))


def _requested_names(queued: dict[str, Any]) -> list[str]:
    """Return the names of the nodes that a queued resource requests, in order."""
    names: list[str] = []
    for spec in (queued.get("tpu") or {}).get("nodeSpec", ()):
        if several := spec.get("multisliceParams"):
            prefix = several.get("nodeIdPrefix") or last_segment(queued["name"])
            names += [f"{prefix}-{number}" for number in range(int(several.get("nodeCount", 0)))]
        else:
            names.append(str(spec.get("nodeId") or last_segment(queued["name"])))
    return names


def hosts_in(found: Found, *, with_health: bool = False) -> list[Node]:
    """Return every host of the slices in `found`; with `with_health`, the hosts of a slice with a fault are IMPAIRED."""
    by_place = {(zone_of(item), last_segment(item["name"])): item for item in found.nodes}
    hosts: list[Node] = []
    for queued in found.queued:
        for name in _requested_names(queued):
            item = by_place.pop((zone_of(queued), name), None)
            hosts += _hosts(item, queued, with_health=with_health) if item is not None else _absent(queued, name)
    for item in by_place.values():
        hosts += _hosts(item, None, with_health=with_health)
    return hosts


def _hosts(item: dict[str, Any], queued: dict[str, Any] | None, *, with_health: bool = False) -> list[Node]:
    """Return the hosts of a node that exists."""
    status = _status(item)
    if with_health and (fault := slice_fault(item)):
        status = _Status(NodeState.IMPAIRED, fault, status.cause)
    is_up = status.state in (NodeState.RUNNING, NodeState.IMPAIRED)
    if queued is not None and is_up and _queue_state(queued) in _QUEUE_STATES:
        status = _queue_status(queued)
    endpoints = item.get("networkEndpoints") or []
    hosts: list[Node] = []
    for worker in range(hosts_of(str(item.get("acceleratorType", "")), endpoints=len(endpoints))):
        endpoint = endpoints[worker] if worker < len(endpoints) else {}
        # A host without an address can't be used yet.
        is_pending = status.state is NodeState.RUNNING and not endpoint
        hosts.append(_host(item, worker, replace(status, state=NodeState.PENDING) if is_pending else status, endpoint))
    return hosts


def _absent(queued: dict[str, Any], name: str) -> list[Node]:
    """Return the hosts of a node that does not exist: still in the queue, or gone again."""
    spec = queued["tpu"]["nodeSpec"][0]["node"]
    item = {**spec, "name": f"{str(queued['name']).partition('/queuedResources/')[0]}/nodes/{name}"}
    status = _queue_status(queued)
    if _queue_state(queued) == "ACTIVE":
        # It was created and has been lost since.
        status = _Status(NodeState.GONE, "PREEMPTED: the node is gone", "preemption" if "spot" in queued else "")
    return [_host(item, worker, status, {}) for worker in range(hosts_of(str(spec.get("acceleratorType", ""))))]


def _host(item: dict[str, Any], worker: int, status: _Status, endpoint: dict[str, Any]) -> Node:
    zone = zone_of(item)
    return Node(
        id=f"{last_segment(item['name'])}/{worker}",
        rank=-1,
        provider="gcp",
        instance_type=str(item.get("acceleratorType", "")),
        region=region_of(zone),
        zone=zone,
        state=status.state,
        private_ip=endpoint.get("ipAddress") or None,
        public_ip=(endpoint.get("accessConfig") or {}).get("externalIp") or None,
        token=_tags(item).get(TAG_ATTEMPT, ""),
        reason=status.reason,
        cause=status.cause,
        is_spot=bool((item.get("schedulingConfig") or {}).get("spot")),
    )


def _status(item: dict[str, Any]) -> _Status:
    """Return the status of the hosts of a node by the node itself."""
    code = str(item.get("state", "STATE_UNSPECIFIED"))
    state = _STATES.get(code, NodeState.PENDING)
    if state in (NodeState.PENDING, NodeState.RUNNING):
        return _Status(state)
    text = item.get("healthDescription") or f"the node is {code.lower()}"
    return _Status(state, f"{code}: {text}", "preemption" if code in _PREEMPTED else "")


def _queue_state(queued: dict[str, Any]) -> str:
    return str((queued.get("state") or {}).get("state", ""))


def _queue_status(queued: dict[str, Any]) -> _Status:
    """Return the status of the hosts that a queued resource requests, by the queued resource."""
    code = _queue_state(queued)
    state = _QUEUE_STATES.get(code, NodeState.PENDING)
    if code == "FAILED":
        answer = answer_of_status((queued["state"].get("failedData") or {}).get("error") or {})
        reason = f"{answer.code}: {answer.message or 'the queued resource failed'}"
        return _Status(state, reason, cause_of(answer))
    if code in ("SUSPENDING", "SUSPENDED") and queued["state"].get("stateInitiator") != "USER":
        return _Status(state, f"{code}: Google has preempted the slice", "preemption")
    if code == "SUSPENDED":
        # "The resources specified in the QueuedResource request have been deleted" (QueuedResourceState.State of tpu.v2).
        state = NodeState.GONE
    return _Status(state, f"{code}: {_QUEUE_REASONS.get(code, f'the queued resource is {code.lower()}')}")


def resources(clients: Clients, selector: Selector, place: Place) -> list[Resource]:
    """Return the selected queued resources, and every host of the selected nodes."""
    return resources_in(find(clients, selector, place))


def resources_in(found: Found) -> list[Resource]:
    """Return what was found as resources; a queued resource is not billed, but its nodes are."""
    listed = [_resource("queued-resource", last_segment(item["name"]), item) for item in found.queued]
    billed = (NodeState.PENDING, NodeState.RUNNING)
    for item in found.nodes:
        listed += [_resource("tpu-host", node.id, item, billable=node.state in billed) for node in _hosts(item, None)]
    return listed


def _resource(kind: str, resource_id: str, item: dict[str, Any], *, billable: bool = False) -> Resource:
    return Resource("gcp", kind, resource_id, region_of(zone_of(item)), billable, _tags(item))
