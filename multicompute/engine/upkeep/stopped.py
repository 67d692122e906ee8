"""Starts nodes that were stopped from outside, and deletes those that were replaced."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from multicompute.engine.operation.operation import Operation
from multicompute.engine.operation.regions import by_region
from multicompute.engine.provision.launch import launch_request
from multicompute.engine.teardown import terminate_and_wait
from multicompute.engine.upkeep.refresh import refresh_nodes
from multicompute.errors import ProviderError, ProvisionTimeout
from multicompute.ledger import AttemptRecord, ClusterRecord, NodeRecord
from multicompute.node import NodeState
from multicompute.provider import Capability
from multicompute.units import counted


def start_stopped_nodes(op: Operation) -> ClusterRecord:
    """Start every stopped node of a cluster, wait until all that are starting run, and return the record.

    Raises:
        CapacityError, QuotaError, ...: A node can't be started now; it stays stopped.
        ProviderError: The cloud can't start nodes again.
        ProvisionTimeout: A node did not run in time.
    """
    nodes = [node for node in op.ledger.nodes(op.cluster_id) if node.rank >= 0]
    # A process that died may have started some, which do not run yet.
    awaited = {node.id: node for node in nodes if node.is_stopped or node.state == NodeState.PENDING}
    tokens = {node.token for node in awaited.values() if node.is_stopped}
    for attempt in op.ledger.attempts(op.cluster_id):
        if attempt.token in tokens:
            _start(op, attempt)
    while awaited:
        record = refresh_nodes(op)
        nodes = [node for node in op.ledger.nodes(op.cluster_id) if node.id in awaited]
        waiting = sum(node.state != NodeState.RUNNING for node in nodes)
        if not waiting:
            return record
        _require_time(op, f"{counted(waiting, 'node')} started and not running yet")
        op.sleep(max(op.session.provider(node.provider).poll_interval for node in nodes))
    return op.reload()


def _start(op: Operation, attempt: AttemptRecord) -> None:
    provider = op.provider(attempt.provider)
    if Capability.RESTART not in provider.capabilities:
        raise ProviderError(
            f"{op.name}: {provider.name} can't start its stopped nodes again",
            provider=provider.name,
            region=attempt.region,
            hint=f"replace them: `multicompute heal {op.name} --stopped replace`, or heal(stopped='replace')",
        )
    request = replace(launch_request(op, attempt), restart=True)
    op.call(provider, "start nodes", partial(provider.launch, request))


def _require_time(op: Operation, progress: str) -> None:
    op.heartbeat()
    if op.deadline is not None and op.clock.now() >= op.deadline:
        raise ProvisionTimeout(f"{op.name}: {progress}")


def delete_nodes(op: Operation, nodes: Iterable[NodeRecord]) -> None:
    """Delete single nodes of a cluster that have no rank any more, and record their end.

    Raises:
        TeardownIncomplete: Something is left of them.
    """
    for where, members in by_region(nodes).items():
        provider = op.provider(where.provider)
        selector = replace(op.selector(where), only=tuple(node.id for node in members))
        terminate_and_wait(op, provider, (), selector)
        gone = [node.observed(NodeState.GONE, at=op.clock.now(), is_lost=True) for node in members]
        op.ledger.put_nodes(op.cluster_id, [replace(node, rank=-1) for node in gone])
