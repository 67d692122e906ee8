"""Tasks that request, use and terminate a cluster that several tasks of a flow share."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Unpack

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.transactions import Transaction, get_transaction

from multicompute.cluster import Cluster
from multicompute.cluster_requests import RequestArguments
from multicompute.errors import ClusterNotFound
from multicompute.integrations.prefect.block import Configuration, aload, configured, load
from multicompute.integrations.prefect.records import ashow_cost, show_cost
from multicompute.integrations.prefect.runs import lines_to_run_logger, request_arguments
from multicompute.integrations.prefect.scope import aobtain, obtain, refuse_event_loop
from multicompute.remote.results import RunResult

_KEY: Final = "multicompute-cluster"


def _roll_back(transaction: Transaction) -> None:
    """Terminate the cluster of a request whose transaction failed. For async flows, Prefect calls this in a thread."""
    name, block = transaction.get(_KEY, (None, None))
    if name is not None:
        with configured(block):
            try:
                Cluster.get(name).terminate()
            except ClusterNotFound:
                return


# NO_CACHE, because a cached result of an earlier run would name a cluster that has ended.
@task(name="request-cluster", cache_policy=NO_CACHE)
def request_cluster(
    gpus: int | None = None,
    type: str | Sequence[str] = (),
    *,
    config: Configuration = None,
    **arguments: Unpack[RequestArguments],
) -> dict[str, object]:
    """Request a cluster for other tasks. Another request with the same arguments in a retry returns the same cluster.

    `terminate_cluster`, the hooks of the flow or a failed transaction terminate it.

    Args:
        gpus: The total number of accelerators.
        type: An accelerator, TPU slice type or instance type; a list means any of them.
        config: A `Multicompute` block or the name of one.
        **arguments: The other arguments of `Cluster.request`.

    Returns:
        The cluster in the form of `multicompute show --json`, as a handle for `terminate_cluster`.

    Raises:
        SpecError: The call would block an event loop.
        MulticomputeError: Any error of `Cluster.request`.
    """
    refuse_event_loop("request_cluster", instead="`await arequest_cluster(...)`")
    block = load(config)
    with configured(block):
        wanted = request_arguments(gpus, type, arguments, once=True)
        _remember(wanted, block)
        return obtain(wanted).to_dict()


@task(name="request-cluster", cache_policy=NO_CACHE)
async def arequest_cluster(
    gpus: int | None = None,
    type: str | Sequence[str] = (),
    *,
    config: Configuration = None,
    **arguments: Unpack[RequestArguments],
) -> dict[str, object]:
    """Do the same as `request_cluster`, for async flows."""
    block = await aload(config)
    with configured(block):
        wanted = request_arguments(gpus, type, arguments, once=True)
        _remember(wanted, block)
        return (await aobtain(wanted)).to_dict()


request_cluster.on_rollback(_roll_back)
arequest_cluster.on_rollback(_roll_back)


@task(name="terminate-cluster", cache_policy=NO_CACHE)
def terminate_cluster(cluster: Mapping[str, object] | str, *, config: Configuration = None) -> dict[str, object]:
    """Terminate a cluster and wait until none of its resources exists. A cluster that has ended is not changed.

    Args:
        cluster: The handle that `request_cluster` returned, or a name.
        config: The same as for the request.

    Raises:
        ClusterNotFound: No cluster of this name ever existed.
        ProviderError: Resources remain after half an hour; `multicompute reap` tries again.
        SpecError: The call would block an event loop.
    """
    refuse_event_loop("terminate_cluster", instead="`await aterminate_cluster(...)`")
    with configured(load(config)):
        ended = Cluster.get(_name(cluster)).terminate()
    show_cost(ended)
    return ended.to_dict()


@task(name="terminate-cluster", cache_policy=NO_CACHE)
async def aterminate_cluster(cluster: Mapping[str, object] | str, *, config: Configuration = None) -> dict[str, object]:
    """Do the same as `terminate_cluster`, for async flows."""
    with configured(await aload(config)):
        ended = await Cluster.get(_name(cluster)).aterminate()
    await ashow_cost(ended)
    return ended.to_dict()


@task(name="run-on-cluster", cache_policy=NO_CACHE)
def run_on_cluster(
    cluster: Mapping[str, object] | str,
    command: str | Sequence[str],
    *,
    config: Configuration = None,
    ranks: Sequence[int] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    timeout: str | timedelta | None = None,
) -> list[RunResult]:
    """Run a command on the nodes of a cluster, all at once, as `Cluster.run` does it; its output goes to the log of the run.

    Args:
        cluster: The handle that `request_cluster` returned, or a name.
        command: A shell line, or a list of arguments that no shell interprets.
        config: The same as for the request.
        ranks: The nodes; all of them if omitted.
        env: Variables to set.
        cwd: The folder to run in, relative to the login user's home.
        timeout: How long it may run, "10m" or a timedelta.

    Raises:
        RunError: A rank failed, or its node was lost.
        ClusterNotFound: The cluster is not up.
        SpecError: The call would block an event loop.
    """
    refuse_event_loop("run_on_cluster", instead="`await arun_on_cluster(...)`")
    with configured(load(config)):
        return Cluster.get(_name(cluster)).run(
            command, ranks=ranks, env=env, cwd=cwd, timeout=timeout, stream=lines_to_run_logger()
        )


@task(name="run-on-cluster", cache_policy=NO_CACHE)
async def arun_on_cluster(
    cluster: Mapping[str, object] | str,
    command: str | Sequence[str],
    *,
    config: Configuration = None,
    ranks: Sequence[int] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    timeout: str | timedelta | None = None,
) -> list[RunResult]:
    """Do the same as `run_on_cluster`, for async flows; a cancelled task ends the command on all nodes."""
    with configured(await aload(config)):
        return await Cluster.get(_name(cluster)).arun(
            command, ranks=ranks, env=env, cwd=cwd, timeout=timeout, stream=lines_to_run_logger()
        )


def _remember(wanted: Mapping[str, Any], block: object) -> None:
    """Register the cluster with the task's transaction for a rollback, before the request."""
    transaction = get_transaction()
    if transaction is not None:
        transaction.set(_KEY, (wanted["name"], block))


def _name(cluster: Mapping[str, object] | str) -> str:
    return cluster if isinstance(cluster, str) else str(cluster["name"])
