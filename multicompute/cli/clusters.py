"""`ls`, `show`, `nodes`, `events`, `extend`, `heal` and `down`: commands on clusters that exist."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from multicompute.cli.coverage import NOT_ASKED, write_coverage
from multicompute.cli.output import confirm, write_json, write_message, write_table
from multicompute.cli.status import exit_status, one_line
from multicompute.cli.tables import (
    cluster_arguments,
    explain,
    json_argument,
    name_argument,
    write_cluster,
    write_next_step,
    write_nodes,
)
from multicompute.errors import LedgerError, MulticomputeError, SpecError
from multicompute.node import ClusterState
from multicompute.units import format_instant, format_usd

if TYPE_CHECKING:
    from multicompute.cluster import Cluster

_STYLES: Final[Mapping[ClusterState, str]] = {ClusterState.DEGRADED: "yellow", ClusterState.TERMINATING: "bold red"}


def ls_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ls`."""
    parser.add_argument("--all", action="store_true", help="also list clusters that have ended")
    parser.add_argument(
        "--live",
        action="store_true",
        help="ask the clouds about all clusters first; the exit status is 6 if one can't be asked",
    )
    json_argument(parser)


def ls(options: argparse.Namespace) -> int:
    """Print the clusters in the ledger."""
    from multicompute.cluster import Cluster

    status = _refresh_all(as_json=options.json) if options.live else 0
    found = Cluster.list(include_ended=options.all)
    clusters = [cluster.to_dict() for cluster in found]
    if options.json:
        write_json(clusters)
    elif clusters:
        columns = ("name", "state", "provider", "place", ">nodes", ">gpus", "type", ">$/h", ">cost", "expires")
        styles = [_STYLES.get(cluster.state, "") for cluster in found]
        write_table(columns, [_row(cluster) for cluster in clusters], styles=styles)
        for cluster in found:
            if cluster.blocked_on:
                write_message(
                    f"{cluster.name} is not terminated yet: {cluster.blocked_on}; `multicompute reap` tries again"
                )
    else:
        where = "in the ledger; `multicompute reconcile` asks the clouds"
        write_message(f"no clusters {where}" if options.all else f"no live clusters {where}; --all lists ended ones")
    return status


def _refresh_all(*, as_json: bool) -> int:
    """Refresh all clusters, and return the exit status."""
    from multicompute.engine.upkeep.refresh import RefreshReport, refresh_all
    from multicompute.session import open_session

    session = open_session()
    report = refresh_all(session) if session.has_ledger else RefreshReport()
    write_coverage(report.coverage, as_json=as_json)
    for note in report.notes:
        write_message(f"note: {note}")
    return 0 if report.coverage.is_complete else NOT_ASKED


show_arguments = nodes_arguments = events_arguments = cluster_arguments


def wait_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wait`."""
    explain(
        parser,
        "A cluster that is not READY in time is torn down, as in the request, with exit status 7. Ctrl-C ends the wait and\n"
        "leaves the cluster as it is.",
    )
    name_argument(parser)
    parser.add_argument(
        "--timeout", metavar="DURATION", help='how long to wait, such as "30m"; as in the request if omitted'
    )
    json_argument(parser)


def wait(options: argparse.Namespace) -> int:
    """Wait until a cluster is READY and print it."""
    from multicompute.cluster import Cluster

    cluster = Cluster.get(options.name)
    if cluster.state.is_up:
        # It may have changed since.
        cluster, status = _refreshed(options.name)
    else:
        cluster, status = cluster.wait(options.timeout, on_stop="leave"), 0
    write_cluster(cluster, as_json=options.json)
    return status


def show(options: argparse.Namespace) -> int:
    """Print one cluster."""
    cluster, status = _refreshed(options.name)
    write_cluster(cluster, as_json=options.json)
    if not options.json:
        write_next_step(cluster)
    return status


def nodes(options: argparse.Namespace) -> int:
    """Print the live nodes of a cluster."""
    cluster, status = _refreshed(options.name)
    if options.json:
        write_json(cluster.to_dict()["nodes"])
    else:
        write_nodes(cluster)
        write_next_step(cluster)
    return status


def events(options: argparse.Namespace) -> int:
    """Print the event log of a cluster."""
    from multicompute.cluster import Cluster

    log = Cluster.get(options.name).events()
    if options.json:
        write_json(
            [{"at": format_instant(e.at), "kind": e.kind, "message": e.message, "data": dict(e.data)} for e in log]
        )
    else:
        write_table(("at", "kind", "message"), [(format_instant(e.at), e.kind, e.message) for e in log])
    return 0


def extend_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `extend`."""
    name_argument(parser)
    parser.add_argument("by", metavar="DURATION", help='how much to add to the lease, such as "90m" or "2h"')


def extend(options: argparse.Namespace) -> int:
    """Extend the lease of a cluster."""
    from multicompute.cluster import Cluster

    end = Cluster.get(options.name).extend(options.by)
    print(f"{options.name} expires at {format_instant(end)}")
    return 0


def heal_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `heal`."""
    name_argument(parser)
    parser.add_argument(
        "--timeout", metavar="DURATION", help='give up after this time, such as "30m"; as in the request if omitted'
    )
    parser.add_argument(
        "--stopped",
        choices=("start", "replace"),
        default="start",
        help="start stopped nodes again (the default), or replace and delete them",
    )
    json_argument(parser)


def heal(options: argparse.Namespace) -> int:
    """Start or replace the nodes of a cluster that do not run."""
    from multicompute.cluster import Cluster

    cluster = Cluster.get(options.name).heal(options.timeout, stopped=options.stopped)
    write_cluster(cluster, as_json=options.json)
    return 0


def down_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `down`."""
    parser.add_argument("names", metavar="NAME", nargs="+", help="name of a cluster")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def down(options: argparse.Namespace) -> int:
    """Terminate clusters."""
    from multicompute.cluster import Cluster

    # Find all of them first: a typo in the second name must not cost the first cluster.
    clusters = [Cluster.get(name) for name in dict.fromkeys(options.names)]
    if not options.yes and not _confirmed(clusters):
        write_message("nothing was terminated")
        return 0
    status = 0
    unwritten: OSError | None = None
    for cluster in clusters:
        try:
            cluster.terminate()
        except MulticomputeError as error:
            # Terminate the others all the same; the first error decides the exit status.
            write_message(f"multicompute: {cluster.name}: {one_line(error)}")
            status = status or exit_status(error)
            continue
        try:
            print(f"{cluster.name} {cluster.state}", flush=True)
        except OSError as error:
            # The same applies to a terminal or a pipe that was closed.
            unwritten = error
    if unwritten is not None:
        raise unwritten
    return status


def _confirmed(clusters: "Sequence[Cluster]") -> bool:
    if not sys.stdin.isatty():
        raise SpecError("down: needs a confirmation", hint="there is no terminal to ask on: add --yes")
    for cluster in clusters:
        write_message(f"{cluster.name}: {len(cluster.nodes)} nodes, {format_usd(cluster.hourly_cost)} per hour")
    return confirm("Terminate, and delete everything on their disks?")


def _refreshed(name: str) -> "tuple[Cluster, int]":
    """Return the cluster as its cloud shows it now, or as of the last refresh if the cloud can't be asked, and the exit status."""
    from multicompute.cluster import Cluster

    cluster = Cluster.get(name)
    if cluster.state.has_ended:
        # No cloud has anything to add, and the engine need not be loaded.
        return cluster, 0
    try:
        return cluster.refresh(), 0
    except LedgerError as error:
        write_message(f"multicompute: as of the last refresh; what has changed can't be recorded: {one_line(error)}")
        return cluster, 0
    except MulticomputeError as error:
        write_message(f"multicompute: as of the last refresh; the cloud can't be asked now: {one_line(error)}")
        return cluster, NOT_ASKED


def _row(cluster: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        cluster["name"],
        str(cluster["state"]),
        cluster["provider"] or "-",
        cluster["zone"] or cluster["region"] or "-",
        str(len(cluster["nodes"])),
        "-" if cluster["gpus"] is None else f"{cluster['gpus']:g}",
        ", ".join(cluster["type"]),
        f"{cluster['hourly_usd']:,.2f}",
        f"{cluster['accrued_usd']:,.2f}",
        cluster["expires_at"] or "never",
    )
