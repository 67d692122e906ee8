"""Reads which instances Azure itself finds unhealthy, by one listing of Resource Health for a group or for the subscription."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from multicompute.node import Node, NodeState
from multicompute.provider_kit.seam import mark_impaired
from multicompute.provider_kit.vendor_errors import Place, one_line
from multicompute_azure._errors import requiring
from multicompute_azure._names import arm_id, parse_id
from multicompute_azure._session import HEALTH, Clients, path_of

STATUSES: Final = f"{HEALTH}/availabilityStatuses"
# Not "Unknown": it means that no data arrived for ten minutes ("Resource Health overview").
_UNHEALTHY: Final = ("unavailable", "degraded")
# What a customer initiated, for example a restart, is not a failure ("Resource Health virtual machine Health Annotations"). The first is a
# value of `context`, the second one of `reasonType`.
_INITIATED: Final = ("customerinitiated", "userinitiated")
_REASON_LENGTH: Final = 400


def with_health(clients: Clients, nodes: Sequence[Node], place: Place) -> list[Node]:
    """Return `nodes`, with those that run and that Azure finds unhealthy marked as IMPAIRED."""
    running = {arm_id(node.id).lower(): node.id for node in nodes if node.state is NodeState.RUNNING}
    groups = {parse_id(node_id).group for node_id in running.values()}
    if not groups:
        return list(nodes)
    reasons = _reasons(clients, groups.pop() if len(groups) == 1 else None, place)
    return mark_impaired(nodes, {running[key]: reason for key, reason in reasons.items() if key in running})


def _reasons(clients: Clients, group: str | None, place: Place) -> dict[str, str]:
    """Return why each unhealthy resource of a group, or of the subscription, is so, by its id in lower case."""
    found = {}
    with requiring(f"{STATUSES}/read"):
        for status in clients.list_all("availabilityStatuses.list", place, path_of(group, STATUSES)):
            properties = status.get("properties") or {}
            state = str(properties.get("availabilityState") or "")
            if state.lower() in _UNHEALTHY and not _is_initiated(properties):
                owner = str(status["id"]).lower().partition(f"/providers/{HEALTH.lower()}/")[0]
                summary = one_line(str(properties.get("summary") or properties.get("title") or ""), _REASON_LENGTH)
                found[owner] = f"{state}: {summary}" if summary else state
    return found


def _is_initiated(properties: Mapping[str, Any]) -> bool:
    values = (properties.get("context"), properties.get("reasonType"))
    return any(str(value or "").replace(" ", "").lower() in _INITIATED for value in values)
