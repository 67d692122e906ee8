"""Claims the name of a cluster in the ledger, so that a repeated request returns its own cluster (I6)."""

import json
import math
from datetime import timedelta

from multicompute.clock import Random
from multicompute.engine.operation.lease import Lease
from multicompute.engine.planning import plan_for
from multicompute.engine.provision.description import describe_open
from multicompute.errors import ClusterExists, SpecError
from multicompute.ledger import ClusterRecord
from multicompute.node import ClusterState
from multicompute.offer import Part
from multicompute.plan import Candidate
from multicompute.session import Session
from multicompute.spec import ClusterSpec

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def find_claimed(session: Session, spec: ClusterSpec) -> ClusterRecord | None:
    """Return the live cluster that the same request made before, or an adopted one that fits the request, or None.

    Raises:
        ClusterExists: A live cluster of that name was made by another request.
    """
    if spec.name is None:
        return None
    try:
        return session.ledger.claimed(spec.name, _identity(spec))
    except ClusterExists:
        if (record := _adopted_for(session, spec)) is None:
            raise
        return record


def claim(session: Session, spec: ClusterSpec) -> tuple[ClusterRecord, Lease | None]:
    """Create the cluster in the ledger under its name, or find the live one that the same request made before (I6).

    Returns:
        The cluster, and its lease if it is new.

    Raises:
        ClusterExists: A live cluster of that name was made by another request.
    """
    now = session.clock.now()
    cluster_id = f"c-{session.random.getrandbits(64):016x}"
    record = ClusterRecord(
        id=cluster_id,
        name=spec.name or cluster_name(spec, session.random),
        state=ClusterState.REQUESTED,
        owner=session.config.owner,
        spec=spec.to_dict(),
        identity=_identity(spec),
        created_at=now,
        expires_at=now + spec.ttl if isinstance(spec.ttl, timedelta) else None,
    )
    lease = Lease(session, cluster_id)
    holder, until = lease.initial_lease()
    claimed = session.ledger.claim(record, holder=holder, until=until)
    return claimed, lease if claimed.id == cluster_id else None


def cluster_name(spec: ClusterSpec, random: Random) -> str:
    """Return a name made from the spec and a random part: "h100-64-k3x9m"."""
    kind = (spec.type or (spec.workload.task if spec.workload is not None else "reserved",))[0].lower()
    kind = "".join(c if c.isalnum() and c.isascii() else "-" for c in kind).strip("-")
    head = kind if kind[:1].isalpha() else f"c{kind}"
    count = f"-{spec.gpus}" if spec.gpus else ""
    tail = "".join(random.choice(_LETTERS) for _ in range(5))
    return f"{head[:20].rstrip('-')}{count}-{tail}"


def _identity(spec: ClusterSpec) -> str:
    """Return as text what two requests must have in common to be the same request."""
    return json.dumps(spec.identity(), sort_keys=True)


def _adopted_for(session: Session, spec: ClusterSpec) -> ClusterRecord | None:
    """Return the adopted live cluster of the requested name, if it fits the request; None if none was adopted.

    The arguments of the original request are unknown. So a request counts as the same (I6) if it asks for as many
    accelerators as the cluster has, and if each of its machines alone would meet the request in its region. Purchase, prices
    and limits are not compared.

    Raises:
        ClusterExists: The adopted cluster does not fit the request.
    """
    record = next((each for each in session.ledger.clusters() if each.name == spec.name), None)
    if record is None or not json.loads(record.identity).get("adopted"):
        return None
    attempts = [attempt for attempt in session.ledger.attempts(record.id) if attempt.is_open]
    if not _fits(session, spec, tuple(part for attempt in attempts for part in attempt.parts)):
        raise ClusterExists(
            f"{record.name}: the live cluster of this name ({record.state}) was adopted and has "
            f"{', '.join(describe_open(attempts)) or 'nothing'}; the request asks for something else",
            hint=f"choose another name, ask for what it has, or terminate it with `multicompute down {record.name}`",
        )
    return record


def _fits(session: Session, spec: ClusterSpec, parts: tuple[Part, ...]) -> bool:
    if not parts or not spec.type or spec.workload is not None:
        return False
    accelerators, largest = Candidate(parts).accelerators, max(part.offer.instance.accelerators for part in parts)
    nodes = sum(part.nodes for part in parts)
    # Machines are indivisible, so the cluster may have a surplus, but less than one machine.
    if spec.nodes not in (None, nodes) or (
        spec.gpus is not None and not 0 <= accelerators - spec.gpus < max(largest, 1)
    ):
        return False
    one_node = spec.replace(
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
        allow_surplus=True,
        budget=None,
        strict_ttl=False,
    )
    try:
        # It is bought already: a ceiling on what may be bought does not apply.
        plan = plan_for(session, one_node, outages=(), ceiling=math.inf)
    except SpecError:
        return False
    fitting = {(candidate.region, candidate.instance) for candidate in plan}
    return {(part.offer.region, part.offer.instance) for part in parts} <= fitting
