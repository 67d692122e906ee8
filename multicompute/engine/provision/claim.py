"""Claim a cluster's name in the ledger: a repeated request returns its own cluster (I6)."""

import json
from datetime import timedelta

from multicompute.engine.operation.lease import Lease
from multicompute.engine.planning import plan_for
from multicompute.engine.provision.attempt import contents
from multicompute.engine.provision.summary import cluster_name
from multicompute.errors import ClusterExists, SpecError
from multicompute.ledger import ClusterRecord
from multicompute.node import ClusterState
from multicompute.offer import Part
from multicompute.plan import Candidate
from multicompute.session import Session
from multicompute.spec import ClusterSpec


def find_claimed(session: Session, spec: ClusterSpec) -> ClusterRecord | None:
    """The live cluster that the same request made before, or that was adopted and is what the request asks for."""
    if spec.name is None:
        return None
    try:
        return session.ledger.claimed(spec.name, identity_of(spec))
    except ClusterExists:
        if (record := adopted_for(session, spec)) is None:
            raise
        return record


def claim(session: Session, spec: ClusterSpec) -> tuple[ClusterRecord, Lease | None]:
    """Write the cluster down under its name, or find the one that the same request made before (I6); a new one with its lease."""
    now = session.clock.now()
    cluster_id = f"c-{session.random.getrandbits(64):016x}"
    record = ClusterRecord(
        id=cluster_id,
        name=spec.name or cluster_name(spec, session.random),
        state=ClusterState.REQUESTED,
        owner=session.config.owner,
        spec=spec.to_dict(),
        identity=identity_of(spec),
        created_at=now,
        expires_at=now + spec.ttl if isinstance(spec.ttl, timedelta) else None,
    )
    lease = Lease(session, cluster_id)
    holder, until = lease.initial_lease()
    claimed = session.ledger.claim(record, holder=holder, until=until)
    return claimed, lease if claimed.id == cluster_id else None


def identity_of(spec: ClusterSpec) -> str:
    """What makes two requests the same one, as text."""
    return json.dumps(spec.identity(), sort_keys=True)


def adopted_for(session: Session, spec: ClusterSpec) -> ClusterRecord | None:
    """The adopted live cluster of the name that a request has, where it is what the request asks for; None where none is adopted.

    The arguments that it was once requested with are not known. So it is the same request (I6) that asks for as many accelerators as
    there are, on machines of which one alone would meet the request where they stand; how they were bought, at what price and what
    for, is not compared.

    Raises:
        ClusterExists: the request asks for something else.
    """
    record = next((each for each in session.ledger.clusters() if each.name == spec.name), None)
    if record is None or not json.loads(record.identity).get("adopted"):
        return None
    attempts = [attempt for attempt in session.ledger.attempts(record.id) if attempt.is_open]
    if not _is_meant(session, spec, tuple(part for attempt in attempts for part in attempt.parts)):
        raise ClusterExists(
            f"{record.name}: the live cluster of this name ({record.state}) was adopted from what was found, "
            f"{', '.join(contents(attempts)) or 'nothing'}, and the request asks for something else",
            hint=f"choose another name, ask for what is there, or end it with `multicompute down {record.name}`",
        )
    return record


def _is_meant(session: Session, spec: ClusterSpec, parts: tuple[Part, ...]) -> bool:
    if not parts or not spec.type:
        return False
    there, largest = Candidate(parts).accelerators, max(part.offer.instance.accelerators for part in parts)
    nodes = sum(part.nodes for part in parts)
    # Machines are bought whole, so that there may be more than was asked for, but less than a machine more.
    if spec.nodes not in (None, nodes) or (spec.gpus is not None and not 0 <= there - spec.gpus < max(largest, 1)):
        return False
    one = spec.replace(
        gpus=None if spec.gpus is None or largest < 1 else spec.gpus_per_node or 1,
        nodes=1,
        name=None,
        tags={},
        reservations=(),
        spot="prefer",
        flex_start=True,
        estimates=True,
        placement="zone",
        interconnect="any",
        max_price=None,
        max_hourly=None,
        budget=None,
    )
    try:
        plan = plan_for(session, one, outages=())
    except SpecError:
        return False
    return {(part.offer.region, part.offer.instance) for part in parts} <= {(one.region, one.instance) for one in plan}
