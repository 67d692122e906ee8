"""The state of every machine of the inventory, for `multicompute hosts`."""

from dataclasses import replace

from multicompute.errors import InvalidRequestError
from multicompute.hosts import HostLease, HostNote, HostStatus
from multicompute.provider import TAG_CLUSTER, TAG_EXPIRES_AT, TAG_ID, TAG_OWNER
from multicompute_static._context import NAME, Context
from multicompute_static._inventory import Host
from multicompute_static._list import marked_lease
from multicompute_static._shell import Answer, Job


def statuses(context: Context, *, check: bool) -> tuple[HostStatus, ...]:
    """Return the state of all machines, as the ledger has it or, with `check`, as they are now."""
    answers: dict[str, Answer] = {}
    if check and context.hosts:
        with context.connect(context.hosts) as shell:
            jobs = [Job(host) for host in context.hosts]
            answers = {answer.host.id: answer for answer in shell.ask("check", jobs)}
        for host in context.hosts:
            _record(context, host, answers[host.id])
    leases = {lease.host: lease for lease in context.book.leases()}
    notes = context.book.notes()
    return tuple(
        _status(context, host, leases.get(host.id), notes.get(host.id), answers.get(host.id)) for host in context.hosts
    )


def _record(context: Context, host: Host, answer: Answer) -> None:
    """Bring the ledger in line with what a machine has answered."""
    known = next((lease for lease in context.book.leases() if lease.host == host.id), None)
    if answer.trouble:
        context.set_aside(host.id, answer.trouble)
    else:
        context.use_again(host.id)
    if answer.marker is not None and known is None:
        context.put(marked_lease(context, host, answer, None))
    if answer.is_known and answer.marker is None and known is not None and answer.ended == known.token:
        context.drop(known)


def _status(
    context: Context, host: Host, lease: HostLease | None, note: HostNote | None, answer: Answer | None
) -> HostStatus:
    status = HostStatus(
        id=host.id,
        address=host.address,
        port=host.port,
        user=host.user,
        region=host.site,
        instance_type=host.instance_type,
        hourly_cost=host.hourly_usd,
        labels=host.labels,
        is_checked=answer is not None,
        has_failed=answer is not None and bool(answer.trouble),
    )
    if note is not None and note.is_aside(context.clock.now()):
        status = replace(status, state="set aside", reason=note.reason, until=note.until)
    if lease is None:
        return status
    # A leased machine that fails the check stays leased: what is wrong with it is in the reason.
    return replace(
        status,
        state="leased",
        cluster=lease.tags.get(TAG_CLUSTER, ""),
        cluster_id=lease.tags.get(TAG_ID, ""),
        owner=lease.tags.get(TAG_OWNER, ""),
        expires_at=lease.tags.get(TAG_EXPIRES_AT, "never"),
    )


def forget(context: Context, host: str) -> None:
    """Delete what the ledger knows of a machine.

    Raises:
        InvalidRequestError: Neither the inventory nor the ledger has it.
    """
    if not context.book.forget(host) and host not in context.by_id():
        text = f"static: {host}: neither the inventory nor the ledger has such a machine"
        raise InvalidRequestError(text, provider=NAME, code="NoSuchHost", hint="`multicompute hosts` lists them")
