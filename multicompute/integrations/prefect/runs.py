"""The flow run and task run that request a cluster, and the cluster name that stays the same when they are repeated."""

import itertools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from multicompute.integrations.naming import run_name, tag_value
from multicompute.node import Event
from multicompute.spec import ClusterSpec

FLOW_RUN_TAG: Final = "prefect-flow-run"
"""The tag with the id of the flow run, by which the hooks find its clusters."""

_LEVELS: Final = {
    "capacity": logging.WARNING,
    "quota": logging.WARNING,
    "retry": logging.WARNING,
    "degraded": logging.WARNING,
    "stuck": logging.WARNING,
    "failed": logging.ERROR,
}


@dataclass(frozen=True, slots=True)
class Run:
    """The innermost flow run or task run of this code.

    Attributes:
        flow_run: The id of the flow run, or of the task run for a task without a flow.
        flow: The name of the flow.
        task: The name of the task; "" in the flow itself.
        task_key: Identifies the function of the task.
        task_run: The id of the task run, which is the same for all of its tries.
        attempt: How often the flow run has been started.
        counters: A dictionary that exists as long as this run of the flow in this process.
    """

    flow_run: str
    flow: str
    task: str
    task_key: str
    task_run: str
    attempt: int
    counters: dict[str, Any]

    @property
    def tags(self) -> dict[str, str]:
        """The tags that name the flow, the flow run and the task on every node."""
        tags = {"prefect-flow": tag_value(self.flow), FLOW_RUN_TAG: self.flow_run}
        return tags | ({"prefect-task": tag_value(self.task)} if self.task else {})

    def name_for(self, wanted: Mapping[str, object], *, once: bool) -> str:
        """Return a cluster name that is the same when the flow run is repeated and requests the same cluster.

        Prefect gives each call of a task a new random key, even when its flow is retried. So the name depends on the request,
        and equal requests are numbered. It does not matter which of several equal clusters belongs to which call.

        Args:
            wanted: The request.
            once: Whether this task run requests a single cluster, so that all of its tries get the same number.
        """
        request = json.dumps([self.task_key, wanted], sort_keys=True)
        shared = f"multicompute:{self.attempt}:{request}"
        mine = f"{shared}:{self.task_run}"
        number = self.counters.get(mine) if once else None
        if number is None:
            # Stored in the flow's context, because it must end with it. setdefault and next are atomic for other threads.
            number = self.counters[mine] = next(self.counters.setdefault(shared, itertools.count()))
        return run_name(self.flow or self.task, self.flow_run, request, str(number))


def current_run() -> Run:
    """Return the run that this code is part of.

    Raises:
        MissingContextError: The code runs outside of flows and tasks.
    """
    flow_context, task_context = FlowRunContext.get(), TaskRunContext.get()
    flow_run = flow_context.flow_run if flow_context else None
    flow = flow_context.flow.name if flow_context and flow_context.flow else ""
    attempt = flow_run.run_count if flow_run else 0
    # A flow that is called in a task also has that task's context.
    if task_context is not None and (flow_run is None or task_context.task_run.flow_run_id == flow_run.id):
        task_run = task_context.task_run
        # In another process, the flow's context is a copy and can't hold shared counters.
        is_copy = flow_context is None or flow_context.detached
        return Run(
            flow_run=str(task_run.flow_run_id or task_run.id),
            flow=flow,
            task=task_context.task.name,
            task_key=f"{task_context.task.task_key}:{task_run.id}" if is_copy else task_context.task.task_key,
            task_run=str(task_run.id),
            attempt=attempt,
            counters={} if is_copy or flow_context is None else flow_context.task_run_dynamic_keys,
        )
    if flow_context is None or flow_run is None:
        raise MissingContextError("a Prefect cluster can be requested only inside a flow or a task")
    counters: dict[str, Any] = flow_context.task_run_dynamic_keys
    return Run(str(flow_run.id), flow, "", "", "", attempt, counters)


def request_arguments(
    gpus: int | None, type: str | Sequence[str], arguments: Mapping[str, Any], *, once: bool = False
) -> dict[str, Any]:
    """Return the arguments of a request, completed with the name, the tags and the logger of the run.

    Raises:
        SpecError: The arguments are not a valid spec.
    """
    run = current_run()
    wanted = {"gpus": gpus, "type": type, **arguments}
    spec = ClusterSpec.of(wanted)
    wanted["name"] = spec.name or run.name_for(spec.identity(), once=once)
    wanted["tags"] = {**run.tags, **spec.tags}
    if not callable(spec.progress):
        wanted["progress"] = to_run_logger()
    return wanted


def to_run_logger() -> Callable[[Event], None]:
    """Return a callback that writes a cluster's events to the log of the run, from any thread."""
    logger = get_run_logger()

    def write(event: Event) -> None:
        is_count = event.kind == "waiting" and "nodes_ready" in event.data
        logger.log(logging.DEBUG if is_count else _LEVELS.get(event.kind, logging.INFO), "%s", event.message)

    return write


def lines_to_run_logger() -> Callable[[int, str, str], None]:
    """Return a function that writes the output of commands on nodes to the log of the run, from any thread."""
    logger = get_run_logger()

    def write(rank: int, stream: str, line: str) -> None:
        logger.info("[%d] %s", rank, line)

    return write
