"""`up`, `ls`, `show`, `nodes`, `events`, `extend`, `heal`, `down`: pages over Cluster."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from multicompute.cli.arguments import add_request_arguments, request_arguments
from multicompute.cli.output import tell, write_json, write_table
from multicompute.cli.status import exit_status, one_line
from multicompute.errors import MulticomputeError, SpecError
from multicompute.node import ClusterState
from multicompute.units import format_instant, format_usd

if TYPE_CHECKING:
    from multicompute.cluster import Cluster

_STYLES: Final[Mapping[ClusterState, str]] = {ClusterState.DEGRADED: "yellow", ClusterState.TERMINATING: "bold red"}


def up_arguments(parser: argparse.ArgumentParser) -> None:
    add_request_arguments(parser)
    _json_argument(parser)


def up(options: argparse.Namespace) -> int:
    from multicompute.cluster import Cluster

    given = request_arguments(options)
    with _progress(wanted=given.pop("progress", True)) as progress:
        cluster = Cluster.request(**given, progress=progress)
    if options.json:
        write_json(cluster.to_dict())
        return 0
    _write_cluster(cluster)
    tell(f"`multicompute down {cluster.name}` tears it down; {_end(cluster.to_dict())}")
    return 0


def ls_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="also those that have ended")
    parser.add_argument("--live", action="store_true", help="look at the nodes of all of them first")
    _json_argument(parser)


def ls(options: argparse.Namespace) -> int:
    from multicompute.cluster import Cluster

    if options.live:
        _look_at_all()
    found = Cluster.list(include_ended=options.all)
    clusters = [cluster.to_dict() for cluster in found]
    if options.json:
        write_json(clusters)
    elif clusters:
        columns = ("name", "state", "provider", "place", ">nodes", ">gpus", "type", ">$/h", ">cost", "ends")
        styles = [_STYLES.get(cluster.state, "") for cluster in found]
        write_table(columns, [_line(cluster) for cluster in clusters], styles=styles)
        for cluster in found:
            if cluster.blocked_on:
                tell(f"{cluster.name} is not gone yet: {cluster.blocked_on}; `multicompute reap` goes on")
    else:
        tell("no cluster" if options.all else "no cluster lives; --all also lists those that have ended")
    return 0


def _look_at_all() -> None:
    from multicompute.engine.upkeep.refresh import refresh_all
    from multicompute.session import open_session

    session = open_session()
    if session.has_ledger:
        for note in refresh_all(session).notes:
            tell(f"note: {note}")


def show_arguments(parser: argparse.ArgumentParser) -> None:
    _name_argument(parser)
    _json_argument(parser)


def show(options: argparse.Namespace) -> int:
    cluster = _looked_up(options.name)
    if options.json:
        write_json(cluster.to_dict())
    else:
        _write_cluster(cluster)
    return 0


def nodes_arguments(parser: argparse.ArgumentParser) -> None:
    _name_argument(parser)
    _json_argument(parser)


def nodes(options: argparse.Namespace) -> int:
    cluster = _looked_up(options.name)
    if options.json:
        write_json(cluster.to_dict()["nodes"])
    else:
        _write_nodes(cluster)
    return 0


def events_arguments(parser: argparse.ArgumentParser) -> None:
    _name_argument(parser)
    _json_argument(parser)


def events(options: argparse.Namespace) -> int:
    from multicompute.cluster import Cluster

    story = Cluster.get(options.name).events()
    if options.json:
        lines = [{"at": format_instant(event.at), "kind": event.kind, "message": event.message} for event in story]
        write_json([line | {"data": dict(event.data)} for line, event in zip(lines, story, strict=True)])
    else:
        write_table(("at", "kind", "message"), [(format_instant(e.at), e.kind, e.message) for e in story])
    return 0


def extend_arguments(parser: argparse.ArgumentParser) -> None:
    _name_argument(parser)
    parser.add_argument("by", metavar="DURATION", help='how much later it ends, "90m", "2h"')


def extend(options: argparse.Namespace) -> int:
    from multicompute.cluster import Cluster

    end = Cluster.get(options.name).extend(options.by)
    print(f"{options.name} ends {format_instant(end)}")
    return 0


def heal_arguments(parser: argparse.ArgumentParser) -> None:
    _name_argument(parser)
    parser.add_argument("--timeout", metavar="DURATION", help='give up after this long, "30m"; as requested by default')
    _json_argument(parser)


def heal(options: argparse.Namespace) -> int:
    from multicompute.cluster import Cluster

    cluster = Cluster.get(options.name).heal(options.timeout)
    if options.json:
        write_json(cluster.to_dict())
    else:
        _write_cluster(cluster)
    return 0


def down_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="name of a cluster")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def down(options: argparse.Namespace) -> int:
    from multicompute.cluster import Cluster

    # All are looked up first: a slip in the second name must not cost the first cluster.
    clusters = [Cluster.get(name) for name in dict.fromkeys(options.names)]
    if not options.yes and not _confirmed(clusters):
        tell("nothing was torn down")
        return 0
    status = 0
    for cluster in clusters:
        try:
            cluster.terminate()
        except MulticomputeError as error:
            # The others are torn down all the same; the first error decides the status.
            tell(f"multicompute: {cluster.name}: {one_line(error)}")
            status = status or exit_status(error)
        else:
            print(f"{cluster.name} {cluster.state}")
    return status


def _confirmed(clusters: "Sequence[Cluster]") -> bool:
    if not sys.stdin.isatty():
        raise SpecError("down: would tear down without asking", hint="there is no terminal to ask on: write --yes")
    for cluster in clusters:
        tell(f"{cluster.name}: {len(cluster.nodes)} nodes, {format_usd(cluster.hourly_cost)} per hour")
    tell("Tear down, with everything on their disks? [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _looked_up(name: str) -> "Cluster":
    """The cluster as its cloud shows it now; as the ledger has it, and said so, where the cloud can't be asked."""
    from multicompute.cluster import Cluster

    cluster = Cluster.get(name)
    try:
        return cluster.refresh()
    except MulticomputeError as error:
        tell(f"multicompute: as of the last look, for now it can't be asked: {one_line(error)}")
        return cluster


def _name_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the cluster")


def _json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def _progress(*, wanted: bool) -> AbstractContextManager[Any]:
    if not wanted:
        return nullcontext(enter_result=False)
    from multicompute.progress import terminal_progress

    return terminal_progress()


def _write_cluster(cluster: "Cluster") -> None:
    from multicompute.cluster_view import cluster_facts

    write_table(("cluster", ""), cluster_facts(cluster))
    if cluster.nodes:
        print()
        _write_nodes(cluster)


def _write_nodes(cluster: "Cluster") -> None:
    from multicompute.cluster_view import NODE_HEADERS, node_rows

    rank, *others = NODE_HEADERS
    write_table((f">{rank}", *others), node_rows(cluster))


def _line(cluster: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        cluster["name"],
        str(cluster["state"]),
        cluster["provider"] or "-",
        cluster["zone"] or cluster["region"] or "-",
        str(len(cluster["nodes"])),
        _number(cluster["gpus"]),
        _types(cluster),
        f"{cluster['hourly_usd']:,.2f}",
        f"{cluster['accrued_usd']:,.2f}",
        cluster["expires_at"] or "never",
    )


def _types(cluster: Mapping[str, Any]) -> str:
    kind = cluster["type"]
    return kind if isinstance(kind, str) else ", ".join(kind or ())


def _number(count: float | None) -> str:
    return "-" if count is None else f"{count:g}"


def _end(cluster: Mapping[str, Any]) -> str:
    end = cluster["expires_at"]
    return f"it ends by itself at {end}" if end else "it has no ttl and runs until then"
