"""The operators: request a cluster, run something for it, and terminate it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.sdk import BaseOperator, BaseOperatorLink, conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferralError

from multicompute.integrations.airflow.hook import MulticomputeHook
from multicompute.integrations.airflow.naming import cluster_name, instance_of, tags_of

if TYPE_CHECKING:
    from airflow.providers.standard.hooks.subprocess import SubprocessHook
    from airflow.sdk import Context
    from airflow.sdk.types import TaskInstanceKey

    from multicompute import Cluster
    from multicompute.remote.results import RunResult

_RESERVED = ("name", "wait", "progress")
"""The arguments that the operator sets."""
_GRACE = timedelta(minutes=10)
"""The time that Airflow waits beyond the trigger's own deadline, at which the trigger tears down the cluster."""


class ClusterLink(BaseOperatorLink):
    """A link on the task's page to the cluster on the connection's dashboard."""

    name = "Cluster"

    def get_link(self, operator: BaseOperator, *, ti_key: "TaskInstanceKey") -> str:
        """Return the URL. Airflow calls this in the worker when the task has ended."""
        return getattr(operator, "page", "")


class _ClusterOperator(BaseOperator):
    """An operator with a connection, and the color of its box."""

    ui_color = "#d9e8d4"

    def __init__(self, *, multicompute_conn_id: str = MulticomputeHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multicompute_conn_id = multicompute_conn_id

    @property
    def hook(self) -> MulticomputeHook:
        return MulticomputeHook(self.multicompute_conn_id)


class ClusterRequestOperator(_ClusterOperator):
    """An operator that requests a cluster, all nodes or none, and tears it down on failure, kill or timeout.

    The name of the cluster is made from DAG, run, task and map index, so that a retry finds the cluster of an earlier try.
    The task returns a small handle (name, id, place, head, price) for `ClusterRunOperator` and `ClusterTerminateOperator`.

    A worker that is killed by SIGKILL can't clean up. Use `cluster(...)`, which adds a teardown task for this.

    Args:
        gpus: The total number of accelerators, or a template for it.
        type: An accelerator ("h100"), TPU slice type ("v5p-128") or instance type; a list means any of them.
        arguments: Any other fields of `multicompute.ClusterSpec` except name, wait and progress.
        deferrable: Whether to wait in the triggerer; by default as Airflow's `[operators] default_deferrable`.
        multicompute_conn_id: The connection to use.
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
        """Keep the arguments; they are checked when the task runs, after templates are rendered."""
        super().__init__(**kwargs)
        self.gpus = gpus
        self.type = type
        self.arguments = arguments
        self.deferrable = deferrable
        self.page = ""
        self._request: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def execute(self, context: "Context") -> dict[str, object]:
        """Request the cluster, and wait for it here or in the triggerer."""
        deferrable = self.deferrable
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        with self.hook.configured() as hook:
            arguments = self._request_arguments(context, hook)
            cluster = self._submit({**arguments, "wait": not deferrable})
            if deferrable:
                self._defer(cluster)
            return self._handle(hook, cluster)

    def execute_complete(self, context: "Context", event: Mapping[str, str]) -> dict[str, object]:
        """Continue after the triggerer has brought the cluster up, or has failed to."""
        if event["error"]:
            raise AirflowException(event["error"])
        with self.hook.configured() as hook:
            return self._handle(hook, hook.get_conn().get(event["name"]))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: "Context") -> Any:
        """Resume as Airflow does, but tear down the cluster if the trigger itself failed or timed out."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralError:
            with self.hook.configured() as hook:
                _terminate(hook, cluster_name(*instance_of(context)))
            raise

    def on_kill(self) -> None:
        """Cancel the request, which then tears down what it has launched.

        The teardown can't run here, because Airflow calls this method in a signal handler.
        """
        if self._request is not None:
            loop, task = self._request
            loop.call_soon_threadsafe(task.cancel)

    def _request_arguments(self, context: "Context", hook: MulticomputeHook) -> dict[str, Any]:
        arguments = dict(self.arguments or {})
        for name in _RESERVED:
            if name in arguments:
                raise AirflowFailException(
                    f"{name}: can't be set in a DAG; the operator sets it, so that a retry finds its cluster"
                )
        instance = instance_of(context)
        arguments["tags"] = {**arguments.get("tags", {}), **tags_of(*instance[:3])}
        if arguments.get("clouds") is None:
            arguments["clouds"] = hook.clouds
        gpus = int(self.gpus) if isinstance(self.gpus, str) and self.gpus.isdecimal() else self.gpus
        return {**arguments, "gpus": gpus, "type": self.type, "name": cluster_name(*instance)}

    def _submit(self, arguments: Mapping[str, Any]) -> "Cluster":
        from multicompute import errors

        try:
            return asyncio.run(self._request_cluster(arguments))
        except (errors.SpecError, errors.InvalidRequestError) as error:
            # A retry would fail in the same way.
            raise AirflowFailException(str(error)) from error
        except asyncio.CancelledError:
            raise AirflowException(
                "killed while requesting a cluster; everything that was launched has been torn down"
            ) from None

    async def _request_cluster(self, arguments: Mapping[str, Any]) -> "Cluster":
        from multicompute import Cluster, ClusterState, errors

        task = asyncio.current_task()
        assert task is not None
        self._request = (asyncio.get_running_loop(), task)
        try:
            try:
                earlier = await asyncio.to_thread(Cluster.get, arguments["name"])
            except errors.ClusterNotFound:
                earlier = None
            if earlier is not None and earlier.state is ClusterState.TERMINATING:
                # A cluster of the same task before it was cleared or killed. Its name is free when its teardown is finished.
                self.log.info("%s is being torn down; waiting until that is finished", earlier.name)
                await earlier.aterminate()
            return await Cluster.arequest(progress=lambda event: self.log.info("%s", event.message), **arguments)
        finally:
            self._request = None

    def _defer(self, cluster: "Cluster") -> None:
        """Defer the task, which leaves the worker by an exception."""
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
        self.defer(trigger=trigger, method_name="execute_complete", timeout=limit + _GRACE)

    def _handle(self, hook: MulticomputeHook, cluster: "Cluster") -> dict[str, object]:
        self.page = hook.page_of(cluster)
        self.log.info("%r: %d nodes at $%.2f per hour, until %s", cluster, len(cluster.nodes), *_terms(cluster))
        shown = cluster.to_dict()
        kept = ("name", "id", "provider", "region", "zone", "hourly_usd", "expires_at")
        return {**{key: shown[key] for key in kept}, "gpus": cluster.gpus, "head": _address(cluster.head)}


class ClusterRunOperator(_ClusterOperator):
    """An operator that runs a command on the nodes of a cluster that is up, or a function on the worker.

    A command runs on all nodes at once, as `Cluster.run` does it, with the variables that every command on a node gets. Its
    output goes to the task's log, with the rank before each line. The task returns the last line that the first of these
    nodes wrote to stdout. A function gets the `Cluster` as its first argument, and the task returns its result; it can call
    `cluster.torchrun` and the like.

    With `on="worker"`, the command runs on the worker, with the variables `MULTICOMPUTE_CLUSTER`, `MULTICOMPUTE_NODES`,
    `MULTICOMPUTE_HEAD_ADDR` and `MULTICOMPUTE_NODE_ADDRS`, and with the ledger, so that it can run `multicompute`.

    Args:
        cluster: The handle that the request returned, or the name of a cluster.
        command: A list to run without a shell, or a text to run by a shell.
        on: Where the command runs.
        ranks: The nodes; all of them if omitted.
        env: Variables for the command.
        cwd: The folder on the nodes to run it in.
        timeout: How long it may run there, "10m" or a timedelta.
        python_callable: The function.
        op_kwargs: Further arguments for the function.
        multicompute_conn_id: The connection to use.
    """

    template_fields: Sequence[str] = ("cluster", "command", "env", "cwd", "op_kwargs", "multicompute_conn_id")
    template_fields_renderers: ClassVar[Mapping[str, str]] = {"command": "bash", "env": "json", "op_kwargs": "py"}

    def __init__(
        self,
        *,
        cluster: Any,
        command: str | Sequence[str] | None = None,
        on: Literal["nodes", "worker"] = "nodes",
        ranks: Sequence[int] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: str | timedelta | None = None,
        python_callable: Callable[..., Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Refuse a task without exactly one of `command` and `python_callable`."""
        super().__init__(**kwargs)
        if (command is None) == (python_callable is None):
            raise ValueError("ClusterRunOperator: needs a command or a python_callable, and not both")
        if on not in ("nodes", "worker"):
            raise ValueError(f"ClusterRunOperator: on={on!r}: must be 'nodes' or 'worker'")
        self.cluster = cluster
        self.command = command
        self.on = on
        self.ranks = ranks
        self.env = env
        self.cwd = cwd
        self.timeout = timeout
        self.python_callable = python_callable
        self.op_kwargs = op_kwargs
        self._process: SubprocessHook | None = None
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def execute(self, context: "Context") -> Any:
        """Refresh the cluster, then run the command or the function."""
        with self.hook.configured() as hook:
            cluster = hook.get_conn().get(_name(self.cluster)).refresh()
            if not cluster.nodes:
                raise AirflowException(
                    f"{cluster.name}: is {cluster.state} ({cluster.reason}); clear its request task to get a new cluster"
                )
            if self.python_callable is not None:
                return self.python_callable(cluster, **(self.op_kwargs or {}))
            return self._run_on_nodes(cluster) if self.on == "nodes" else self._run_on_worker(hook, cluster)

    def on_kill(self) -> None:
        """End the command, but not the cluster, which its own teardown task terminates."""
        if self._process is not None:
            self._process.send_sigterm()
        if self._running is not None:
            loop, task = self._running
            loop.call_soon_threadsafe(task.cancel)

    def _run_on_nodes(self, cluster: "Cluster") -> str:
        from multicompute import errors

        try:
            results = asyncio.run(self._arun(cluster))
        except errors.SpecError as error:
            # A retry would fail in the same way.
            raise AirflowFailException(str(error)) from error
        except errors.MulticomputeError as error:
            raise AirflowException(str(error)) from error
        except asyncio.CancelledError:
            raise AirflowException(f"killed; the command was ended on all nodes of {cluster.name}") from None
        lines = results[0].stdout.splitlines() if results else []
        return lines[-1] if lines else ""

    async def _arun(self, cluster: "Cluster") -> "list[RunResult]":
        task = asyncio.current_task()
        assert task is not None
        assert self.command is not None
        self._running = (asyncio.get_running_loop(), task)
        try:
            return await cluster.arun(
                self.command,
                ranks=self.ranks,
                env=self.env,
                cwd=self.cwd,
                timeout=self.timeout,
                stream=lambda rank, _, line: self.log.info("[%d] %s", rank, line),
            )
        finally:
            self._running = None

    def _run_on_worker(self, hook: MulticomputeHook, cluster: "Cluster") -> str:
        from airflow.providers.standard.hooks.subprocess import SubprocessHook

        from multicompute.config import apply_environment

        assert self.command is not None
        argv = ["bash", "-c", self.command] if isinstance(self.command, str) else list(self.command)
        addresses = [_address(node) for node in cluster.nodes]
        known = {
            "MULTICOMPUTE_CLUSTER": cluster.name,
            "MULTICOMPUTE_NODES": str(len(addresses)),
            "MULTICOMPUTE_HEAD_ADDR": addresses[0],
            "MULTICOMPUTE_NODE_ADDRS": ",".join(addresses),
        }
        self._process = SubprocessHook()
        # A task runs in its own process, so changing the environment affects nothing else.
        with apply_environment({**hook.variables(), **known, **(self.env or {})}):
            done = self._process.run_command(argv, cwd=self.cwd)
        if done.exit_code:
            raise AirflowException(f"the command for {cluster.name} failed with status {done.exit_code}: {done.output}")
        return str(done.output)


class ClusterTerminateOperator(_ClusterOperator):
    """An operator that terminates clusters and waits until none of their resources exists.

    A cluster that never existed or has already ended is not an error.

    Args:
        cluster: The handle that the request returned, the name of a cluster, or a list of these, as a mapped request returns.
        request_task_id: The task that requested the cluster, for use without a handle: a killed task returns none.
        multicompute_conn_id: The connection to use.
    """

    template_fields: Sequence[str] = ("cluster", "request_task_id", "multicompute_conn_id")

    def __init__(self, *, cluster: Any = None, request_task_id: str | None = None, **kwargs: Any) -> None:
        """Refuse a task without exactly one of `cluster` and `request_task_id`."""
        super().__init__(**kwargs)
        if (cluster is None) == (request_task_id is None):
            raise ValueError("ClusterTerminateOperator: needs a cluster or a request_task_id, and not both")
        self.cluster = cluster
        self.request_task_id = request_task_id

    def execute(self, context: "Context") -> None:
        """Terminate all clusters, even if one fails, and raise the first error at the end."""
        from multicompute import errors

        failures: list[errors.MulticomputeError] = []
        with self.hook.configured() as hook:
            for name in self._names(context):
                try:
                    _terminate(hook, name)
                    self.log.info("%s: terminated", name)
                except errors.MulticomputeError as error:
                    self.log.error("%s: %s", name, error)
                    failures.append(error)
        if failures:
            raise failures[0]

    def _names(self, context: "Context") -> list[str]:
        if self.request_task_id is not None:
            dag_id, run_id, _, map_index = instance_of(context)
            return [cluster_name(dag_id, run_id, self.request_task_id, map_index)]
        if isinstance(self.cluster, (str, Mapping)):
            return [_name(self.cluster)]
        return [_name(handle) for handle in self.cluster or ()]


def _terminate(hook: MulticomputeHook, name: str) -> None:
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
