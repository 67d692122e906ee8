"""Deletes machines and their disks, and what was made beside them; asks Google after the last delete."""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from google.api_core import exceptions as sdk

from multicompute.provider import Resource, Selector, Teardown
from multicompute_gcp._discover import disk_resource, disks, instance_resource, instances
from multicompute_gcp._errors import Place, said_in, translate_errors
from multicompute_gcp._fates import find, unproven
from multicompute_gcp._labels import last_of
from multicompute_gcp._network import beside
from multicompute_gcp._session import CALL, Clients

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Operation

# There is no call that deletes several machines, so they go side by side.
AT_ONCE: Final = 16
_GONE_SOON: Final = ("STOPPING", "DEPROVISIONING")
# Answers that mean "not yet"; the caller comes again.
_NOT_YET: Final = frozenset(
    {"resourceInUseByAnotherResource", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "resourceNotReady", "RESOURCE_NOT_READY"}
)


@dataclass(frozen=True, slots=True)
class Deletions:
    """What is there and has been asked to go; true while there is something."""

    remaining: tuple[Resource, ...] = ()
    operations: "tuple[Operation, ...]" = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.remaining)


def tear_down(clients: Clients, selector: Selector, place: Place) -> Teardown:
    """One step of the teardown of machines and their disks; see `Provider.terminate`."""
    deletions = delete_machines(clients, selector, place)
    if deletions:
        # Most deletions take a minute; where they are quicker, the next look at once finds nothing.
        left = delete_machines(clients, selector, place, ask=False)
        if left:
            return Teardown(left.remaining, f"{len(left.remaining)} machines and disks to be deleted")
    hidden = tuple(
        Resource("gcp", "instance", node_id, selector.region or "", billable=True)
        for node_id in _hidden(clients, selector, place)
    )
    if hidden:
        return Teardown(hidden, f"{len(hidden)} machines of which Google does not tell yet")
    return Teardown()


def delete_machines(
    clients: Clients, selector: Selector, place: Place, *, zones: Collection[str] = (), ask: bool = True
) -> Deletions:
    """Delete the selected machines, and the disks that no machine has.

    Args:
        clients, selector, place: what is meant, and where it is asked for.
        zones: the zones that are meant; empty for all.
        ask: False to list only.
    """
    machines = [item for item in instances(clients, selector, place) if not zones or last_of(item["zone"]) in zones]
    loose = [item for item in disks(clients, selector, place) if not zones or last_of(item["zone"]) in zones]
    remaining = [instance_resource(item) for item in machines] + [disk_resource(item) for item in loose]
    if not ask:
        return Deletions(tuple(remaining))
    calls: list[Callable[[], Operation | None]] = []
    for item in machines:
        if item.get("status") not in _GONE_SOON:
            calls.append(_deleting(clients, "instances", item, place))
    for item in loose:
        if not item.get("users") and item.get("status") != "DELETING":
            calls.append(_deleting(clients, "disks", item, place))
    return Deletions(tuple(remaining), tuple(run_all(calls)))


def run_all(calls: "Iterable[Callable[[], Operation | None]]") -> "list[Operation]":
    """Make the calls, some at a time; the first failure is raised when all have been made."""
    listed = list(calls)
    if not listed:
        return []
    if len(listed) == 1:
        answers = [listed[0]()]
    else:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="multicompute-gcp") as pool:
            answers = [task.result() for task in [pool.submit(call) for call in listed]]
    return [answer for answer in answers if answer is not None]


def _deleting(clients: Clients, kind: str, item: dict[str, Any], place: Place) -> "Callable[[], Operation | None]":
    name, zone = str(item["name"]), last_of(item["zone"])
    call = {"project": clients.project, "zone": zone}

    def delete() -> "Operation | None":
        if kind == "instances":
            return clients.instances().delete_unary(request={**call, "instance": name}, **CALL)
        return clients.disks().delete_unary(request={**call, "disk": name}, **CALL)

    return lambda: _unless_gone(delete, f"{kind}.delete", place)


def _unless_gone(delete: "Callable[[], Operation | None]", operation: str, place: Place) -> "Operation | None":
    """The deletion; None where there is nothing left to delete, or it can't be done yet."""
    with translate_errors(operation, place):
        try:
            return delete()
        except sdk.NotFound:
            return None
        except sdk.GoogleAPICallError as error:
            if said_in(error.response).code in _NOT_YET:
                return None
            raise


def _hidden(clients: Clients, selector: Selector, place: Place) -> list[str]:
    """Machines that are known from a launch and in no listing: deleted by name, and not taken for gone (I4)."""
    names = [node_id for node_id in selector.node_ids if "/" not in node_id]
    if not names or selector.region is None:
        return []
    doubtful = unproven(clients, names, selector, place)
    calls: list[Callable[[], Operation | None]] = []
    for name in doubtful:
        item = find(clients, name, place)
        if item is not None and item.get("status") not in _GONE_SOON:
            calls.append(_deleting(clients, "instances", item, place))
    run_all(calls)
    return doubtful


def delete_beside(clients: Clients, selector: Selector, place: Place) -> Teardown:
    """Delete what no machine uses any more; it belongs to the cluster, and stays when only an attempt is meant."""
    items = beside(clients, selector, place)
    if not items:
        return Teardown()
    for item in items:
        _unless_gone(_deletion(clients, item), f"{item.kind}.delete", place)
    remaining = tuple(beside(clients, selector, place))
    return Teardown(remaining, f"{len(remaining)} deletes" if remaining else "")


def _deletion(clients: Clients, item: Resource) -> "Callable[[], Operation]":
    project = clients.project
    if item.kind == "firewall":
        call = {"project": project, "firewall": item.id}
        return lambda: clients.firewalls().delete_unary(request=call, **CALL)
    named = {"project": project, "region": item.region, "resource_policy": item.id}
    return lambda: clients.policies().delete_unary(request=named, **CALL)
