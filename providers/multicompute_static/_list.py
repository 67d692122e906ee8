"""Finds leases: by the ledger, and by the markers on the machines, which hold if the ledger is lost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from multicompute.hosts import HostLease
from multicompute.node import Node, NodeState
from multicompute.provider import Resource, Selector
from multicompute_static._context import NAME, Context, selects
from multicompute_static._inventory import Host
from multicompute_static._shell import Answer, Job

_EXPIRED = "Expired: its lease was over, and it ended the work"
_TAKEN = "Released: it has the marker of another lease"


@dataclass(frozen=True, slots=True)
class Found:
    """A lease as its machine shows it.

    Attributes:
        host: The machine; None if the inventory does not have it.
        is_answered: Whether the machine answered.
        is_tagged: Whether it carries the marker.
        reason: Why it does not run, or what is wrong; "" for nothing.
    """

    lease: HostLease
    host: Host | None
    state: NodeState
    is_answered: bool = True
    is_tagged: bool = True
    reason: str = ""


def find_leases(context: Context, selector: Selector, *, scans: bool = False) -> list[Found]:
    """Return the selected leases, in the order of the inventory.

    Only machines are asked that have one of them by the ledger. If the ledger knows of none, all machines are asked: they carry
    markers.

    Args:
        context: The inventory and the records.
        selector: What to find.
        scans: Whether to ask all machines in any case.
    """
    by_host = {lease.host: lease for lease in context.book.leases()}
    matching = {lease.host for lease in by_host.values() if selects(selector, lease)}
    asked = _to_ask(context, selector, matching, leased=by_host, scans=scans)
    answers = context.look(asked)
    found: list[Found] = []
    for host in asked:
        found += _compare(context, host, answers[host.id], by_host.get(host.id))
    known = {host.id for host in asked}
    missing = [by_host[name] for name in sorted(matching - known)]
    text = f"NotInInventory: {context.settings.path} does not list it"
    found += [Found(lease, None, NodeState.IMPAIRED, is_answered=False, reason=text) for lease in missing]
    chosen = [each for each in found if selects(selector, each.lease)]
    return _with_health(context, chosen) if selector.with_health else chosen


def _to_ask(
    context: Context, selector: Selector, matching: set[str], *, leased: Iterable[str], scans: bool
) -> list[Host]:
    here = [host for host in context.hosts if selector.region in (None, host.site)]
    if selector.only:
        return [host for host in here if host.id in selector.only]
    named = {*matching, *selector.known_ids, *selector.node_ids}
    if matching and not scans:
        return [host for host in here if host.id in named]
    if scans:
        return here
    # One that did not answer a moment ago has no lease that the ledger knows of, and would hold up every listing.
    now, notes, used = context.clock.now(), context.book.notes(), {*leased, *named}
    return [host for host in here if host.id in used or host.id not in notes or not notes[host.id].is_aside(now)]


def _compare(context: Context, host: Host, answer: Answer, known: HostLease | None) -> list[Found]:
    """Return the lease of a machine by its marker and by the ledger, and bring the ledger in line."""
    if not answer.is_known:
        if known is None:
            return []
        state = NodeState.IMPAIRED if known.is_marked else NodeState.PENDING
        return [Found(known, host, state, is_answered=False, reason=f"Unreachable: {answer.trouble}")]
    if answer.marker is None:
        return [] if known is None else [_without_marker(context, host, answer, known)]
    marked = marked_lease(context, host, answer, known)
    if known is None:
        context.put(marked)
    if known is None or known.token == marked.token or not known.is_marked:
        return [Found(marked, host, NodeState.RUNNING, is_tagged=bool(answer.marker.tags))]
    # Its own lease ended without us, and another one began.
    context.drop(known)
    context.put(marked)
    return [Found(known, host, NodeState.GONE, reason=_TAKEN), Found(marked, host, NodeState.RUNNING)]


def marked_lease(context: Context, host: Host, answer: Answer, known: HostLease | None) -> HostLease:
    """Return the lease that the marker of a machine describes."""
    marker = answer.marker
    assert marker is not None
    same = known if known is not None and known.token == marker.token else None
    return HostLease(
        host=host.id,
        region=host.site,
        instance_type=host.instance_type,
        token=marker.token,
        tags=marker.tags or (same.tags if same else {}),
        taken_at=same.taken_at if same else context.clock.now(),
        address=address_of(host, answer),
        is_marked=True,
    )


def address_of(host: Host, answer: Answer) -> str:
    """Return the address at which the other machines reach one: the user's, else the one that it has itself."""
    return host.private_address or answer.address or host.address


def _without_marker(context: Context, host: Host, answer: Answer, known: HostLease) -> Found:
    if not known.is_marked:
        return Found(known, host, NodeState.PENDING, is_tagged=False)
    if answer.ended == known.token or context.is_over(known):
        context.drop(known)
        return Found(known, host, NodeState.GONE, is_tagged=False, reason=_EXPIRED)
    # Somebody removed the marker. What the cluster started there may still run.
    return Found(known, host, NodeState.RUNNING, is_tagged=False)


def _with_health(context: Context, found: Sequence[Found]) -> list[Found]:
    running = [each for each in found if each.state is NodeState.RUNNING and each.host is not None]
    hosts = [each.host for each in running if each.host is not None and each.host.accelerator]
    if not hosts:
        return list(found)
    with context.connect(hosts) as shell:
        answers = {answer.host.id: answer for answer in shell.ask("health", [Job(host) for host in hosts])}

    def checked(each: Found) -> Found:
        answer = answers.get(each.lease.host)
        if answer is None or not answer.trouble or each not in running:
            return each
        return replace(each, state=NodeState.IMPAIRED, reason=f"Unhealthy: {answer.trouble}")

    return [checked(each) for each in found]


def node_of(found: Found) -> Node:
    """Return a lease as a node."""
    lease = found.lease
    return Node(
        id=lease.host,
        rank=-1,
        provider=NAME,
        instance_type=lease.instance_type,
        region=lease.region,
        zone=lease.region,
        state=found.state,
        private_ip=lease.address or None,
        accelerators=float(found.host.accelerators) if found.host else 0.0,
        token=lease.token,
        is_tagged=found.is_tagged,
        reason=found.reason or None,
    )


def resource_of(lease: HostLease) -> Resource:
    """Return a lease as a resource."""
    return Resource(NAME, "host", lease.host, lease.region, billable=True, tags=lease.tags)
