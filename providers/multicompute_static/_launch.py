"""Leases machines for a gang: all or none, in the ledger first, checked, then marked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from multicompute.errors import AuthError, CapacityError, InvalidRequestError, MulticomputeError, TransientError
from multicompute.hosts import HostLease
from multicompute.node import Node, NodeState
from multicompute.offer import Offer
from multicompute.provider import TAG_CLUSTER, TAG_ID, LaunchRequest, Selector
from multicompute.units import counted
from multicompute_static._context import NAME, Context
from multicompute_static._inventory import Host
from multicompute_static._list import Found, address_of, find_leases, marked_lease, node_of
from multicompute_static._shell import Answer, Job, is_safe_token
from multicompute_static._terminate import end

_SHOWN = 2
_REASON_LENGTH = 90


def launch(context: Context, request: LaunchRequest) -> tuple[Node, ...]:
    """Lease machines for all parts, and return them; the same token again returns the same ones."""
    _refuse_impossible(request)
    return _Launch(context, request).run()


def _refuse_impossible(request: LaunchRequest) -> None:
    if not is_safe_token(request.token):
        text = f"static: token {request.token!r} is not usable"
        raise InvalidRequestError(text, provider=NAME, region=request.region, code="InvalidToken")
    if request.image is not None:
        raise InvalidRequestError(
            f"static: image={request.image!r}: own machines keep the system that they have",
            provider=NAME,
            region=request.region,
            code="NoImages",
            hint="name an image for the clouds only",
            scope="account",
        )
    if request.disk_gib is not None:
        request.warn("static: `disk` has no effect on own machines")


class _Launch:
    """One call of `launch`. Every step may be repeated by it or by another process: the ledger decides who has what."""

    def __init__(self, context: Context, request: LaunchRequest) -> None:
        self._context = context
        self._request = request
        self._failed: dict[str, str] = {}
        self._refused: set[str] = set()

    def run(self) -> tuple[Node, ...]:
        """Complete the leases, check the machines, mark them; begin again with others in place of those that fail."""
        while True:
            held = self._context.held(self._request.token)
            lacking = self._lacking(held)
            if lacking is not None:
                offer, count = lacking
                self._exchange(held, [*held, *self._choose(offer, count, held)])
            elif not all(lease.is_marked for lease in held):
                self._check(held)
            elif (nodes := self._mark(held)) is not None:
                return nodes

    def _exchange(self, before: Sequence[HostLease], after: Sequence[HostLease]) -> None:
        # If another process was faster, the next round begins with what it did.
        self._context.book.exchange(self._request.token, before, after)

    def _lacking(self, held: Sequence[HostLease]) -> tuple[Offer, int] | None:
        """Return an offer of which machines are missing, and how many; None if the gang is complete."""
        wanted: Counter[tuple[str, str]] = Counter()
        for part in self._request.parts:
            wanted[part.offer.region, part.offer.instance_type] += part.nodes
        wanted.subtract((lease.region, lease.instance_type) for lease in held)
        for part in self._request.parts:
            count = wanted[part.offer.region, part.offer.instance_type]
            if count > 0:
                return part.offer, count
        return None

    def _choose(self, offer: Offer, count: int, held: Sequence[HostLease]) -> list[HostLease]:
        """Return leases of free machines.

        Raises:
            MulticomputeError: Too few are free; the leases of this launch have ended.
        """
        fitting = [
            host
            for host in self._context.hosts
            if (host.site, host.instance_type) == (offer.region, offer.instance_type)
        ]
        free = self._free(fitting)
        if len(free) < count and self._free_expired(fitting):
            free = self._free(fitting)
        if len(free) < count:
            self._give_up(offer, fitting, free, held)
        now = self._context.clock.now()
        return [
            HostLease(host.id, host.site, host.instance_type, self._request.token, dict(self._request.tags), now)
            for host in free[:count]
        ]

    def _free(self, fitting: Sequence[Host]) -> list[Host]:
        now, notes = self._context.clock.now(), self._context.book.notes()
        leased = {lease.host for lease in self._context.book.leases()}
        return [
            host
            for host in fitting
            if host.id not in leased
            and host.id not in self._failed
            and not (host.id in notes and notes[host.id].is_aside(now))
        ]

    def _free_expired(self, fitting: Sequence[Host]) -> bool:
        """Delete leases that machines have ended because they were over, and that no process has torn down; return whether any."""
        ids = {host.id for host in fitting}
        over = [lease for lease in self._context.book.leases() if lease.host in ids and self._context.is_over(lease)]
        for lease in over:
            for found in find_leases(self._context, _selector_of(lease)):
                if found.state is NodeState.RUNNING and found.host is not None:
                    end(self._context, [(found.host, found.lease)])
        return bool(over)

    def _check(self, held: Sequence[HostLease]) -> None:
        """Check the machines that are not marked yet; record the intent to mark them if all pass, else give up those that fail."""
        by_id = self._context.by_id()
        new = [lease for lease in held if not lease.is_marked]
        hosts = [by_id[lease.host] for lease in new if lease.host in by_id]
        with self._context.connect(hosts) as shell:
            answers = {answer.host.id: answer for answer in shell.ask("check", [Job(host) for host in hosts])}
        bad = {lease.host for lease in new if not self._passes(lease.host, answers.get(lease.host))}
        if bad:
            self._exchange(held, [lease for lease in held if lease.host not in bad])
            self._record_strangers(bad, answers)
            return
        marked = [
            replace(lease, is_marked=True, address=address_of(by_id[lease.host], answers[lease.host]))
            if lease in new
            else lease
            for lease in held
        ]
        self._exchange(held, marked)

    def _passes(self, host: str, answer: Answer | None) -> bool:
        """Return whether a machine may be used; if not, remember why, and set it aside unless another cluster uses it."""
        if answer is None:
            self._failed[host] = "is no longer in the inventory"
            return False
        if answer.marker is not None and answer.marker.token != self._request.token:
            cluster = answer.marker.tags.get(TAG_CLUSTER, "another cluster")
            self._failed[host] = f"leased to {cluster} by another ledger or under another address"
            return False
        if answer.trouble or not answer.is_known:
            self._failed[host] = answer.trouble
            self._refused |= {host} if answer.is_refused else set()
            self._context.set_aside(host, answer.trouble)
            return False
        self._context.use_again(host)
        return True

    def _record_strangers(self, bad: set[str], answers: dict[str, Answer]) -> None:
        """Record the leases of other ledgers that machines carry, so that the next launch does not try them."""
        for host in bad:
            answer = answers.get(host)
            if answer is not None and answer.marker is not None and answer.marker.tags.get(TAG_ID):
                self._context.put(marked_lease(self._context, answer.host, answer, None))

    def _mark(self, held: Sequence[HostLease]) -> tuple[Node, ...] | None:
        """Mark all machines, and return the nodes; None if some could not be marked and were given up.

        Raises:
            TransientError: A machine did not answer, so it may carry the marker.
        """
        by_id = self._context.by_id()
        here = [lease for lease in held if lease.host in by_id]
        with self._context.connect([by_id[lease.host] for lease in here]) as shell:
            answers = shell.ask("take", [Job(by_id[lease.host], lease, self._request.setup) for lease in here])
        bad: set[str] = set()
        for answer in answers:
            if not answer.is_known:
                raise TransientError(
                    f"static {self._request.region}: {answer.host.id}: {answer.trouble}",
                    provider=NAME,
                    region=self._request.region,
                    code="NoAnswer",
                )
            if answer.marker is None or answer.marker.token != self._request.token:
                self._passes(answer.host.id, answer if answer.trouble or answer.marker else None)
                bad.add(answer.host.id)
        if bad:
            self._exchange(held, [lease for lease in held if lease.host not in bad])
            return None
        order = {host: index for index, host in enumerate(by_id)}
        ranked = sorted(here, key=lambda lease: order[lease.host])
        return tuple(node_of(Found(lease, by_id[lease.host], NodeState.RUNNING)) for lease in ranked)

    def _give_up(
        self, offer: Offer, fitting: Sequence[Host], free: Sequence[Host], held: Sequence[HostLease]
    ) -> NoReturn:
        """End all leases of the launch, and raise the error that tells why it failed.

        Raises:
            TransientError: A lease could not be ended.
        """
        by_id = self._context.by_id()
        marked = [(by_id[lease.host], lease) for lease in held if lease.is_marked and lease.host in by_id]
        kept = end(self._context, marked)
        if kept:
            text = "; ".join(f"{host}: {why}" for host, why in kept.items())
            raise TransientError(f"static {offer.region}: not rolled back: {text}", provider=NAME, region=offer.region)
        self._exchange(self._context.held(self._request.token), [])
        raise self._error(offer, fitting, len(free))

    def _error(self, offer: Offer, fitting: Sequence[Host], free: int) -> MulticomputeError:
        what = f"static {offer.region} {offer.instance_type}"
        reasons = self._reasons(fitting)
        text = f"{what}: {free} of {counted(len(fitting), 'machine')} can be leased"
        text += f": {'; '.join(reasons[:_SHOWN])}" if reasons else ""
        text += f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        error: type[MulticomputeError] = CapacityError
        code = "TooFewHosts" if fitting else "NoSuchHost"
        if self._refused and self._refused == self._failed.keys():
            error, code = AuthError, "LoginRefused"
        return error(
            text if fitting else f"{what}: the inventory has no such machine",
            provider=NAME,
            region=offer.region,
            zone=offer.zone or None,
            instance_type=offer.instance_type,
            code=code,
            hint="`multicompute hosts` lists them",
            is_offered=bool(fitting),
            # One may be free again in a second.
            is_remembered=False,
        )

    def _reasons(self, fitting: Sequence[Host]) -> list[str]:
        """Return why machines can't be leased, those that failed just now first."""
        now, notes = self._context.clock.now(), self._context.book.notes()
        leases = {lease.host: lease for lease in self._context.book.leases()}
        reasons = {host.id: self._failed[host.id] for host in fitting if host.id in self._failed}
        for host in fitting:
            if host.id in leases and host.id not in reasons:
                reasons[host.id] = f"leased to {leases[host.id].tags.get(TAG_CLUSTER, 'another cluster')}"
            elif host.id in notes and notes[host.id].is_aside(now):
                reasons.setdefault(host.id, f"set aside: {notes[host.id].reason}")
        return [f"{host} {why}"[:_REASON_LENGTH] for host, why in reasons.items()]


def _selector_of(lease: HostLease) -> Selector:
    return Selector(region=lease.region, token=lease.token, only=(lease.host,))
