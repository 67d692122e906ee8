"""Adopts orphans: rebuilds the ledger records of a cluster from its resources in the clouds."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from multicompute.engine.discounts import active_discounts
from multicompute.engine.operation.regions import ProviderRegion, by_region
from multicompute.engine.operation.retry import call_provider
from multicompute.engine.provision.description import describe_open, expiry_text
from multicompute.engine.provision.records import node_records
from multicompute.engine.recovery.inventory import Orphan, expiry_of, is_known
from multicompute.errors import CatalogError, ClusterExists, ClusterNotFound
from multicompute.ledger import AttemptRecord, AttemptState, ClusterRecord, NodeRecord
from multicompute.node import ClusterState, Event, Node, NodeState
from multicompute.offer import InstanceType, Offer, Part, Purchase, Quote
from multicompute.plan import Candidate
from multicompute.provider import RESERVED_TAG_PREFIX, TAG_ATTEMPT, Resource, Selector
from multicompute.session import Session
from multicompute.spec import ClusterSpec


@dataclass(frozen=True, slots=True)
class AdoptedRecords:
    """The ledger records of an adopted cluster."""

    cluster: ClusterRecord
    attempts: tuple[AttemptRecord, ...]
    nodes: tuple[NodeRecord, ...]


def adopt(session: Session, orphans: Sequence[Orphan], *, taken: Collection[str] = (), dry_run: bool = False) -> None:
    """Write the cluster that these orphans belong to into the ledger.

    What the tags do not contain is derived from the nodes: the cluster was requested with as many accelerators as it has, and is
    priced by the catalog, on demand or spot. Earlier costs are unknown. It is READY if every node runs, else DEGRADED.

    `taken` are names that are taken in addition to those in the ledger. With `dry_run`, only check whether it can be adopted.

    Raises:
        ClusterNotFound: It has no node, or is in the ledger by now.
        ClusterExists: A live cluster has its name.
        CatalogError: The offer tables do not have its instance types.
        SpecError: Its tags are not those of a cluster.
    """
    first = orphans[0]
    if is_known(session, first.cluster_id):
        raise ClusterNotFound(f"{first.name}: no longer an orphan: another process wrote it into the ledger")
    same = [record.id for record in session.ledger.clusters() if record.name == first.name]
    if same or first.name in taken:
        other = same[0] if same else "also found in the clouds"
        raise ClusterExists(
            f"{first.name}: {first.cluster_id} is not adopted: another live cluster has this name ({other})",
            hint=f"`multicompute reconcile --terminate {first.cluster_id}` terminates it",
        )
    records = _records_of(session, orphans)
    if dry_run:
        return
    session.ledger.adopt(records.cluster, records.attempts, records.nodes)
    what, until = ", ".join(describe_open(records.attempts)), expiry_text(records.cluster.expires_at)
    message = f"adopted: {what}, found by its tags; {until}; its cost counts from here on"
    session.ledger.append(Event(records.cluster.created_at, "adopted", message, first.cluster_id))


def _records_of(session: Session, orphans: Sequence[Orphan]) -> AdoptedRecords:
    first, now = orphans[0], session.clock.now()
    resources = [resource for orphan in orphans for resource in orphan.resources]
    attempts, nodes = find_attempts(session, first.cluster_id, [orphan.provider for orphan in orphans], known=())
    if not attempts:
        kinds = ", ".join(sorted({resource.kind for resource in resources}))
        raise ClusterNotFound(
            f"{first.name}: not adopted: it has no node that runs, only {kinds}",
            hint=f"`multicompute reconcile --terminate {first.cluster_id}` deletes what is left",
        )
    expires_at = expiry_instant(expiry_of(resources))
    spec = _spec_of(first.name, attempts, resources, has_expiry=expires_at is not None)
    offers = [part.offer for attempt in attempts for part in attempt.parts]
    zones = {node.zone for node in nodes if node.ended_at is None}
    is_complete = len(nodes) == sum(attempt.nodes for attempt in attempts)
    is_ready = is_complete and all(node.state == NodeState.RUNNING for node in nodes)
    cluster = ClusterRecord(
        id=first.cluster_id,
        name=first.name,
        state=ClusterState.READY if is_ready else ClusterState.DEGRADED,
        owner=session.config.owner,
        spec=spec.to_dict(),
        identity=json.dumps({"adopted": True, **spec.identity()}, sort_keys=True),
        created_at=now,
        expires_at=expires_at,
        provider=offers[0].provider,
        region=offers[0].region,
        zone=zones.pop() if len(zones) == 1 else None,
    )
    return AdoptedRecords(cluster, (*attempts, *_closed_attempts_elsewhere(attempts, orphans, now)), nodes)


def expiry_instant(tag: str) -> datetime | None:
    """Return the instant in an expiry tag, None for "never"."""
    return None if tag == "never" else datetime.fromtimestamp(int(tag), UTC)


def find_attempts(
    session: Session, cluster_id: str, providers: Iterable[str], *, known: Iterable[AttemptRecord]
) -> tuple[tuple[AttemptRecord, ...], tuple[NodeRecord, ...]]:
    """Find the attempts of a cluster that have live nodes and are not `known` to the ledger.

    Returns:
        These attempts, and all their nodes, ranked in the order in which the clouds list them.
    """
    now, tokens = session.clock.now(), {attempt.token for attempt in known}
    first_number = len(tokens) + 1
    attempts: list[AttemptRecord] = []
    records: list[NodeRecord] = []
    for name in dict.fromkeys(providers):
        found = call_provider(session, name, lambda provider: provider.nodes(Selector(cluster_id=cluster_id)))
        account = call_provider(session, name, lambda provider: provider.account)
        live_tokens = dict.fromkeys(node.token for node in found if not node.is_lost)
        for token in (token for token in live_tokens if token not in tokens):
            members = sorted((node for node in found if node.token == token), key=lambda node: node.is_lost)
            number, parts = first_number + len(attempts), _parts_of(session, members)
            attempt = AttemptRecord(token, cluster_id, number, AttemptState.LAUNCHED, parts, now, account=account)
            attempts.append(attempt)
            ranked = node_records(attempt, members, at=now, first_rank=len(records))
            records += [
                record.observed(node.state, at=now, is_lost=node.is_lost, is_billed=node.is_billed)
                for record, node in zip(ranked, members, strict=True)
            ]
    return tuple(attempts), tuple(records)


def _parts_of(session: Session, nodes: Sequence[Node]) -> tuple[Part, ...]:
    """Return the parts that these nodes were launched as; each host of a slice is a node."""
    # Some clouds list a node that never started without a zone: it belongs to the zone of the others.
    groups: dict[Offer, int] = {}
    for node in nodes:
        offer = _offer_of(session, node, node.zone or nodes[0].zone)
        groups[offer] = groups.get(offer, 0) + 1
    parts = tuple(Part(offer, -(-machines // offer.instance.hosts)) for offer, machines in groups.items())
    discounts = active_discounts(session)
    return parts if discounts is None else discounts.parts(parts)


def _offer_of(session: Session, node: Node, zone: str) -> Offer:
    """Return the offer that a node was bought at, as far as its cloud reports it: on demand or spot, at the catalog's price."""
    instance = _instance_type_of(session, node)
    purchase: Purchase = "spot" if node.is_spot else "on_demand"
    lines = session.catalog.listings(instance.accelerator, provider=node.provider)
    here = [line for line in lines if line.instance == instance and line.region.name == node.region]
    best = min(
        here, key=lambda line: (line.purchase != purchase, bool(line.zones) and zone not in line.zones), default=None
    )
    quote = best.quote if best else Quote(0.0, session.clock.now().date(), "no price in the catalog", "estimate")
    return Offer(instance, node.region, zone, best.purchase if best else purchase, quote)


def _instance_type_of(session: Session, node: Node) -> InstanceType:
    found = [each for each in session.catalog.instances(node.instance_type) if each.provider == node.provider]
    if len(found) > 1:
        fits = (each for each in found if each.accelerator == node.attached)
        found = [each for each in fits if not node.attached or each.accelerators == node.accelerators]
    if len(found) > 1:
        # Own machines of one type may differ between sites.
        lines = session.catalog.listings(found[0].accelerator, provider=node.provider)
        here = {line.instance for line in lines if line.region.name == node.region}
        found = [each for each in found if each in here]
    if len(found) == 1:
        return found[0]
    raise CatalogError(
        f"{node.provider}: {node.id}: {node.instance_type} is in no offer table, so its accelerators and price are unknown",
        provider=node.provider,
        region=node.region,
        instance_type=node.instance_type,
        hint="install the offer tables that it was bought from, or terminate it",
    )


def _spec_of(
    name: str, attempts: Sequence[AttemptRecord], resources: Sequence[Resource], *, has_expiry: bool
) -> ClusterSpec:
    """Return a request that results in these attempts."""
    parts = tuple(part for attempt in attempts for part in attempt.parts)
    gpus = int(Candidate(parts).accelerators)
    providers = tuple(dict.fromkeys(part.offer.provider for part in parts))
    # Only tags of all billable resources, not those that were added to one machine later.
    common = set.intersection(*[set(resource.tags.items()) for resource in resources if resource.billable] or [set()])
    return ClusterSpec(
        gpus=gpus or None,
        nodes=None if gpus else sum(part.nodes for part in parts),
        type=tuple(dict.fromkeys(part.offer.instance_type for part in parts)),
        name=name,
        clouds=providers,
        placement=_placement_of(parts),
        spot="prefer" if any(part.offer.purchase == "spot" for part in parts) else False,
        ttl="default" if has_expiry else None,
        tags={key: value for key, value in common if not key.startswith(RESERVED_TAG_PREFIX)},
    )


def _placement_of(parts: Sequence[Part]) -> Literal["zone", "region", "cloud", "any"]:
    if len({part.offer.provider for part in parts}) > 1:
        return "any"
    if len({part.offer.region for part in parts}) > 1:
        return "cloud"
    return "region" if len({part.offer.zone for part in parts}) > 1 else "zone"


def _closed_attempts_elsewhere(
    attempts: Sequence[AttemptRecord], orphans: Sequence[Orphan], now: datetime
) -> list[AttemptRecord]:
    """Return a closed attempt for each region that has resources but no node: a teardown covers regions of attempts (I8)."""
    covered = set(by_region(attempts))
    tokens = {attempt.token for attempt in attempts}
    found: list[AttemptRecord] = []
    for orphan in orphans:
        for resource in orphan.resources:
            where = ProviderRegion(orphan.provider, resource.region)
            if where in covered:
                continue
            covered.add(where)
            token = resource.tags.get(TAG_ATTEMPT, "")
            if token in tokens or not token:
                token = f"{orphan.cluster_id}-{resource.region}"
            tokens.add(token)
            number = len(attempts) + len(found) + 1
            part = _empty_part(attempts[0].parts[0].offer, where)
            closed = AttemptRecord(token, orphan.cluster_id, number, AttemptState.CLOSED, (part,), now, now)
            message = "found when the cluster was adopted: resources without nodes"
            found.append(replace(closed, outcome="failed", message=message))
    return found


def _empty_part(offer: Offer, where: ProviderRegion) -> Part:
    """Return a part without nodes in a region."""
    instance = replace(offer.instance, provider=where.provider)
    return Part(replace(offer, instance=instance, region=where.region, zone=""), 0)
