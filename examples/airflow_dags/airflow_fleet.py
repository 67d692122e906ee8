"""A DAG that trains on a cluster which is terminated at the end of the run. Put this file into your DAGs folder.

Install `multicompute[airflow,aws]` (or another cloud) on workers and triggerers. They need a shared ledger: either the `state`
of a connection `multicompute_default` of type multicompute, or the variable MULTICOMPUTE_STATE.
"""

from typing import TYPE_CHECKING, Any

from airflow.sdk import dag, task

from multicompute.integrations.airflow import ClusterRunOperator, cluster

if TYPE_CHECKING:
    from multicompute import Cluster


def check(cluster: "Cluster") -> int:
    """Return the number of accelerators. Replace this with a check of your own."""
    return sum(int(node.accelerators) for node in cluster.nodes)


@task
def report(handle: dict[str, Any], accelerators: int) -> str:
    """Return a summary for the log."""
    return f"{accelerators} accelerators at ${handle['hourly_usd']:.2f} an hour in {handle['zone']}"


@dag(schedule=None, catchup=False, params={"gpus": 16}, tags=["multicompute"])
def airflow_fleet() -> None:
    """Check and train on one cluster, then report."""
    with cluster(gpus="{{ params.gpus }}", type="h100", ttl="2h", deferrable=True) as handle:
        checked = ClusterRunOperator(task_id="check", cluster=handle, python_callable=check)
        trained = ClusterRunOperator(
            task_id="train",
            cluster=handle,
            # Without `on`, it runs on all nodes: command=["./train.sh", "--data", "{{ ds }}"].
            on="worker",
            command='echo "$MULTICOMPUTE_NODES nodes, the head is $MULTICOMPUTE_HEAD_ADDR"',
        )
        checked >> trained >> report(handle, checked.output)


airflow_fleet()
