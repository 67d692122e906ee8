"""Writes clusters into a ledger that has lost them, from what the clouds alone tell; and knows them again when they are requested."""

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from multicompute.engine.operation.operation import Operation
from multicompute.engine.provision.attempt import contents, expiry_text, node_records
from multicompute.engine.recovery.inventory import Orphan, ask, expiry_of, is_known
from multicompute.engine.teardown import places
from multicompute.errors import CatalogError, ClusterExists, ClusterNotFound
from multicompute.ledger import AttemptRecord, AttemptState, ClusterRecord, NodeRecord
from multicompute.node import ClusterState, Event, Node, NodeState
from multicompute.offer import InstanceType, Offer, Part, Purchase, Quote
from multicompute.plan import Candidate
from multicompute.provider import RESERVED_TAG_PREFIX, TAG_ATTEMPT, Resource, Selector
from multicompute.session import Session
from multicompute.spec import ClusterSpec


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A cluster as the ledger would have it."""

    record: ClusterRecord
    attempts: tuple[AttemptRecord, ...]
    nodes: tuple[NodeRecord, ...]


def adopt(session: Session, orphans: Sequence[Orphan], *, taken: Collection[str] = (), dry_run: bool = False) -> None:
    """Write a cluster into the ledger whose remains in one or several clouds these orphans are.

    All that is not in the tags is taken from what runs: the number asked for is the number that is there, prices are those of the
    catalog for what is there, on demand or spot; what it cost before is not known. It is READY where every node runs, else DEGRADED.

    Args:
        session: the ledger and the clouds.
        orphans: what is there of it, one for each cloud.
        taken: names beside those of the ledger that are taken.
        dry_run: only see whether it can be done.

    Raises:
        ClusterNotFound: it has no node, or the ledger knows it by now.
        ClusterExists: a live cluster has its name.
        CatalogError: the offer tables can't tell what its nodes are.
        SpecError: its tags are not those of a cluster.
    """
    first = orphans[0]
    if is_known(session, first.cluster_id):
        raise ClusterNotFound(f"{first.name}: no orphan any more: another process has taken it into the ledger")
    same = [record.id for record in session.ledger.clusters() if record.name == first.name]
    if same or first.name in taken:
        holder = same[0] if same else "found in the clouds, too"
        raise ClusterExists(
            f"{first.name}: {first.cluster_id} is not adopted: a live cluster has this name already ({holder}), and names are unique",
            hint=f"`multicompute reconcile --terminate {first.cluster_id}` ends it",
        )
    rebuilt = _rebuild(session, orphans)
    if dry_run:
        return
    session.ledger.adopt(rebuilt.record, rebuilt.attempts, rebuilt.nodes)
    what = ", ".join(contents(rebuilt.attempts))
    message = (
        f"adopted: {what}, found by its tags; {expiry_text(rebuilt.record.expires_at)}; its cost counts from here on"
    )
    session.ledger.append(Event(rebuilt.record.created_at, "adopted", message, first.cluster_id))


def _rebuild(session: Session, orphans: Sequence[Orphan]) -> Rebuilt:
    first, now = orphans[0], session.clock.now()
    resources = [resource for orphan in orphans for resource in orphan.resources]
    attempts, nodes = _attempts(session, first.cluster_id, [orphan.provider for orphan in orphans], known=())
    if not attempts:
        kinds = ", ".join(sorted({resource.kind for resource in resources}))
        raise ClusterNotFound(
            f"{first.name}: not adopted: it has no node that lives, only {kinds}",
            hint=f"`multicompute reconcile --terminate {first.cluster_id}` removes what is left",
        )
    expires_at = _instant_of(expiry_of(resources))
    spec = _spec_of(first.name, attempts, resources, has_end=expires_at is not None)
    offers = [part.offer for attempt in attempts for part in attempt.parts]
    zones = {node.zone for node in nodes if node.ended_at is None}
    is_up = all(node.state == NodeState.RUNNING for node in nodes) and sum(each.nodes for each in attempts) == len(
        nodes
    )
    record = ClusterRecord(
        id=first.cluster_id,
        name=first.name,
        state=ClusterState.READY if is_up else ClusterState.DEGRADED,
        owner=session.config.owner,
        spec=spec.to_dict(),
        identity=json.dumps({"adopted": True, **spec.identity()}, sort_keys=True),
        created_at=now,
        expires_at=expires_at,
        provider=offers[0].provider,
        region=offers[0].region,
        zone=zones.pop() if len(zones) == 1 else None,
    )
    return Rebuilt(record, (*attempts, *_elsewhere(attempts, orphans, now)), nodes)


def _instant_of(tag: str) -> datetime | None:
    """The end of life in an expiry tag, None for none."""
    return None if tag == "never" else datetime.fromtimestamp(int(tag), UTC)


def _attempts(
    session: Session, cluster_id: str, providers: Iterable[str], *, known: Iterable[AttemptRecord]
) -> tuple[tuple[AttemptRecord, ...], tuple[NodeRecord, ...]]:
    """The attempts of a cluster that have nodes which live and that the ledger does not know, with all their nodes.

    Nodes are ranked in the order in which the clouds list them.
    """
    now, tokens = session.clock.now(), {attempt.token for attempt in known}
    number = len(tokens)
    attempts: list[AttemptRecord] = []
    records: list[NodeRecord] = []
    for name in dict.fromkeys(providers):
        provider = session.provider(name)
        selector = Selector(cluster_id=cluster_id)
        seen = ask(session, provider, lambda: provider.nodes(selector))  # noqa: B023 - called before the next turn
        for token in dict.fromkeys(
            node.token for node in seen if not node.state.has_ended and node.token not in tokens
        ):
            members = sorted((node for node in seen if node.token == token), key=lambda node: node.state.has_ended)
            number += 1
            attempt = AttemptRecord(token, cluster_id, number, AttemptState.LAUNCHED, _parts(session, members), now)
            attempts.append(attempt)
            ranked = node_records(attempt, members, at=now, first_rank=len(records))
            records += [
                replace(record, ended_at=now) if NodeState(record.state).has_ended else record for record in ranked
            ]
    return tuple(attempts), tuple(records)


def _parts(session: Session, nodes: Sequence[Node]) -> tuple[Part, ...]:
    """What must have been asked for, to get these nodes; each host of a slice is one of them."""
    # A node that never came is listed without a zone by some clouds: it belongs where the others are.
    groups: dict[Offer, int] = {}
    for node in nodes:
        offer = _offer(session, node, node.zone or nodes[0].zone)
        groups[offer] = groups.get(offer, 0) + 1
    return tuple(Part(offer, -(-machines // offer.instance.hosts)) for offer, machines in groups.items())


def _offer(session: Session, node: Node, zone: str) -> Offer:
    """The offer that a node was bought at, as far as its cloud tells: on demand or spot, at the catalog's price."""
    instance = _instance(session, node)
    purchase: Purchase = "spot" if node.is_spot else "on_demand"
    lines = session.catalog.listings(instance.accelerator, provider=node.provider)
    here = [line for line in lines if line.instance == instance and line.region.name == node.region]
    best = min(
        here, key=lambda line: (line.purchase != purchase, bool(line.zones) and zone not in line.zones), default=None
    )
    quote = best.quote if best else Quote(0.0, session.clock.now().date(), "no price in the catalog", "estimate")
    return Offer(instance, node.region, zone, best.purchase if best else purchase, quote)


def _instance(session: Session, node: Node) -> InstanceType:
    found = [each for each in session.catalog.instances(node.instance_type) if each.provider == node.provider]
    if len(found) > 1:
        fits = (each for each in found if each.accelerator == node.attached)
        found = [each for each in fits if not node.attached or each.accelerators == node.accelerators]
    if len(found) == 1:
        return found[0]
    raise CatalogError(
        f"{node.provider}: {node.id}: {node.instance_type} is in no offer table: what it has and costs can't be told",
        provider=node.provider,
        region=node.region,
        instance_type=node.instance_type,
        hint="install the tables that it was bought from, or terminate it",
    )


def _spec_of(
    name: str, attempts: Sequence[AttemptRecord], resources: Sequence[Resource], *, has_end: bool
) -> ClusterSpec:
    """A request that would have given what is there."""
    parts = tuple(part for attempt in attempts for part in attempt.parts)
    gpus = int(Candidate(parts).accelerators)
    providers = tuple(dict.fromkeys(part.offer.provider for part in parts))
    # What all of it has, and not what somebody has put on one machine later.
    common = set.intersection(*[set(resource.tags.items()) for resource in resources if resource.billable] or [set()])
    return ClusterSpec(
        gpus=gpus or None,
        nodes=None if gpus else sum(part.nodes for part in parts),
        type=tuple(dict.fromkeys(part.offer.instance_type for part in parts)),
        name=name,
        clouds=providers,
        placement=_placement(parts),
        spot="prefer" if any(part.offer.purchase == "spot" for part in parts) else False,
        ttl="default" if has_end else None,
        tags={key: value for key, value in common if not key.startswith(RESERVED_TAG_PREFIX)},
    )


def _placement(parts: Sequence[Part]) -> Literal["zone", "region", "cloud", "any"]:
    if len({part.offer.provider for part in parts}) > 1:
        return "any"
    if len({part.offer.region for part in parts}) > 1:
        return "cloud"
    return "region" if len({part.offer.zone for part in parts}) > 1 else "zone"


def _elsewhere(attempts: Sequence[AttemptRecord], orphans: Sequence[Orphan], now: datetime) -> list[AttemptRecord]:
    """A closed attempt for each region that has no node but something beside: a teardown covers where something was tried (I8)."""
    home = {(attempt.provider, attempt.region) for attempt in attempts}
    tokens = {attempt.token for attempt in attempts}
    found: list[AttemptRecord] = []
    for orphan in orphans:
        for resource in orphan.resources:
            place = (orphan.provider, resource.region)
            if place in home:
                continue
            home.add(place)
            token = resource.tags.get(TAG_ATTEMPT, "")
            if token in tokens or not token:
                token = f"{orphan.cluster_id}-{resource.region}"
            tokens.add(token)
            offer = attempts[0].parts[0].offer
            there = replace(
                offer, instance=replace(offer.instance, provider=orphan.provider), region=resource.region, zone=""
            )
            number = len(attempts) + len(found) + 1
            closed = AttemptRecord(token, orphan.cluster_id, number, AttemptState.CLOSED, (Part(there, 0),), now, now)
            found.append(
                replace(closed, outcome="failed", message="found when it was adopted: nothing but side resources")
            )
    return found


def sync_expiry(
    session: Session, record: ClusterRecord, resources: Sequence[Resource], *, dry_run: bool = False
) -> str:
    """Take the end of life of a cluster from its tags where that is later, and finish writing it there: an extension begins in the cloud.

    An earlier one is not believed: a cloud's listings may lag behind, and what is over there ends by itself. While they may lag behind
    with a node of the cluster nothing is learned: that node would keep the end that it has, and the ledger would tell a later one.

    Returns:
        What was learned, "" for nothing.
    """
    if not resources or record.expires_at is None:
        return ""
    tag = expiry_of(resources)
    by_tags = _instant_of(tag)
    if by_tags is None or by_tags <= record.expires_at or _may_hide(session, record, resources):
        return ""
    told = f"lives {expiry_text(by_tags)} by its tags; the ledger said {expiry_text(record.expires_at)}"
    if not dry_run:
        if record.state.is_up:
            # Who moved it may have died between two nodes: the others would still end at the old time.
            begun = [attempt for attempt in session.ledger.attempts(record.id) if attempt.is_open]
            for name, region in places(begun):
                session.provider(name).set_expiry(Selector(region=region, cluster_id=record.id), by_tags)
        event = Event(session.clock.now(), "extended", told, record.id)
        session.ledger.update_cluster(record.id, event, expires_at=by_tags)
    return told


def _may_hide(session: Session, record: ClusterRecord, resources: Sequence[Resource]) -> bool:
    """Whether a node of the cluster is missing here that listings may only not show yet (I4)."""
    shown, now = {resource.id for resource in resources}, session.clock.now()
    return any(
        node.ended_at is None
        and node.id not in shown
        and now < node.started_at + session.provider(node.provider).consistency_window
        for node in session.ledger.nodes(record.id)
    )


def learn_attempts(op: Operation, resources: Sequence[Resource], *, dry_run: bool = False) -> bool:
    """Write down the attempts of a live cluster that run and that the ledger does not know: an older copy of it was put back.

    Returns:
        Whether there are any.
    """
    known = op.ledger.attempts(op.cluster_id)
    tokens = {resource.tags.get(TAG_ATTEMPT) for resource in resources if resource.billable}
    if tokens <= {attempt.token for attempt in known}:
        return False
    providers = [resource.provider for resource in resources]
    attempts, nodes = _attempts(op.session, op.cluster_id, providers, known=known)
    ranks = _free_ranks(op.ledger.nodes(op.cluster_id))
    nodes = tuple(replace(node, rank=next(ranks)) for node in nodes if node.ended_at is None)
    for attempt in attempts:
        mine = [node for node in nodes if node.token == attempt.token]
        line = op.story.line("adopted", f"adopted: {', '.join(contents([attempt]))}, of which this ledger knew nothing")
        is_repair = op.record().state is ClusterState.DEGRADED
        if not dry_run and op.ledger.open_attempt(attempt, line, is_repair=is_repair):
            op.ledger.record_launch(attempt, mine, line)
            op.story.tell(line)
    return bool(attempts)


def _free_ranks(nodes: Sequence[NodeRecord]) -> Iterator[int]:
    """First the ranks of nodes that are gone, whose places were filled since, and then new ones."""
    ranks = {node.rank for node in nodes if node.rank >= 0}
    alive = {node.rank for node in nodes if node.ended_at is None}
    yield from sorted(ranks - alive)
    yield from itertools.count(max(ranks, default=-1) + 1)
