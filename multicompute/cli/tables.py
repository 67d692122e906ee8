"""What several commands print about a cluster, and the arguments that they share."""

import argparse
from typing import TYPE_CHECKING

from multicompute.cli.output import write_table

if TYPE_CHECKING:
    from multicompute.cluster import Cluster


def name_argument(parser: argparse.ArgumentParser) -> None:
    """Add the name of a cluster."""
    parser.add_argument("name", metavar="NAME", help="name of the cluster")


def json_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document to stdout")


def write_cluster(cluster: "Cluster") -> None:
    """Print a cluster and its live nodes."""
    from multicompute.cluster_view import cluster_facts

    write_table(("cluster", ""), cluster_facts(cluster))
    if cluster.nodes:
        print()
        write_nodes(cluster)


def write_nodes(cluster: "Cluster") -> None:
    """Print the live nodes of a cluster."""
    from multicompute.cluster_view import NODE_HEADERS, node_rows

    rank, *others = NODE_HEADERS
    write_table((f">{rank}", *others), node_rows(cluster))
