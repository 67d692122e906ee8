"""Whose cluster it is: the flow run and the task run that ask, and what stays the same of them when they are run again."""

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
"""The tag with the id of the flow run, by which its hooks find what is left."""

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
    """The innermost flow or task that runs here.

    Attributes:
        flow_run: id of the flow run; of the task run where a task runs without a flow.
        flow: name of the flow.
        task: name of the task, "" in the flow itself.
        task_key: what tells the task's function from others.
        task_run: id of the task run, the same in all its tries.
        attempt: how often the flow run was begun.
        counters: what lives as long as this run of the flow in this process.
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
        """Tags that say on every machine for whom it runs."""
        tags = {"prefect-flow": tag_value(self.flow), FLOW_RUN_TAG: self.flow_run}
        return tags | ({"prefect-task": tag_value(self.task)} if self.task else {})

    def name_for(self, wanted: Mapping[str, object], *, once: bool) -> str:
        """The name for a cluster that is wanted here, the same when the flow run is run again and asks for the same.

        Prefect gives every call of a task a new random key, also when its flow is tried again. So clusters are told apart by
        what they are, and those that are alike by a number. Among these it does not matter which is whose.

        Args:
            wanted: what is asked for.
            once: whether this task run asks for one cluster only, so that all its tries mean the same.
        """
        alike = json.dumps([self.task_key, wanted], sort_keys=True)
        place = f"multicompute:{self.attempt}:{alike}"
        mine = f"{place}:{self.task_run}"
        number = self.counters.get(mine) if once else None
        if number is None:
            # On the context itself, since it has to end with it. setdefault and next are each one step, whatever other threads do.
            number = self.counters[mine] = next(self.counters.setdefault(place, itertools.count()))
        return run_name(self.flow or self.task, self.flow_run, alike, str(number))


def current_run() -> Run:
    """The run that this code is part of.

    Raises:
        MissingContextError: there is none.
    """
    flow_context, task_context = FlowRunContext.get(), TaskRunContext.get()
    flow_run = flow_context.flow_run if flow_context else None
    flow = flow_context.flow.name if flow_context and flow_context.flow else ""
    attempt = flow_run.run_count if flow_run else 0
    # A flow that is called in a task still sees that task's context.
    if task_context is not None and (flow_run is None or task_context.task_run.flow_run_id == flow_run.id):
        task_run = task_context.task_run
        # Where a task was sent to another process, its flow's context is a copy: nothing to count in.
        is_apart = flow_context is None or flow_context.detached
        return Run(
            flow_run=str(task_run.flow_run_id or task_run.id),
            flow=flow,
            task=task_context.task.name,
            task_key=f"{task_context.task.task_key}:{task_run.id}" if is_apart else task_context.task.task_key,
            task_run=str(task_run.id),
            attempt=attempt,
            counters={} if is_apart or flow_context is None else flow_context.task_run_dynamic_keys,
        )
    if flow_context is None or flow_run is None:
        raise MissingContextError("a cluster for Prefect can be had in a flow or a task only: there is no run here")
    counters: dict[str, Any] = flow_context.task_run_dynamic_keys
    return Run(str(flow_run.id), flow, "", "", "", attempt, counters)


def asked_for(
    gpus: int | None, type: str | Sequence[str], arguments: Mapping[str, Any], *, once: bool = False
) -> dict[str, Any]:
    """The arguments of a request, with the run's name, tags and logger filled in.

    Raises:
        SpecError: the arguments are no spec.
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
    """A callback that writes a cluster's events into the log of the run; it may be called from any thread."""
    logger = get_run_logger()

    def write(event: Event) -> None:
        is_count = event.kind == "waiting" and "nodes_ready" in event.data
        logger.log(logging.DEBUG if is_count else _LEVELS.get(event.kind, logging.INFO), "%s", event.message)

    return write
