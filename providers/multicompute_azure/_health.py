"""Asks Resource Health which machines Azure itself finds unwell: one listing for a resource group, or for the subscription."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from multicompute.node import Node, NodeState
from multicompute_azure._errors import Place, needing
from multicompute_azure._names import parse_id
from multicompute_azure._session import HEALTH, Clients, within

STATUSES: Final = f"{HEALTH}/availabilityStatuses"
_RIGHT: Final = f"{STATUSES}/read"
# "Unknown" is left out: it says that nothing was heard for ten minutes ("Resource Health overview").
_UNWELL: Final = ("unavailable", "degraded")
# What somebody asked for, a restart say, is no failure ("Resource Health virtual machine Health Annotations"; the second is the word of
# `reasonType`).
_ON_PURPOSE: Final = ("customerinitiated", "userinitiated")


def with_health(clients: Clients, nodes: Sequence[Node], place: Place) -> list[Node]:
    """`nodes`, of which those that run and that Azure finds unwell are IMPAIRED, with the reason."""
    groups = {parse_id(node.id).group for node in nodes if node.state is NodeState.RUNNING}
    if not groups:
        return list(nodes)
    reasons = _reasons(clients, groups.pop() if len(groups) == 1 else None, place)
    return [
        replace(node, state=NodeState.IMPAIRED, reason=reasons[node.id.lower()])
        if node.state is NodeState.RUNNING and node.id.lower() in reasons
        else node
        for node in nodes
    ]


def _reasons(clients: Clients, group: str | None, place: Place) -> dict[str, str]:
    """Why each resource of a group, or of the subscription, is unwell, by its id in lower case."""
    with needing(_RIGHT):
        statuses = list(clients.pages("list the health of the resources", place, within(group, STATUSES)))
    found = {}
    for status in statuses:
        properties = status.get("properties") or {}
        state = str(properties.get("availabilityState") or "")
        if state.lower() in _UNWELL and not _is_on_purpose(properties):
            of = str(status["id"]).lower().partition(f"/providers/{HEALTH.lower()}/")[0]
            words = " ".join(str(properties.get("summary") or properties.get("title") or "").split())[:400]
            found[of] = f"{state}: {words}" if words else state
    return found


def _is_on_purpose(properties: Mapping[str, Any]) -> bool:
    said = (properties.get("context"), properties.get("reasonType"))
    return any(str(word or "").replace(" ", "").lower() in _ON_PURPOSE for word in said)
