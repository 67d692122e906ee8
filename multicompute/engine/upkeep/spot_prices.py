"""Follows the spot price of nodes that run, so that cost and budget use what is paid."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from multicompute.engine.operation.operation import Operation
from multicompute.errors import MulticomputeError
from multicompute.ledger import AttemptRecord, NodeRecord
from multicompute.offer import Offer
from multicompute.provider import Capability, PriceChange
from multicompute.session import Session

_INTERVAL: Final = timedelta(hours=1)
"""The interval at which prices are read. Answers have all changes since the last one, so the cost is exact at any interval."""


def is_price_due(session: Session, node: NodeRecord) -> bool:
    """Return whether a node's cloud has to be asked for its price."""
    return (
        node.ended_at is None
        and node.priced_at is not None
        and session.clock.now() >= node.priced_at + _INTERVAL
        and Capability.SPOT_PRICES in session.provider(node.provider).capabilities
    )


def follow_spot_prices(op: Operation, nodes: Sequence[NodeRecord]) -> list[NodeRecord]:
    """Return the nodes with the prices that they had since their clouds were asked last; a price that can't be read is unchanged."""
    due = [node for node in nodes if is_price_due(op.session, node)]
    if not due:
        return list(nodes)
    attempts = {attempt.token: attempt for attempt in op.ledger.attempts(op.cluster_id)}
    offers = {node.id: _spot_offer(attempts[node.token], node) for node in due}
    changes: dict[Offer, tuple[PriceChange, ...]] = {}
    now = op.clock.now()
    for name in dict.fromkeys(node.provider for node in due):
        since = min(node.priced_at or now for node in due if node.provider == name)
        wanted = list(dict.fromkeys(offers[node.id] for node in due if node.provider == name))
        changes |= _ask(op, name, wanted, since)
    return [_followed(node, offers[node.id], changes, now) if node.id in offers else node for node in nodes]


def _ask(op: Operation, name: str, offers: Sequence[Offer], since: datetime) -> dict[Offer, tuple[PriceChange, ...]]:
    provider = op.provider(name)
    try:
        return dict(op.call(provider, "read spot prices", lambda: provider.spot_prices(offers, since=since)))
    except MulticomputeError as error:
        op.events.add("note", f"{name}: the spot price can't be read: {error.message}", code=error.code)
        return {}


def _spot_offer(attempt: AttemptRecord, node: NodeRecord) -> Offer:
    """Return the offer that a node was bought as, in the zone where it runs."""
    offers = [part.offer for part in attempt.parts if part.offer.purchase == "spot"]
    fitting = (each for each in offers if each.instance_type == node.instance_type)
    return replace(next(fitting, offers[0]), zone=node.zone)


def _followed(
    node: NodeRecord, offer: Offer, changes: dict[Offer, tuple[PriceChange, ...]], now: datetime
) -> NodeRecord:
    if offer not in changes:
        return node
    each = (replace(change, hourly_cost=change.hourly_cost / offer.instance.hosts) for change in changes[offer])
    return node.priced(tuple(each), at=now)
