"""Starts the stopped machines of a launch again: those that were deallocated, hibernated, or shut down from inside."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.node import Node, NodeState
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._errors import failed_operation, is_gone, translate_errors
from multicompute_azure._names import instance_number, parse_id
from multicompute_azure._operations import Operation
from multicompute_azure._session import Clients
from multicompute_azure._uniform import begin_start

_START: Final = "virtualMachines.start"
_AT_ONCE: Final = 16


def start_again(clients: Clients, nodes: Sequence[Node], *, patience: timedelta) -> None:
    """Begin to start every stopped machine of `nodes`, and wait a few seconds for refusals.

    A machine that was deallocated has given its host away, so Azure may have no capacity for it. A start that fails later leaves the machine
    deallocated, which `nodes` reports with the reason.

    Raises:
        CapacityError, QuotaError, ...: A machine can't be started; all others are.
    """
    stopped = [node for node in nodes if node.state is NodeState.STOPPED and not node.is_lost]
    begun = in_parallel(lambda node: _begin(clients, node), stopped, at_once=_AT_ONCE)
    refusal = next((answer for answer in begun if isinstance(answer, MulticomputeError)), None)
    if refusal is not None:
        raise refusal
    under_way = [(node, answer) for node, answer in zip(stopped, begun, strict=True) if isinstance(answer, Operation)]
    deadline = clients.clock.now() + patience
    while under_way:
        for node, operation in under_way:
            place = _place(node)
            operation.refresh(_START, place)
            if operation.failure is not None:
                raise failed_operation(operation.failure, _START, place)
        under_way = [(node, operation) for node, operation in under_way if not operation.finished()]
        if clients.clock.now() >= deadline:
            return
        clients.clock.sleep(clients.step)


def _begin(clients: Clients, node: Node) -> Operation | MulticomputeError | None:
    """Begin to start one machine; None if it does not exist any more."""
    named, operation = parse_id(node.id), clients.operation()
    machines: Any = clients.compute.virtual_machines
    try:
        with translate_errors(_START, _place(node)):
            if instance_number(node.id)[1]:
                begin_start(clients, node, operation)
            else:
                machines.begin_start(named.group, named.name, polling=operation)
    except MulticomputeError as error:
        return None if is_gone(error.code) else error
    return operation


def _place(node: Node) -> Place:
    return Place("azure", node.region, node.zone, node.instance_type)
