"""Launches one attempt: the intent is in the ledger before the cloud is called (I1), and the call can be repeated (I5)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from multicompute.accelerators import find
from multicompute.engine.operation.operation import Operation
from multicompute.engine.operation.regions import by_region_of
from multicompute.engine.operation.tags import tags_of
from multicompute.engine.provision.description import describe, event_data, zone_or_region
from multicompute.engine.provision.lifetime import earliest, earliest_end
from multicompute.engine.provision.records import node_records
from multicompute.engine.provision.rollback import close_attempt
from multicompute.errors import (
    AccessDeniedError,
    AuthError,
    CapacityError,
    InvalidRequestError,
    MulticomputeError,
    QuotaError,
    TransientError,
)
from multicompute.ledger import AttemptRecord, AttemptState
from multicompute.node import Node
from multicompute.offer import InstanceType, Part
from multicompute.plan import Candidate
from multicompute.provider import Capability, LaunchRequest, Provider
from multicompute.remote.places import public_key_of
from multicompute.spec import ClusterSpec
from multicompute.units import counted, format_usd

_FRESH: Final = timedelta(seconds=20)
"""A call this soon after its attempt was opened need not check the ledger again: a lease lasts longer."""
_REFUSALS = (CapacityError, QuotaError, InvalidRequestError, AuthError, AccessDeniedError)
"""Errors after which, by the contract of `Provider.launch`, the token has no node and will never have one."""


def parts_by_region(parts: Sequence[Part]) -> list[tuple[Part, ...]]:
    """Return the parts of a candidate as they are launched: one attempt for each provider and region."""
    return [tuple(group) for group in by_region_of(parts, lambda part: part.offer).values()]


def open_attempt(
    op: Operation, parts: tuple[Part, ...], *, is_repair: bool = False, **changes: object
) -> AttemptRecord:
    """Record the intent to launch these parts, which are all of one region (I1), and change fields of the cluster with it.

    Raises:
        TerminationRequested: Another process requested the termination of the cluster.
        LeaseLost: Another process took the cluster over.
    """
    attempt = AttemptRecord(
        token=f"mc-{op.session.random.getrandbits(96):024x}",
        cluster_id=op.cluster_id,
        number=op.ledger.count_attempts(op.cluster_id) + 1,
        state=AttemptState.OPEN,
        parts=parts,
        opened_at=op.clock.now(),
        account=op.account_of(parts[0].offer.provider),
    )
    price = f"{format_usd(Candidate(parts).hourly_cost)}/h"
    event = op.events.event("attempt", f"trying {describe(attempt)} at {price}", **event_data(attempt))
    if not op.ledger.open_attempt(attempt, event, is_repair=is_repair, holder=op.lease.holder, **changes):
        raise op.conflict_error()
    op.events.notify(event)
    return attempt


def launch(op: Operation, attempt: AttemptRecord, *, is_repeated: bool) -> None:
    """Launch an attempt and record its nodes. Any process may call this again for the same attempt (I5).

    Set `is_repeated` if an earlier call may have launched it already.

    Raises:
        MulticomputeError: The cloud refused, and the attempt is closed; or the outcome is unknown, and the attempt was
            closed after no node had appeared until the end of the consistency window.
    """
    call = _LaunchCall(op, attempt, is_repeated=is_repeated)
    try:
        nodes = op.call(call.provider, f"launch in {zone_or_region(attempt)}", call)
    except _REFUSALS as error:
        if call.is_in_doubt and isinstance(error, (AuthError, AccessDeniedError)):
            # This call was refused access, which shows nothing about an earlier one whose answer was lost: the attempt stays open.
            raise
        close_attempt(op, attempt, error)
        raise
    except MulticomputeError as error:
        nodes = _wait_for_nodes(op, call.provider, attempt)
        if not nodes:
            close_attempt(op, attempt, error)
            raise
    _record_launch(op, call.provider, attempt, nodes)


class _LaunchCall:
    """The call of `Provider.launch` for an attempt, which may be made several times.

    Attributes:
        is_in_doubt: Whether an earlier call may have launched nodes that are not recorded.
    """

    def __init__(self, op: Operation, attempt: AttemptRecord, *, is_repeated: bool) -> None:
        self.provider = op.provider(attempt.provider)
        self.is_in_doubt = is_repeated
        self._op = op
        self._attempt = attempt
        self._request = launch_request(op, attempt)
        self._is_first = not is_repeated

    def __call__(self) -> tuple[Node, ...]:
        now = self._op.clock.now()
        if not self._is_first or now >= self._attempt.opened_at + _FRESH:
            # The call may launch something from now on (I4), and no other process may have the cluster now (I7).
            self._op.renew_lease()
            if not self._op.ledger.reopen_attempt(self._attempt, at=now, holder=self._op.lease.holder):
                raise self._op.conflict_error()
        self._is_first = False
        try:
            return self.provider.launch(self._request)
        except TransientError:
            self.is_in_doubt = True
            raise


def _record_launch(op: Operation, provider: Provider, attempt: AttemptRecord, nodes: Sequence[Node]) -> None:
    event = op.events.event("launched", f"launched {describe(attempt)}: {counted(len(nodes), 'node')}")
    records = node_records(attempt, nodes, at=op.clock.now(), first_rank=None)
    if not op.ledger.record_launch(attempt, records, event):
        # Another process took the cluster over during the call and closed the attempt. These nodes are in no ledger.
        op.call(provider, "terminate", lambda: provider.terminate(attempt.selector))
        raise op.conflict_error()
    op.events.notify(event)
    is_spot = any(part.offer.purchase == "spot" for part in attempt.parts)
    if is_spot and Capability.SPOT_PRICES not in provider.capabilities:
        text = (
            f"{provider.name} does not report how spot prices change: the cluster's cost keeps the price of its launch"
        )
        op.events.add("note", text)


def _wait_for_nodes(op: Operation, provider: Provider, attempt: AttemptRecord) -> tuple[Node, ...]:
    """Return the nodes of a launch with an unknown outcome, as soon as any appear; () after the consistency window (I4)."""
    end = op.clock.now() + provider.consistency_window
    message = f"no answer from {provider.name}: checking until {end:%H:%M:%S} UTC whether anything was launched"
    op.events.add("in doubt", message, token=attempt.token)
    while True:
        op.heartbeat()
        nodes = op.call(provider, "list nodes", lambda: provider.nodes(attempt.selector))
        if nodes or op.clock.now() >= end:
            return nodes
        op.sleep(provider.poll_interval)


def launch_request(op: Operation, attempt: AttemptRecord) -> LaunchRequest:
    """Return the request for the provider, which is the same each time for the same attempt."""
    record, spec = op.reload(), op.spec
    instance = attempt.parts[0].offer.instance
    # Nodes in place of lost ones may end before their cluster expires.
    expires_at = earliest([record.expires_at, earliest_end(attempt.parts)])
    peers = _peers(op, attempt)
    is_gang = attempt.nodes > 1 or bool(peers)
    most = op.session.fabric_limits.get(attempt.provider, {}).get(instance.fabric, attempt.nodes)
    can_share = bool(instance.fabric) and attempt.nodes <= most
    has_fabric = is_gang and can_share and _needs_fabric(spec, instance.accelerator)
    return LaunchRequest(
        token=attempt.token,
        cluster_id=record.id,
        cluster_name=record.name,
        owner=record.owner,
        parts=attempt.parts,
        tags=tags_of(replace(record, expires_at=expires_at), spec, attempt),
        expires_at=expires_at,
        fabric=has_fabric,
        image=spec.image_in(attempt.provider, attempt.region),
        setup=spec.setup or "",
        ssh_public_key=spec.ssh_public_key() or public_key_of(op.session, record.id),
        opens_later=spec.ssh_key is None,
        private=spec.private,
        disk_gib=spec.disk,
        max_price=_spot_ceiling(spec, instance, attempt.parts),
        peers=peers if has_fabric else (),
        attempt_timeout=spec.attempt_timeout,
        warn=partial(op.events.add, "note"),
    )


def _peers(op: Operation, attempt: AttemptRecord) -> tuple[str, ...]:
    """Return the tokens of the cluster's other launches in the region, whose nodes the new ones join."""
    return tuple(
        other.token
        for other in op.ledger.attempts(op.cluster_id)
        if other.is_open and other.token != attempt.token
        if (other.provider, other.region) == (attempt.provider, attempt.region)
    )


def _spot_ceiling(spec: ClusterSpec, instance: InstanceType, parts: Sequence[Part]) -> float | None:
    """Return the highest list price of a spot node, per hour, that the price limits of the spec allow; None for no limit."""
    accelerators = instance.accelerators
    nodes = spec.nodes or (math.ceil(spec.gpus / accelerators) if spec.gpus and accelerators else 1)
    if spec.workload is not None:
        # The plan has found the number, and a gang for a workload is in one place.
        nodes = sum(part.nodes for part in parts)
    limits = [spec.max_price * accelerators if spec.max_price and accelerators else None]
    limits += [spec.max_hourly / nodes if spec.max_hourly else None]
    limit = min((limit for limit in limits if limit is not None), default=None)
    discount = next((part.offer.quote.discount for part in parts if part.offer.purchase == "spot"), None)
    return limit if limit is None or discount is None else discount.list_limit(limit)


def _needs_fabric(spec: ClusterSpec, accelerator: str) -> bool:
    """Return whether the nodes need a fabric: "rdma" asks for it, "auto" if the accelerator is built to be linked."""
    if spec.interconnect == "auto":
        return any(model.linked for model in find(accelerator))
    return spec.interconnect == "rdma"
