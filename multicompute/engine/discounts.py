"""Counts the nodes of live clusters that discounts cover."""

from collections import Counter
from collections.abc import Mapping, Sequence

from multicompute.ledger import AttemptRecord, NodeRecord
from multicompute.offer import Part
from multicompute.resolver.discounts import Discounts, KnownDiscount
from multicompute.session import Session


def active_discounts(session: Session) -> Discounts | None:
    """Return the configured discounts with the nodes that they cover already; None if there are none.

    Every live node that matches counts, whatever it costs: it uses the commitment. A launch that is under way counts with the
    nodes that it asks for. Two requests at the same time may both count on the same nodes.

    Raises:
        ConfigError: A discount names an unknown cloud or region.
        LedgerError: The ledger can't be read.
    """
    known = session.discounts
    if not known:
        return None
    if not session.has_ledger or all(each.terms.nodes is None for each in known):
        return Discounts(known)
    return Discounts(known, _used(session, known))


def unlimited_discounts(session: Session) -> Discounts | None:
    """Return the discounts that cover any number of nodes, for a plan without a ledger; None if there are none."""
    known = tuple(each for each in session.discounts if each.terms.nodes is None)
    return Discounts(known) if known else None


def _used(session: Session, known: tuple[KnownDiscount, ...]) -> Mapping[int, int]:
    discounts, used = Discounts(known), Counter[int]()
    for cluster in session.ledger.clusters():
        nodes = session.ledger.nodes(cluster.id)
        for attempt in session.ledger.attempts(cluster.id):
            if not attempt.is_open:
                continue
            for part, count in _counts(attempt, [node for node in nodes if node.token == attempt.token]):
                offer = part.offer
                discount = discounts.find(offer.instance, offer.region, offer.purchase)
                if discount is not None:
                    used[discount.position] += count
    return used


def _counts(attempt: AttemptRecord, nodes: Sequence[NodeRecord]) -> list[tuple[Part, int]]:
    """Return how many nodes of each part live, those of a slice counted as one; all of them before they are recorded."""
    if not nodes:
        return [(part, part.nodes) for part in attempt.parts]
    left = [node for node in nodes if node.ended_at is None]
    found = []
    for part in attempt.parts:
        fitting = [node for node in left if node.instance_type == part.offer.instance_type][: part.machines]
        left = [node for node in left if node not in fitting]
        found.append((part, -(-len(fitting) // part.offer.instance.hosts)))
    return found
