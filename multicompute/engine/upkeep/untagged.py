"""Sets the tags of nodes again that a user, a policy or another tool has removed."""

from collections.abc import Sequence
from functools import partial

from multicompute.engine.operation.operation import Operation
from multicompute.engine.operation.regions import ProviderRegion
from multicompute.engine.operation.tags import tags_of
from multicompute.errors import AccessDeniedError
from multicompute.node import Node
from multicompute.provider import Provider


def restore_tags(op: Operation, provider: Provider, where: ProviderRegion, untagged: Sequence[Node]) -> None:
    """Set our tags again on nodes that lack them and have a token of the cluster, and report all that lack them.

    A node without a token is only known by its id, so its tags are left alone.
    """
    attempts = {attempt.token: attempt for attempt in op.ledger.attempts(op.cluster_id)}
    for token in dict.fromkeys(node.token for node in untagged):
        names = ", ".join(node.id for node in untagged if node.token == token)
        what = f"{where}: the tags of multicompute were removed from {names}"
        if token not in attempts:
            _report_once(op, f"{what}; set them again, because nothing else finds it if the ledger is lost")
            continue
        tags = tags_of(op.initial, op.spec, attempts[token])
        selector = op.selector(where, token=token)
        call = partial(provider.set_expiry, selector, op.initial.expires_at, restore=tags)
        try:
            op.call(provider, "set tags", call)
        except AccessDeniedError as error:
            # A policy may allow to change only what has our tags. The nodes are known by their ids, so the refresh goes on.
            _report_once(op, f"{what}; they can't be set again: {error.message}")
        else:
            op.events.add("untagged", f"{what}; they were set again")


def _report_once(op: Operation, message: str) -> None:
    """Add an event about tags that stay removed, which every refresh finds again."""
    if message not in [event.message for event in op.ledger.events(op.cluster_id)]:
        op.events.add("untagged", message)
