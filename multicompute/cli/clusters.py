"""`ls`, `show`, `nodes`, `events`, `extend`, `heal` and `down`: commands on clusters that exist."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from multicompute.cli.coverage import NOT_ASKED, write_coverage
from multicompute.cli.output import confirm, terminal_width, write_message, write_table, wrote
from multicompute.cli.status import exit_status, one_line
from multicompute.cli.tables import (
    cluster_arguments,
    explain,
    name_argument,
    output_arguments,
    tag_argument,
    write_cluster,
    write_next_step,
    write_nodes,
)
from multicompute.errors import LedgerError, MulticomputeError, SpecError
from multicompute.node import ClusterState, Event
from multicompute.text import Narrowing, wrap
from multicompute.units import counted, format_instant, format_usd

if TYPE_CHECKING:
    from multicompute.cluster import Cluster

_STYLES: Final[Mapping[ClusterState, str]] = {ClusterState.DEGRADED: "yellow", ClusterState.TERMINATING: "bold red"}
_COLUMNS: Final = ("name", "state", "place", ">nodes", ">acc", "type", ">$/h", ">so far", "expires (UTC)")
_NARROWING: Final = Narrowing(
    drop=("so far", "acc", "type", "nodes", "expires (UTC)", "place", "$/h"), shorten=("place",)
)
_KEYS: Final = (
    *("id", "name", "state", "provider", "region", "zone", "gpus", "type", "nodes", "hourly_usd", "accrued_usd"),
    *("created_at", "expires_at", "tags"),
)
_NODE_KEYS: Final = ("id", "rank", "state", "private_ip", "public_ip", "instance_type", "zone")
"""The header of an empty list in CSV: the keys of the JSON document."""
_POLL_INTERVAL: Final = timedelta(seconds=2)
_KIND: Final = 12
"""Characters of the kind of an event in `events --follow`, where the events to come are not known."""


def ls_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ls`."""
    parser.add_argument("--all", action="store_true", help="also list clusters that have ended")
    parser.add_argument(
        "--live",
        action="store_true",
        help="ask the clouds about all clusters first; the exit status is 6 if one can't be asked",
    )
    tag_argument(parser, "only clusters with this tag")
    parser.add_argument(
        "--state",
        type=str.upper,
        choices=[state.value for state in ClusterState],
        metavar="STATE",
        help=f"only clusters in this state: {', '.join(state.value.lower() for state in ClusterState)}",
    )
    parser.add_argument(
        "--cloud",
        dest="clouds",
        metavar="CLOUD",
        action="extend",
        type=lambda text: text.split(","),
        default=[],
        help="only clusters of this cloud (may be repeated)",
    )
    output_arguments(parser)


def ls(options: argparse.Namespace) -> int:
    """Print the clusters in the ledger."""
    from multicompute.cluster import Cluster

    status = _refresh_all(options) if options.live else 0
    found = Cluster.list(
        state=options.state, tags=dict(options.tags), clouds=options.clouds or None, include_ended=options.all
    )
    clusters = [cluster.to_dict() for cluster in found]
    if wrote(options, clusters, header=_KEYS):
        return status
    if not clusters:
        write_message(_nothing_listed(options))
        return status
    styles = [_STYLES.get(cluster.state, "") for cluster in found]
    write_table(_COLUMNS, [_row(each) for each in clusters], narrowing=_NARROWING, wide=options.wide, styles=styles)
    for cluster in found:
        if cluster.blocked_on:
            write_message(
                f"{cluster.name} is not terminated yet: {cluster.blocked_on}; `multicompute reap` tries again"
            )
    return status


def _nothing_listed(options: argparse.Namespace) -> str:
    which = " of this kind" if options.tags or options.state or options.clouds else ""
    if options.all or (options.state and not ClusterState(options.state).is_live):
        return f"no clusters{which} in the ledger; `multicompute reconcile` asks the clouds"
    if which:
        return f"no live clusters{which}; --all also lists those that have ended"
    return "no live clusters in the ledger; --all lists ended ones, and `multicompute reconcile` asks the clouds"


def _refresh_all(options: argparse.Namespace) -> int:
    """Refresh all clusters, and return the exit status."""
    from multicompute.engine.upkeep.refresh import RefreshReport, refresh_all
    from multicompute.session import open_session

    session = open_session()
    report = refresh_all(session) if session.has_ledger else RefreshReport()
    write_coverage(report.coverage, is_terse=options.output != "table")
    for note in report.notes:
        write_message(f"note: {note}")
    return 0 if report.coverage.is_complete else NOT_ASKED


show_arguments = nodes_arguments = cluster_arguments


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
    output_arguments(parser)


def wait(options: argparse.Namespace) -> int:
    """Wait until a cluster is READY and print it."""
    from multicompute.cluster import Cluster

    cluster = Cluster.get(options.name)
    if cluster.state.is_up:
        # It may have changed since.
        cluster, status = _refreshed(options.name)
    else:
        cluster, status = cluster.wait(options.timeout, on_stop="leave"), 0
    write_cluster(cluster, options)
    return status


def show(options: argparse.Namespace) -> int:
    """Print one cluster."""
    cluster, status = _refreshed(options.name)
    write_cluster(cluster, options)
    if options.output == "table":
        write_next_step(cluster)
    return status


def nodes(options: argparse.Namespace) -> int:
    """Print the live nodes of a cluster."""
    cluster, status = _refreshed(options.name)
    if not wrote(options, cluster.to_dict()["nodes"], header=_NODE_KEYS):
        write_nodes(cluster, wide=options.wide)
        write_next_step(cluster)
    return status


def events_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `events`."""
    cluster_arguments(parser)
    parser.add_argument(
        "--follow", action="store_true", help="print new events until the cluster has ended, or until Ctrl-C"
    )
    explain(
        parser,
        "With --follow and --json, each event is a JSON document on a line of its own. Ctrl-C ends the command with exit\n"
        "status 0, and the cluster is not changed.",
    )


def events(options: argparse.Namespace) -> int:
    """Print the event log of a cluster."""
    from multicompute.cluster import Cluster

    cluster = Cluster.get(options.name)
    if options.follow:
        _follow(cluster, options)
        return 0
    log = cluster.events()
    if not wrote(options, [_event_dict(event) for event in log], header=("at", "kind", "message", "data")):
        rows = [(format_instant(event.at), event.kind, event.message) for event in log]
        narrowing = Narrowing(prose="message", drop=("kind",))
        write_table(("at", "kind", "message"), rows, narrowing=narrowing, wide=options.wide)
    return 0


def _follow(cluster: "Cluster", options: argparse.Namespace) -> None:
    """Print the events of a cluster, and those that any process adds, until the cluster has ended."""
    from multicompute.cluster import Cluster
    from multicompute.engine.operation.cancellation import Cancellation, cancel_on_signals
    from multicompute.session import open_session

    if options.output == "csv":
        raise SpecError("events: --follow has no form in CSV", hint="leave --follow out, or use --json")
    clock, cancellation, shown = open_session().clock, Cancellation(), 0
    try:
        with cancel_on_signals(cancellation):
            while True:
                # Read the state before the events: whatever happened until the end is in the log by then.
                has_ended = Cluster.get(cluster.id).state.has_ended
                log = cluster.events()
                for event in log[shown:]:
                    _write_event(event, options)
                shown = len(log)
                if has_ended:
                    return
                cancellation.sleep(clock, _POLL_INTERVAL)
    except KeyboardInterrupt:
        # Ctrl-C is how users end the view: nothing was interrupted.
        pass


def _write_event(event: Event, options: argparse.Namespace) -> None:
    if options.json:
        import json

        print(json.dumps(_event_dict(event), allow_nan=False), flush=True)
        return
    start = f"{format_instant(event.at)}  {event.kind:{_KIND}}  "
    message = " ".join(event.message.split())
    if options.wide:
        print(f"{start}{message}", flush=True)
    else:
        print("\n".join(wrap(message, first=start, rest="    ", width=terminal_width())), flush=True)


def _event_dict(event: Event) -> dict[str, object]:
    return {"at": format_instant(event.at), "kind": event.kind, "message": event.message, "data": dict(event.data)}


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
    output_arguments(parser)


def heal(options: argparse.Namespace) -> int:
    """Start or replace the nodes of a cluster that do not run."""
    from multicompute.cluster import Cluster

    cluster = Cluster.get(options.name).heal(options.timeout, stopped=options.stopped)
    write_cluster(cluster, options)
    return 0


def down_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `down`."""
    parser.add_argument("names", metavar="NAME", nargs="*", help="name of a cluster")
    parser.add_argument("--all", action="store_true", help="terminate every live cluster in the ledger")
    tag_argument(parser, "terminate the live clusters with this tag")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def down(options: argparse.Namespace) -> int:
    """Terminate clusters."""
    clusters = _chosen(options)
    if not clusters:
        write_message("no live clusters" + (" with these tags" if options.tags else ""))
        return 0
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


def _chosen(options: argparse.Namespace) -> "Sequence[Cluster]":
    """Return the clusters to terminate: those that are named, or the live ones that --all and --tag select.

    Raises:
        SpecError: No cluster was chosen, or in two ways.
        ClusterNotFound: No cluster ever had one of the names.
    """
    from multicompute.cluster import Cluster

    is_selection = options.all or bool(options.tags)
    if options.names and is_selection:
        raise SpecError("down: takes names, or --all or --tag, not both")
    if is_selection:
        return Cluster.list(tags=dict(options.tags))
    if not options.names:
        raise SpecError(
            "down: no cluster was named", hint="name clusters, or select them with --all or --tag KEY=VALUE"
        )
    # Find all of them first: a typo in the second name must not cost the first cluster.
    return [Cluster.get(name) for name in dict.fromkeys(options.names)]


def _confirmed(clusters: "Sequence[Cluster]") -> bool:
    if not sys.stdin.isatty():
        raise SpecError("down: needs a confirmation", hint="there is no terminal to ask on: add --yes")
    for cluster in clusters:
        write_message(
            f"{cluster.name}: {counted(len(cluster.nodes), 'node')}, {format_usd(cluster.hourly_cost)} per hour"
        )
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
    place = f"{cluster['provider'] or ''} {cluster['zone'] or cluster['region'] or ''}".strip()
    return (
        cluster["name"],
        str(cluster["state"]),
        place or "-",
        str(len(cluster["nodes"])),
        "-" if cluster["gpus"] is None else f"{cluster['gpus']:g}",
        ", ".join(cluster["type"]),
        f"{cluster['hourly_usd']:,.2f}",
        f"{cluster['accrued_usd']:,.2f}",
        (cluster["expires_at"] or "never")[:16].replace("T", " "),
    )
