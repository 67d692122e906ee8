"""Clusters in the flows of Prefect: a block, a context manager, tasks and hooks. Needs `multicompute[prefect]`."""

from multicompute.integrations.prefect.block import Multicompute
from multicompute.integrations.prefect.hooks import ends_its_clusters, terminate_clusters
from multicompute.integrations.prefect.scope import cluster
from multicompute.integrations.prefect.tasks import (
    arequest_cluster,
    arun_on_cluster,
    aterminate_cluster,
    request_cluster,
    run_on_cluster,
    terminate_cluster,
)

__all__ = [
    "Multicompute",
    "arequest_cluster",
    "arun_on_cluster",
    "aterminate_cluster",
    "cluster",
    "ends_its_clusters",
    "request_cluster",
    "run_on_cluster",
    "terminate_cluster",
    "terminate_clusters",
]
