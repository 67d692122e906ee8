"""Ends leases: what the cluster started on the machines, then its scratch folders and markers, then the records."""

from collections.abc import Sequence

from multicompute.hosts import HostLease
from multicompute.node import NodeState
from multicompute.provider import Selector, Teardown
from multicompute.provider_kit.seam import require_selection
from multicompute_static._context import NAME, Context
from multicompute_static._inventory import Host
from multicompute_static._list import Found, find_leases, resource_of
from multicompute_static._shell import Job

_SHOWN = 3


def terminate(context: Context, selector: Selector) -> Teardown:
    """End the selected leases on every machine that answers; those of the others remain, with the reason."""
    require_selection(selector, provider=NAME)
    found = [each for each in find_leases(context, selector) if each.state is not NodeState.GONE]
    for each in found:
        if not each.lease.is_marked:
            # Nothing of it is on the machine.
            context.drop(each.lease)
    marked = [each for each in found if each.lease.is_marked]
    kept: dict[str, str] = {}
    for each in marked:
        if not each.is_answered and context.is_over(each.lease):
            # The machine ended it by itself, or is off, and nothing runs there.
            context.drop(each.lease)
        elif not each.is_answered:
            kept[each.lease.host] = _why(each)
    answered = [(each.host, each.lease) for each in marked if each.is_answered and each.host is not None]
    kept |= end(context, answered)
    remaining = tuple(resource_of(each.lease) for each in marked if each.lease.host in kept)
    reasons = "; ".join(f"{host}: {why}" for host, why in list(kept.items())[:_SHOWN])
    more = f"; and {len(kept) - _SHOWN} more" if len(kept) > _SHOWN else ""
    return Teardown(remaining, f"{len(kept)} machines" if kept else "", f"{reasons}{more}" if kept else "")


def _why(found: Found) -> str:
    reason = found.reason.partition(": ")[2]
    return f"{reason}; if it is gone for good, `multicompute hosts --forget {found.lease.host}` drops its lease"


def end(context: Context, leases: Sequence[tuple[Host, HostLease]]) -> dict[str, str]:
    """End leases on machines, and delete those that have ended from the ledger.

    Returns:
        The id of each machine that did not end its lease -> why.
    """
    if not leases:
        return {}
    kept: dict[str, str] = {}
    lease_of = {host.id: lease for host, lease in leases}
    with context.connect([host for host, _ in leases]) as shell:
        answers = shell.ask("end", [Job(host, lease) for host, lease in leases])
    for answer in answers:
        lease = lease_of[answer.host.id]
        if answer.left:
            kept[answer.host.id] = f"processes {answer.left} can't be ended by the user who logs in there"
        elif not answer.is_known or (answer.marker is not None and answer.marker.token == lease.token):
            kept[answer.host.id] = answer.trouble or "the marker could not be removed"
        else:
            _drop_any(context, lease)
    return kept


def _drop_any(context: Context, lease: HostLease) -> None:
    """Delete the record of a lease, with whatever tags and address it has."""
    for known in context.held(lease.token):
        if known.host == lease.host:
            context.drop(known)
