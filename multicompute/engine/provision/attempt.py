"""Carries out one attempt at one candidate: intent, launch, wait; and closes it only when nothing of it lives (I1, I4)."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from multicompute.accelerators import find
from multicompute.engine.operation.operation import Operation, report_of
from multicompute.engine.provision.failover import MEMORY, outage_of
from multicompute.engine.teardown import terminate_and_wait
from multicompute.errors import (
    AccessDeniedError,
    AuthError,
    CapacityError,
    InvalidRequestError,
    MulticomputeError,
    ProvisionTimeout,
    QuotaError,
    TransientError,
)
from multicompute.ledger import AttemptRecord, AttemptState, NodeRecord
from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.plan import Candidate
from multicompute.provider import (
    TAG_ATTEMPT,
    TAG_CLUSTER,
    TAG_EXPIRES_AT,
    TAG_ID,
    TAG_OWNER,
    LaunchRequest,
    Provider,
    Selector,
    expiry_tag,
)
from multicompute.spec import ClusterSpec
from multicompute.units import format_duration, format_usd

_LINE: Final = 160
_FRESH: Final = timedelta(seconds=20)
"""A call that begins so soon after its attempt was opened needs no second look at the ledger: a lease lasts longer."""
_REFUSALS = (CapacityError, QuotaError, InvalidRequestError, AuthError, AccessDeniedError)
"""Answers after which, by the seam's contract, no node of the token lives or will."""


def by_region(parts: Sequence[Part]) -> list[tuple[Part, ...]]:
    """The parts of a candidate as they are launched together: one cloud and one region at a time."""
    groups: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        groups.setdefault((part.offer.provider, part.offer.region), []).append(part)
    return [tuple(group) for group in groups.values()]


def open_attempt(op: Operation, parts: tuple[Part, ...], *, is_repair: bool = False) -> AttemptRecord:
    """Write the intent down (I1); all parts are of one region.

    Raises:
        TerminationRequested, LostLease: the cluster was ended, or taken over, meanwhile.
    """
    attempt = AttemptRecord(
        token=f"mc-{op.session.random.getrandbits(96):024x}",
        cluster_id=op.cluster_id,
        number=op.ledger.count_attempts(op.cluster_id) + 1,
        state=AttemptState.OPEN,
        parts=parts,
        opened_at=op.clock.now(),
    )
    price = f"{format_usd(Candidate(parts).hourly_cost)}/h"
    line = op.story.line("attempt", f"trying {describe(attempt)} at {price}", **facts(attempt))
    if not op.ledger.open_attempt(attempt, line, is_repair=is_repair, holder=op.lease.holder):
        raise op.conflict_error()
    op.story.tell(line)
    return attempt


def launch(op: Operation, attempt: AttemptRecord, *, is_repeated: bool) -> None:
    """Launch what the attempt says; safe to call again for the same attempt, by any process (I5).

    Args:
        is_repeated: whether it was begun before, by a call of which nobody knows what it came to.

    Raises:
        MulticomputeError: the cloud refused, and the attempt is closed; or it answered nothing that can be trusted, and
            the attempt was watched to the end of the consistency window before it was closed.
    """
    provider = op.session.provider(attempt.provider)
    request = launch_request(op, attempt)
    place = place_of(attempt)
    doubts = [is_repeated]
    calls = 0

    def call() -> tuple[Node, ...]:
        nonlocal calls
        calls += 1
        now = op.clock.now()
        if is_repeated or calls > 1 or now >= attempt.opened_at + _FRESH:
            # From now on it may launch something again (I4), and nobody may have taken the cluster over meanwhile (I7).
            op.keep()
            if not op.ledger.reopen_attempt(attempt, at=now, holder=op.lease.holder):
                raise op.conflict_error()
        try:
            return provider.launch(request)
        except TransientError:
            doubts.append(True)
            raise

    try:
        nodes = op.ask(provider, f"launch in {place}", call)
    except _REFUSALS as error:
        if any(doubts) and isinstance(error, (AuthError, AccessDeniedError)):
            # Turned away at the door: that says nothing of an earlier call whose answer was lost. It stays open.
            raise
        close(op, attempt, error)
        raise
    except MulticomputeError as error:
        nodes = _watch(op, provider, attempt)
        if not nodes:
            close(op, attempt, error)
            raise
    line = op.story.line("launched", f"launched {describe(attempt)}: {len(nodes)} nodes")
    records = node_records(attempt, nodes, at=op.clock.now(), first_rank=None)
    if not op.ledger.record_launch(attempt, records, line):
        # Closed by who took the cluster over while the call was on its way. Nobody else looks for what it launched.
        late = Selector(region=attempt.region, cluster_id=op.cluster_id, token=attempt.token)
        op.ask(provider, "terminate", lambda: provider.terminate(late))
        raise op.conflict_error()
    op.story.tell(line)


def await_running(op: Operation, attempts: Sequence[AttemptRecord]) -> list[tuple[Node, ...]]:
    """Wait until every node of the launched attempts runs; returns the nodes, attempt by attempt.

    Raises:
        TerminationRequested, LostLease: the cluster was ended, or taken over, meanwhile.
        CapacityError: nodes were lost, or were not running in time.
        QuotaError, InvalidRequestError: nodes were lost for such a reason.
        ProvisionTimeout: the request's own time is over.
    """
    wanted = sum(attempt.nodes for attempt in attempts)
    pause = max(op.session.provider(attempt.provider).poll_interval for attempt in attempts)
    begun = op.clock.now()
    ready = -1
    told: set[str] = set()
    while True:
        op.heartbeat()
        seen = [_look(op, attempt) for attempt in attempts]
        running = sum(node.state is NodeState.RUNNING for nodes in seen for node in nodes)
        if running == wanted:
            return seen
        pending = [node for nodes in seen for node in nodes if node.state is NodeState.PENDING]
        reasons = {node.reason for node in pending if node.reason}
        if reasons != told:
            # Why nodes are not there yet, where the cloud says so: a place in its queue, for one.
            told = reasons
            op.story.add("queued", f"{describe(attempts[0])}: {'; '.join(sorted(reasons)) or 'out of the queue'}")
        if running != ready:
            ready = running
            text = f"{ready} of {wanted} nodes run"
            op.story.tell(op.story.line("waiting", text, nodes_ready=ready, nodes=wanted))
        _check_time(op, attempts, begun, f"{running} of {wanted} nodes ran")
        op.pause(pause)


def _look(op: Operation, attempt: AttemptRecord) -> tuple[Node, ...]:
    """The nodes of an attempt; raises when some of them are lost."""
    provider = op.session.provider(attempt.provider)
    selector = Selector(
        region=attempt.region,
        cluster_id=op.cluster_id,
        token=attempt.token,
        node_ids=tuple(node.id for node in op.ledger.nodes(op.cluster_id) if node.token == attempt.token),
        instance_types=tuple(sorted({part.offer.instance_type for part in attempt.parts})),
    )
    nodes = op.ask(provider, "look at the nodes", lambda: provider.nodes(selector))
    lost = [node for node in nodes if node.state not in (NodeState.PENDING, NodeState.RUNNING)]
    if lost or len(nodes) > attempt.nodes:
        raise _loss(attempt, lost)
    return nodes


def make_ready(op: Operation, attempts: Sequence[AttemptRecord], seen: Sequence[Sequence[Node]]) -> None:
    """Write down that the gang is complete, with its nodes ranked in the order of the attempts and of the providers' answers.

    Raises:
        TerminationRequested, LostLease: the cluster was ended, or taken over, meanwhile.
    """
    op.keep()
    records: list[NodeRecord] = []
    for attempt, nodes in zip(attempts, seen, strict=True):
        records += node_records(attempt, nodes, at=attempt.opened_at, first_rank=len(records))
    cost = format_usd(sum(node.hourly_cost for node in records))
    what = " and ".join(describe(attempt) for attempt in attempts)
    until = expiry_text(op.record().expires_at)
    line = op.story.line("ready", f"ready: {what}, {cost}/h, {until}", **facts(attempts[0]))
    zone = records[0].zone if len({node.zone for node in records}) == 1 else None
    if not op.ledger.make_ready(op.cluster_id, records, line, zone=zone):
        raise op.conflict_error()
    op.story.tell(line)


def is_whole(spec: ClusterSpec, attempts: Sequence[AttemptRecord]) -> bool:
    """Whether these attempts together are what the spec asks for: a gang that is launched region by region may be cut off between two."""
    parts = [part for attempt in attempts for part in attempt.parts]
    accelerators = sum(part.nodes * part.offer.instance.accelerators for part in parts)
    nodes = sum(part.nodes for part in parts)
    return accelerators >= (spec.gpus or 0) and nodes >= (spec.nodes or 1)


def expiry_text(expires_at: datetime | None) -> str:
    """The end of life in words."""
    return f"until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else "with no end of life (ttl=None)"


def give_up(op: Operation, attempt: AttemptRecord, error: MulticomputeError) -> None:
    """Terminate what an attempt launched, ask until it is gone, and close it."""
    provider = op.session.provider(attempt.provider)
    terminate_and_wait(
        op, provider, [attempt], Selector(region=attempt.region, cluster_id=op.cluster_id, token=attempt.token)
    )
    close(op, attempt, error)


def close(op: Operation, attempt: AttemptRecord, error: MulticomputeError) -> None:
    """Write down that nothing of the attempt lives, why it failed, and what that rules out for a while."""
    outcome = outcome_of(error)
    op.keep()
    report = report_of(attempt, outcome, code=error.code, message=first_sentence(error.vendor_message or error.message))
    op.reports.append(report)
    kind = {"no capacity": "capacity", "not offered here": "capacity", "no quota": "quota"}.get(outcome, "refused")
    line = op.story.line(kind, str(report), **facts(attempt), code=error.code)
    now = op.clock.now()
    past = op.ledger.past_outages(attempt.provider, now - MEMORY)
    outage = outage_of(error, Candidate(attempt.parts), now=now, past=past)
    op.ledger.close_attempt(
        attempt, at=now, outcome=outcome, code=error.code, message=error.message, event=line, outage=outage
    )
    op.story.tell(line)


def first_sentence(text: str) -> str:
    """The first sentence of a cloud's answer, in one line of bearable length; the ledger keeps all of it."""
    sentence = re.split(r"(?<=[.!?])\s", " ".join(text.split()), maxsplit=1)[0]
    return sentence if len(sentence) <= _LINE else sentence[: _LINE - 3] + "..."


def outcome_of(error: MulticomputeError) -> str:
    """A failure in two or three words."""
    if isinstance(error, CapacityError):
        return "no capacity" if error.is_offered else "not offered here"
    words = {QuotaError: "no quota", AuthError: "not authenticated", AccessDeniedError: "access denied"}
    words |= {InvalidRequestError: "refused as invalid", ProvisionTimeout: "timed out"}
    return next((text for kind, text in words.items() if isinstance(error, kind)), "failed")


def launch_request(op: Operation, attempt: AttemptRecord) -> LaunchRequest:
    """What the provider is asked for: the same each time that it is made from the same attempt and spec."""
    record, spec = op.record(), op.spec
    tags = {
        **spec.tags,
        TAG_CLUSTER: record.name,
        TAG_ID: record.id,
        TAG_ATTEMPT: attempt.token,
        TAG_OWNER: record.owner,
        TAG_EXPIRES_AT: expiry_tag(record.expires_at),
    }
    instance = attempt.parts[0].offer.instance
    return LaunchRequest(
        token=attempt.token,
        cluster_id=record.id,
        cluster_name=record.name,
        owner=record.owner,
        parts=attempt.parts,
        tags=tags,
        expires_at=record.expires_at,
        fabric=attempt.nodes > 1 and bool(instance.fabric) and _wants_fabric(spec, instance.accelerator),
        image=spec.image,
        setup=spec.setup or "",
        ssh_public_key=spec.ssh_public_key(),
        private=spec.private,
        disk_gib=spec.disk,
        max_price=spec.max_price * instance.accelerators if spec.max_price and instance.accelerators else None,
        attempt_timeout=spec.attempt_timeout,
    )


def _wants_fabric(spec: ClusterSpec, accelerator: str) -> bool:
    """Whether nodes are to be linked: asked for, or by themselves where the accelerator is built for it."""
    if spec.interconnect == "auto":
        return any(model.linked for model in find(accelerator))
    return spec.interconnect == "rdma"


def node_records(
    attempt: AttemptRecord, nodes: Sequence[Node], *, at: datetime, first_rank: int | None
) -> list[NodeRecord]:
    """The nodes as the ledger keeps them, with the price of the part that each belongs to; without rank until the gang is complete."""
    return [
        NodeRecord(
            id=node.id,
            rank=-1 if first_rank is None else first_rank + index,
            token=attempt.token,
            provider=node.provider,
            instance_type=node.instance_type,
            region=node.region,
            zone=node.zone,
            state=node.state,
            started_at=at,
            private_ip=node.private_ip,
            public_ip=node.public_ip,
            accelerators=part.offer.instance.accelerators / part.offer.instance.hosts,
            hourly_cost=part.offer.hourly_cost / part.offer.instance.hosts,
        )
        for index, node in enumerate(nodes)
        for part in [_part_of(attempt.parts, index, node)]
    ]


def _part_of(parts: Sequence[Part], index: int, node: Node) -> Part:
    """The part that a node belongs to: by type and zone where that tells, else by its place in the launch's order."""
    fitting = [
        part for part in parts if part.offer.instance_type == node.instance_type and part.offer.zone in ("", node.zone)
    ]
    if len(fitting) == 1:
        return fitting[0]
    for part in parts:
        if index < part.machines:
            return part
        index -= part.machines
    return parts[-1]


def describe(attempt: AttemptRecord) -> str:
    """The attempt in words: "8 x p5.48xlarge on demand in aws us-east-1a"."""
    counts: dict[str, int] = {}
    for part in attempt.parts:
        how = part.reservation or part.offer.purchase.replace("_", " ")
        kind = f"{part.offer.instance_type} {how}"
        counts[kind] = counts.get(kind, 0) + part.nodes
    what = " + ".join(f"{count} x {kind}" for kind, count in counts.items())
    return f"{what} in {attempt.provider} {place_of(attempt)}"


def place_of(attempt: AttemptRecord) -> str:
    """Its zone, or its region where it has several zones or none."""
    zones = {part.offer.zone for part in attempt.parts}
    return (zones.pop() if len(zones) == 1 else "") or attempt.region


def facts(attempt: AttemptRecord) -> dict[str, object]:
    """The attempt for programs that read events."""
    offer = attempt.parts[0].offer
    return {
        "provider": offer.provider,
        "region": offer.region,
        "zone": offer.zone,
        "instance_type": offer.instance_type,
        "purchase": offer.purchase,
        "nodes": attempt.nodes,
        "token": attempt.token,
    }


def _watch(op: Operation, provider: Provider, attempt: AttemptRecord) -> tuple[Node, ...]:
    """Look for nodes of a launch whose answer is not known, until they show or the consistency window is over (I4)."""
    end = op.clock.now() + provider.consistency_window
    selector = Selector(region=attempt.region, cluster_id=op.cluster_id, token=attempt.token)
    message = f"no answer from {provider.name}: watching until {end:%H:%M:%S} UTC whether anything was launched"
    op.story.add("in doubt", message, token=attempt.token)
    while True:
        op.heartbeat()
        nodes = op.ask(provider, "look for nodes", lambda: provider.nodes(selector))
        if nodes or op.clock.now() >= end:
            return nodes
        op.pause(provider.poll_interval)


def _loss(attempt: AttemptRecord, lost: Sequence[Node]) -> MulticomputeError:
    """What it means that nodes ended before they ran; where the cloud does not say why, a lack of capacity."""
    if not lost:
        return CapacityError("more nodes answer to the attempt than were asked for", provider=attempt.provider)
    node = lost[0]
    kinds: dict[str, type[CapacityError | QuotaError | InvalidRequestError]]
    kinds = {"quota": QuotaError, "request": InvalidRequestError}
    code, _, message = (node.reason or "").rpartition(": ")
    return kinds.get(node.cause, CapacityError)(
        f"{len(lost)} of {attempt.nodes} nodes ended before they ran: {message or 'the cloud does not say why'}",
        provider=attempt.provider,
        region=attempt.region,
        zone=node.zone,
        instance_type=node.instance_type,
        code=code or None,
        scope="zone",
    )


def _check_time(op: Operation, attempts: Sequence[AttemptRecord], begun: datetime, seen: str) -> None:
    now = op.clock.now()
    last = attempts[-1]
    if op.deadline is not None and now >= op.deadline:
        text = f"not ready by {op.deadline:%H:%M:%S} UTC: {seen}"
        raise ProvisionTimeout(text, provider=last.provider, region=last.region)
    limit = op.spec.attempt_timeout or max(op.session.provider(each.provider).attempt_timeout for each in attempts)
    # Counted from the first look: an attempt that is taken over was opened long ago.
    if now >= begun + limit:
        offer = last.parts[0].offer
        raise CapacityError(
            f"{seen} after {format_duration(limit)}, which counts as a lack of capacity",
            provider=offer.provider,
            region=offer.region,
            zone=offer.zone or None,
            instance_type=offer.instance_type,
            scope="zone",
        )


def contents(attempts: Iterable[AttemptRecord]) -> list[str]:
    """What is there, in words: "2 x p5.48xlarge in us-east-1"."""
    return [
        f"{part.nodes} x {part.offer.instance_type} in {part.offer.zone or part.offer.region}"
        for attempt in attempts
        if attempt.is_open
        for part in attempt.parts
    ]
