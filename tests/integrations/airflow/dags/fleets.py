"""The DAGs of the tests: a cluster for one task that records its process and does what the test requests."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, get_current_context

from multicompute.integrations.airflow import (
    ClusterRequestOperator,
    ClusterRunOperator,
    ClusterTerminateOperator,
    cluster,
)

DESK = Path(os.environ["FLEET_DESK"])


def work(cluster: Any) -> str:
    """Record the process and the cluster, wait as long as the file `wait` exists, and fail if `conf` says so."""
    run = get_current_context()["dag_run"]
    desk = DESK / run.run_id
    desk.mkdir(exist_ok=True)
    (desk / f"pid-{time.time_ns()}").write_text(f"{os.getpid()} {cluster.id}")
    while (desk / "wait").exists():
        time.sleep(0.1)
    if (run.conf or {}).get("fail"):
        raise ValueError("requested by the test")
    return str(cluster.name)


def fleet(dag_id: str, *, retries: int, deferrable: bool, **arguments: Any) -> None:
    with (
        DAG(dag_id, schedule=None, default_args={"retries": retries, "retry_delay": 0}),
        cluster(gpus=8, type="h100", deferrable=deferrable, **arguments) as handle,
    ):
        ClusterRunOperator(task_id="work", cluster=handle, python_callable=work)


fleet("once", retries=0, deferrable=False)
fleet("twice", retries=1, deferrable=False)
fleet("deferred", retries=0, deferrable=True)
fleet("scarce", retries=0, deferrable=False, regions=["us-east-1"])

with DAG("slow", schedule=None):
    ClusterRequestOperator(
        task_id="cluster", gpus=8, type="h100", deferrable=False, execution_timeout=timedelta(seconds=10)
    )

with (
    DAG("on_nodes", schedule=None),
    cluster(gpus=16, type="h100", deferrable=False) as fleet_to_use,
):
    ranked = ClusterRunOperator(
        task_id="ranked",
        cluster=fleet_to_use,
        command="echo $WORD $MULTICOMPUTE_RANK of $MULTICOMPUTE_NODES for {{ dag.dag_id }}",
        env={"WORD": "rank"},
    )
    words = ClusterRunOperator(task_id="words", cluster=fleet_to_use, command=["printf", "%s", "$HOME"], ranks=[1])
    failing = ClusterRunOperator(
        task_id="failing", cluster=fleet_to_use, command="test $MULTICOMPUTE_RANK = 0 || exit 3"
    )
    ranked >> words >> failing

with DAG("mapped", schedule=None):
    fleets = ClusterRequestOperator.partial(task_id="each", type="h100", deferrable=False).expand(gpus=[8, 16])
    runs = ClusterRunOperator.partial(
        task_id="work",
        on="worker",
        command='echo $MULTICOMPUTE_CLUSTER $MULTICOMPUTE_NODE_ADDRS; test -n "$MULTICOMPUTE_HEAD_ADDR"',
    ).expand(cluster=fleets.output)
    runs >> ClusterTerminateOperator(task_id="end", cluster=fleets.output, trigger_rule="all_done")
