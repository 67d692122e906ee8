"""A flow that trains on 16 H100 and then evaluates on one machine. Its clusters are terminated however it ends.

Run it on local clouds with `multicompute local -- python train_fleet.py`. Or serve it and start it from Prefect's web page:
then `ends_its_clusters` also terminates the clusters of runs whose process was killed.
"""

from typing import Any

from prefect import flow, get_run_logger, task

from multicompute import Cluster
from multicompute.integrations.prefect import cluster, ends_its_clusters, request_cluster, terminate_cluster


@task(retries=1)
def train(fleet: dict[str, Any]) -> str:
    """Log the addresses of all nodes. Replace this with your own launcher."""
    addresses = [node.private_ip for node in Cluster.get(fleet["name"]).nodes]
    get_run_logger().info("torchrun on %s", addresses)
    return "s3://bucket/model"


@task
def evaluate(model: str) -> float:
    """Evaluate on a small cluster that lives as long as the block."""
    with cluster(gpus=1, type="l4", spot="prefer", ttl="1h") as machine:
        get_run_logger().info("evaluating %s on %s", model, machine.head.instance_type)
    return 0.93


@ends_its_clusters
@flow
def pipeline() -> float:
    """Train, then evaluate. Tasks that share one cluster go between request and terminate."""
    fleet = request_cluster(16, "h100", ttl="12h", tags={"team": "nlp"})
    model = train(fleet)
    terminate_cluster(fleet)
    return evaluate(model)


if __name__ == "__main__":
    print(f"accuracy {pipeline()}")
