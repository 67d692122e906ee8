"""A cluster around tasks: requested before them and torn down after them, whatever becomes of them."""

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
    """Give the tasks inside the block a cluster: its request is their setup, its end their teardown.

    The teardown runs whatever fails, also when the worker of the request is killed before it could clean up.

    Args:
        gpus: accelerators in all.
        type: accelerator ("h100"), TPU slice ("v5p-128") or exact instance type; a list means any of these.
        task_id: the request is this task, the teardown `<task_id>_end`; give two clusters of one DAG two names.
        multicompute_conn_id: the connection to use.
        deferrable: wait for the cluster in the triggerer; as Airflow is configured when left out.
        **arguments: every other field of `multicompute.ClusterSpec` but name, wait and progress.

    Yields:
        The cluster's handle, for `ClusterRunOperator(cluster=...)` and other tasks.

    Example:
        >>> with cluster(gpus=64, type="h100", ttl="12h") as handle:           # doctest: +SKIP
        ...     ClusterRunOperator(task_id="train", cluster=handle, command=["./train.sh"])
    """
    common: dict[str, Any] = {"multicompute_conn_id": multicompute_conn_id}
    # Airflow skips a teardown when all of its setups have failed, and a request that was killed has failed. This one can't
    # fail: it takes no worker, the scheduler itself marks it done.
    begin = EmptyOperator(task_id=f"{task_id}_begin").as_setup()
    request = ClusterRequestOperator(
        task_id=task_id, gpus=gpus, type=type, arguments=dict(arguments), deferrable=deferrable, **common
    ).as_setup()
    end = ClusterTerminateOperator(task_id=f"{task_id}_end", request_task_id=request.task_id, retries=3, **common)
    begin >> request
    with end.as_teardown(setups=[begin, request]):
        yield request.output
