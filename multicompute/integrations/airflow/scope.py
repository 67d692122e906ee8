"""A cluster for a group of tasks: requested before them and torn down after them, whether or not they succeed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Unpack

from airflow.providers.standard.operators.empty import EmptyOperator

from multicompute.cluster_requests import RequestArguments
from multicompute.integrations.airflow.hook import MulticomputeHook
from multicompute.integrations.airflow.operators import ClusterRequestOperator, ClusterTerminateOperator

if TYPE_CHECKING:
    from airflow.sdk import XComArg


@contextmanager
def cluster(
    gpus: int | str | None = None,
    type: str | Sequence[str] = (),
    *,
    task_id: str = "cluster",
    multicompute_conn_id: str = MulticomputeHook.default_conn_name,
    deferrable: bool | None = None,
    **arguments: Unpack[RequestArguments],
) -> Iterator["XComArg"]:
    """Request a cluster as the setup of the tasks inside the block, and terminate it as their teardown.

    The teardown runs whatever fails, even if the worker of the request is killed before it can clean up.

    Args:
        gpus: The total number of accelerators.
        type: An accelerator ("h100"), TPU slice type ("v5p-128") or instance type; a list means any of them.
        task_id: The id of the request task; the teardown is `<task_id>_end`. Clusters of one DAG need different ids.
        multicompute_conn_id: The connection to use.
        deferrable: Whether to wait in the triggerer; by default as Airflow's `[operators] default_deferrable`.
        **arguments: Any other fields of `multicompute.ClusterSpec` except name, wait and progress.

    Yields:
        The cluster's handle, for `ClusterRunOperator(cluster=...)` and other tasks.

    Example:
        >>> with cluster(gpus=64, type="h100", ttl="12h") as handle:           # doctest: +SKIP
        ...     ClusterRunOperator(task_id="train", cluster=handle, command=["./train.sh"])
    """
    common: dict[str, Any] = {"multicompute_conn_id": multicompute_conn_id}
    # Airflow skips a teardown if all of its setups have failed, as a killed request has. This empty setup can't fail: it
    # needs no worker, because the scheduler itself marks it as successful.
    begin = EmptyOperator(task_id=f"{task_id}_begin").as_setup()
    request = ClusterRequestOperator(
        task_id=task_id, gpus=gpus, type=type, arguments=dict(arguments), deferrable=deferrable, **common
    ).as_setup()
    end = ClusterTerminateOperator(task_id=f"{task_id}_end", request_task_id=request.task_id, retries=3, **common)
    begin >> request
    with end.as_teardown(setups=[begin, request]):
        yield request.output
