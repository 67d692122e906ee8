"""The output about clusters, and the arguments, that several commands share."""

import argparse
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from multicompute.cli.output import write_json, write_message, write_table
from multicompute.errors import SpecError
from multicompute.units import parse_duration

if TYPE_CHECKING:
    from multicompute.cluster import Cluster


_MINIMUM_INTERVAL: Final = timedelta(seconds=1)


def name_argument(parser: argparse.ArgumentParser) -> None:
    """Add the name of a cluster."""
    parser.add_argument("name", metavar="NAME", help="name of the cluster")


def cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name of a cluster, and `--json`."""
    name_argument(parser)
    json_argument(parser)


def json_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document to stdout")


def interval_argument(parser: argparse.ArgumentParser, *, default: str, what: str) -> None:
    """Add `--interval`, the time between two of `what`."""
    parser.add_argument(
        "--interval", metavar="DURATION", default=default, help=f"time between {what}, {default} by default"
    )


def interval_of(options: argparse.Namespace) -> timedelta:
    """Return the interval.

    Raises:
        SpecError: It is no duration, or too short.
    """
    interval = parse_duration(options.interval, what="--interval")
    if interval < _MINIMUM_INTERVAL:
        raise SpecError(f"--interval {options.interval}: must be at least 1s")
    return interval


def explain(parser: argparse.ArgumentParser, text: str) -> None:
    """Put a paragraph between the arguments in `--help` and the example."""
    parser.epilog = f"{text}\n\n{parser.epilog or ''}"


def write_cluster(cluster: "Cluster", *, as_json: bool) -> None:
    """Print a cluster and its live nodes."""
    from multicompute.cluster_view import cluster_facts

    if as_json:
        write_json(cluster.to_dict())
        return
    write_table(("cluster", ""), cluster_facts(cluster))
    if cluster.nodes:
        print()
        write_nodes(cluster)


def write_next_step(cluster: "Cluster") -> None:
    """Write which command continues with a cluster that is not up yet; nothing for others."""
    if cluster.state.is_coming_up:
        write_message(
            f"{cluster.name} is {cluster.state}: `multicompute wait {cluster.name}` waits until it is READY; "
            f"`multicompute show {cluster.name}`, `watch` and `ls --live` also ask whether its nodes run"
        )


def write_nodes(cluster: "Cluster") -> None:
    """Print the live nodes of a cluster."""
    from multicompute.cluster_view import NODE_HEADERS, node_rows

    rank, *others = NODE_HEADERS
    write_table((f">{rank}", *others), node_rows(cluster))
