"""The operators: request a cluster, run something on it, terminate it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, BaseOperatorLink, conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferralError

from multicompute.integrations.airflow.hook import MulticomputeHook
from multicompute.integrations.airflow.naming import cluster_name, instance_of, tags_of

if TYPE_CHECKING:
    from airflow.providers.standard.hooks.subprocess import SubprocessHook
    from airflow.sdk import Context
    from airflow.sdk.types import TaskInstanceKey

    from multicompute import Cluster

_OURS = ("name", "wait", "progress")
_SPARE = timedelta(minutes=10)
"""How much longer than the trigger itself Airflow waits for it: it keeps its own deadline, and tears down at its end."""


class ClusterLink(BaseOperatorLink):
    """A button on the task's page that leads to the cluster on the connection's dashboard."""

    name = "Cluster"

    def get_link(self, operator: BaseOperator, *, ti_key: "TaskInstanceKey") -> str:
        """Asked for by Airflow in the worker, once the task is through."""
        return getattr(operator, "page", "")


class _ClusterOperator(BaseOperator):
    """What the operators share: the connection, and the color of their boxes."""

    ui_color = "#d9e8d4"

    def __init__(self, *, multicompute_conn_id: str = MulticomputeHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multicompute_conn_id = multicompute_conn_id

    @property
    def hook(self) -> MulticomputeHook:
        return MulticomputeHook(self.multicompute_conn_id)


class ClusterRequestOperator(_ClusterOperator):
    """Get a cluster, all of it or nothing; what fails, is killed or runs out of time is torn down.

    Its name is made from dag, run, task and map index, so that a retry finds the cluster of the try before. Returns a small
    handle (name, id, place, head, price) for `ClusterRunOperator` and `ClusterTerminateOperator`.

    A worker that is killed with SIGKILL can't clean up. Use `cluster(...)`, whose teardown then does.

    Args:
        gpus: accelerators in all, as a number or a template that gives one.
        type: accelerator ("h100"), TPU slice ("v5p-128") or exact instance type; a list means any of these.
        arguments: every other field of `multicompute.ClusterSpec` but name, wait and progress.
        deferrable: wait for it in the triggerer; as Airflow's `[operators] default_deferrable` says when left out.
        multicompute_conn_id: the connection to use.
    """

    template_fields: Sequence[str] = ("gpus", "type", "arguments", "multicompute_conn_id")
    template_fields_renderers: ClassVar[Mapping[str, str]] = {"arguments": "json"}
    operator_extra_links = (ClusterLink(),)

    def __init__(
        self,
        *,
        gpus: int | str | None = None,
        type: str | Sequence[str] = (),
        arguments: Mapping[str, Any] | None = None,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gpus = gpus
        self.type = type
        self.arguments = arguments
        self.deferrable = deferrable
        self.page = ""
        self._request: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def execute(self, context: "Context") -> dict[str, object]:
        """Request it, and wait for it here or in the triggerer."""
        deferrable = self.deferrable
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        with self.hook.configured() as hook:
            wanted = self._wanted(context, hook)
            cluster = self._requested({**wanted, "wait": not deferrable})
            if deferrable:
                self._defer(cluster)
            return self._handle(hook, cluster)

    def execute_complete(self, context: "Context", event: Mapping[str, str]) -> dict[str, object]:
        """Go on where the triggerer has brought the cluster up, or could not."""
        if event["error"]:
            raise AirflowException(event["error"])
        with self.hook.configured() as hook:
            return self._handle(hook, hook.get_conn().get(event["name"]))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: "Context") -> Any:
        """As Airflow has it; where the trigger itself has failed, or came to no end, what it has left is torn down."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralError:
            with self.hook.configured() as hook:
                _end(hook, cluster_name(*instance_of(context)))
            raise

    def on_kill(self) -> None:
        """Have the request stop at its next safe point and tear down what it has begun.

        It is not done here: Airflow calls this in a signal handler, in the midst of whatever the request is doing.
        """
        if self._request is not None:
            loop, task = self._request
            loop.call_soon_threadsafe(task.cancel)

    def _wanted(self, context: "Context", hook: MulticomputeHook) -> dict[str, Any]:
        arguments = dict(self.arguments or {})
        for name in _OURS:
            if name in arguments:
                raise AirflowFailException(f"{name}: is not for the DAG to choose: a retry must find its cluster")
        instance = instance_of(context)
        arguments["tags"] = {**arguments.get("tags", {}), **tags_of(*instance[:3])}
        if arguments.get("clouds") is None:
            arguments["clouds"] = hook.clouds
        gpus = int(self.gpus) if isinstance(self.gpus, str) and self.gpus.isdecimal() else self.gpus
        return {**arguments, "gpus": gpus, "type": self.type, "name": cluster_name(*instance)}

    def _requested(self, wanted: Mapping[str, Any]) -> "Cluster":
        from multicompute import errors

        try:
            return asyncio.run(self._ask(wanted))
        except (errors.SpecError, errors.InvalidRequestError) as error:
            # No retry mends it.
            raise AirflowFailException(str(error)) from error
        except asyncio.CancelledError:
            raise AirflowException("killed while it requested a cluster; what had been begun is torn down") from None

    async def _ask(self, wanted: Mapping[str, Any]) -> "Cluster":
        from multicompute import Cluster, ClusterState, errors

        task = asyncio.current_task()
        assert task is not None
        self._request = (asyncio.get_running_loop(), task)
        try:
            try:
                before = await asyncio.to_thread(Cluster.get, wanted["name"])
            except errors.ClusterNotFound:
                before = None
            if before is not None and before.state is ClusterState.TERMINATING:
                # Of the same task, before it was cleared or killed: its name is free when nothing of it is left.
                self.log.info("%s is still being torn down; waiting for that", before.name)
                await before.aterminate()
            return await Cluster.arequest(progress=lambda event: self.log.info("%s", event.message), **wanted)
        finally:
            self._request = None

    def _defer(self, cluster: "Cluster") -> None:
        """Leave the worker, by the exception that Airflow takes for that."""
        from multicompute.clock import SystemClock
        from multicompute.integrations.airflow.triggers import ClusterReadyTrigger

        spec = cluster.spec
        limit = spec.timeout + (spec.keep_trying or timedelta(0))
        trigger = ClusterReadyTrigger(
            name=cluster.name,
            deadline=(SystemClock().now() + limit).isoformat(),
            multicompute_conn_id=self.multicompute_conn_id,
        )
        self.log.info("%s is requested; waiting for it in the triggerer", cluster.name)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=limit + _SPARE)

    def _handle(self, hook: MulticomputeHook, cluster: "Cluster") -> dict[str, object]:
        self.page = hook.page_of(cluster)
        self.log.info("%r: %d nodes at $%.2f an hour, until %s", cluster, len(cluster.nodes), *_terms(cluster))
        shown = cluster.to_dict()
        kept = ("name", "id", "provider", "region", "zone", "hourly_usd", "expires_at")
        return {**{key: shown[key] for key in kept}, "gpus": cluster.gpus, "head": _address(cluster.head)}


class ClusterRunOperator(_ClusterOperator):
    """Run a command or a function, on the worker, for a cluster that is up.

    A command finds the cluster in its environment: `MULTICOMPUTE_CLUSTER` (the name), `MULTICOMPUTE_HEAD` (the address of the
    node of rank 0) and `MULTICOMPUTE_NODES` (all addresses by rank, with commas between), and the ledger, so that the command
    line `multicompute` works in it. Its last line of output is what the task returns. A function gets the `Cluster` as its
    first argument, and what it returns the task returns.

    Args:
        cluster: the handle that the request returned, or a cluster's name.
        command: a list, run as it is; or a text, run by bash.
        python_callable: the function.
        op_kwargs: further arguments for the function.
        multicompute_conn_id: the connection to use.
    """

    template_fields: Sequence[str] = ("cluster", "command", "op_kwargs", "multicompute_conn_id")
    template_fields_renderers: ClassVar[Mapping[str, str]] = {"command": "bash", "op_kwargs": "py"}

    def __init__(
        self,
        *,
        cluster: Any,
        command: str | Sequence[str] | None = None,
        python_callable: Callable[..., Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (command is None) == (python_callable is None):
            raise ValueError("ClusterRunOperator: needs a command or a python_callable, and not both")
        self.cluster = cluster
        self.command = command
        self.python_callable = python_callable
        self.op_kwargs = op_kwargs
        self._process: SubprocessHook | None = None

    def execute(self, context: "Context") -> Any:
        """Look at the cluster, and run it."""
        with self.hook.configured() as hook:
            cluster = hook.get_conn().get(_name(self.cluster)).refresh()
            if not cluster.nodes:
                raise AirflowException(
                    f"{cluster.name}: is {cluster.state}: {cluster.reason}; clear its request to get another"
                )
            if self.python_callable is not None:
                return self.python_callable(cluster, **(self.op_kwargs or {}))
            return self._run(hook, cluster)

    def on_kill(self) -> None:
        """End the command; the cluster is its teardown's to end."""
        if self._process is not None:
            self._process.send_sigterm()

    def _run(self, hook: MulticomputeHook, cluster: "Cluster") -> str:
        from airflow.providers.standard.hooks.subprocess import SubprocessHook

        from multicompute.config import apply_environment

        assert self.command is not None
        argv = ["bash", "-c", self.command] if isinstance(self.command, str) else list(self.command)
        known = {
            "MULTICOMPUTE_CLUSTER": cluster.name,
            "MULTICOMPUTE_HEAD": _address(cluster.head),
            "MULTICOMPUTE_NODES": ",".join(_address(node) for node in cluster.nodes),
        }
        self._process = SubprocessHook()
        # A task has a process of its own, so its environment is nobody else's.
        with apply_environment({**hook.variables(), **known}):
            done = self._process.run_command(argv)
        if done.exit_code:
            raise AirflowException(f"the command on {cluster.name} ended with status {done.exit_code}: {done.output}")
        return str(done.output)


class ClusterTerminateOperator(_ClusterOperator):
    """Terminate clusters, and return when their clouds have said that nothing of them is left.

    One that was never there, or has ended, is well.

    Args:
        cluster: the handle that the request returned, a cluster's name, or a list of either, such as a mapped request returns.
        request_task_id: the task that requested it, where there may be no handle, since that task was killed.
        multicompute_conn_id: the connection to use.
    """

    template_fields: Sequence[str] = ("cluster", "request_task_id", "multicompute_conn_id")

    def __init__(self, *, cluster: Any = None, request_task_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if (cluster is None) == (request_task_id is None):
            raise ValueError("ClusterTerminateOperator: needs a cluster or a request_task_id, and not both")
        self.cluster = cluster
        self.request_task_id = request_task_id

    def execute(self, context: "Context") -> None:
        """End all of them, also where one can't be ended; the first trouble is raised at the end."""
        from multicompute import errors

        troubles: list[errors.MulticomputeError] = []
        with self.hook.configured() as hook:
            for name in self._names(context):
                try:
                    _end(hook, name)
                    self.log.info("%s: nothing of it is left", name)
                except errors.MulticomputeError as error:
                    self.log.error("%s: %s", name, error)
                    troubles.append(error)
        if troubles:
            raise troubles[0]

    def _names(self, context: "Context") -> list[str]:
        if self.request_task_id is not None:
            dag_id, run_id, _, map_index = instance_of(context)
            return [cluster_name(dag_id, run_id, self.request_task_id, map_index)]
        if isinstance(self.cluster, (str, Mapping)):
            return [_name(self.cluster)]
        return [_name(handle) for handle in self.cluster or ()]


def _end(hook: MulticomputeHook, name: str) -> None:
    from multicompute import errors

    try:
        cluster = hook.get_conn().get(name)
    except errors.ClusterNotFound:
        return
    cluster.terminate()


def _name(handle: str | Mapping[str, Any]) -> str:
    return handle if isinstance(handle, str) else str(handle["name"])


def _address(node: Any) -> str:
    return str(node.private_ip or node.public_ip or "")


def _terms(cluster: "Cluster") -> tuple[float, object]:
    return cluster.hourly_cost, cluster.expires_at or "it is terminated"
