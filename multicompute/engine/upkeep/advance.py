"""Moves a cluster on that a request did not wait for: READY as soon as all its nodes run."""

from datetime import timedelta
from functools import partial
from typing import Final

from multicompute.engine.operation.operation import Operation
from multicompute.engine.provision.login import is_ssh_closed
from multicompute.engine.provision.records import is_complete_gang
from multicompute.engine.provision.wait import make_ready
from multicompute.ledger import AttemptState, ClusterRecord
from multicompute.node import NodeState

_SSH_PATIENCE: Final = timedelta(minutes=20)
"""The longest time after a launch that a cluster waits for SSH before it is READY; a longer wait would cost money unnoticed."""


def advance(op: Operation) -> ClusterRecord:
    """Ask once whether the nodes of a cluster that is not up yet run; buy nothing, and tear nothing down.

    A gang that has lost a node stays as it is: `wait` tries the next candidates, and `reconcile` tears it down.
    """
    opened = [attempt for attempt in op.ledger.attempts(op.cluster_id) if attempt.is_open]
    if not opened or any(attempt.state is AttemptState.OPEN for attempt in opened):
        # The result of a launch is not known: to find out, it must be repeated.
        return op.reload()
    found = []
    for attempt in opened:
        provider = op.provider(attempt.provider)
        listed = op.call(provider, "list nodes", partial(provider.nodes, attempt.selector))
        found.append([node for node in listed if node.state is NodeState.RUNNING])
    is_running = all(len(nodes) == attempt.nodes for attempt, nodes in zip(opened, found, strict=True))
    if is_running and is_complete_gang(op.spec, opened):
        is_recent = op.clock.now() < max(attempt.opened_at for attempt in opened) + _SSH_PATIENCE
        if is_recent and is_ssh_closed(op, found):
            return op.reload()
        make_ready(op, opened, found)
    return op.reload()
