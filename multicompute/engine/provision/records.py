"""Turns the nodes that a cloud returns into ledger records with ranks and prices."""

from collections.abc import Sequence
from datetime import datetime

from multicompute.ledger import AttemptRecord, NodeRecord
from multicompute.node import Node
from multicompute.offer import Part
from multicompute.spec import ClusterSpec


def node_records(
    attempt: AttemptRecord, nodes: Sequence[Node], *, at: datetime, first_rank: int | None
) -> list[NodeRecord]:
    """Return the records of the nodes of an attempt, each with the price of the part that it belongs to.

    Ranks are consecutive from `first_rank`; without it there are none, since the gang is not complete.
    """
    records = []
    for index, node in enumerate(nodes):
        offer = _part_of(attempt.parts, index, node).offer
        record = NodeRecord(
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
            accelerators=offer.instance.accelerators / offer.instance.hosts,
            hourly_cost=offer.hourly_cost / offer.instance.hosts,
            priced_at=at if offer.purchase == "spot" else None,
        )
        records.append(record)
    return records


def _part_of(parts: Sequence[Part], index: int, node: Node) -> Part:
    """Return the part that a node belongs to: by type and zone if only one part fits, else by the order of the launch."""
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


def is_complete_gang(spec: ClusterSpec, attempts: Sequence[AttemptRecord]) -> bool:
    """Return whether these attempts together are what the spec asks for.

    A gang in several regions is launched region by region, so a process can die between two of them.
    """
    parts = [part for attempt in attempts for part in attempt.parts]
    accelerators = sum(part.nodes * part.offer.instance.accelerators for part in parts)
    nodes = sum(part.nodes for part in parts)
    return accelerators >= (spec.gpus or 0) and nodes >= (spec.nodes or 1)
