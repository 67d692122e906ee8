"""The output about clusters, and the arguments, that several commands share."""

import argparse
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from multicompute.cli.output import write_message, write_table, wrote
from multicompute.errors import SpecError
from multicompute.units import parse_duration

if TYPE_CHECKING:
    from multicompute.cluster import Cluster


_MINIMUM_INTERVAL: Final = timedelta(seconds=1)


def name_argument(parser: argparse.ArgumentParser) -> None:
    """Add the name of a cluster."""
    parser.add_argument("name", metavar="NAME", help="name of the cluster")


def cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name of a cluster, and the form of the output."""
    name_argument(parser)
    output_arguments(parser)


def tag_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--tag`, which selects clusters."""
    parser.add_argument(
        "--tag",
        dest="tags",
        metavar="KEY=VALUE",
        action="append",
        type=pair,
        default=[],
        help=f"{what} (may be repeated: with all of them)",
    )


def pair(text: str) -> tuple[str, str]:
    """Return the key and the value of "KEY=VALUE"."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not a pair; write --tag team=nlp")
    return key, value


def json_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document to stdout")


def output_arguments(parser: argparse.ArgumentParser, *, csv: bool = False) -> None:
    """Add `--output`, `--json` and `--wide`; with `csv` also `--csv`."""
    parser.set_defaults(output="table", json=False)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--output",
        choices=("table", "json", "csv"),
        metavar="FORM",
        action=_Output,
        help="table (the default), json for one JSON document, or csv for lines with the keys of that document as header",
    )
    form.add_argument("--json", nargs=0, const="json", action=_Output, help="the same as --output json")
    if csv:
        form.add_argument("--csv", nargs=0, const="csv", action=_Output, help="the same as --output csv")
    wide_argument(parser)


def wide_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--wide`."""
    parser.add_argument(
        "--wide",
        action="store_true",
        help="print every column in full; otherwise tables are as wide as the terminal, or 80 columns where there is none",
    )


class _Output(argparse.Action):
    """Sets both `output` and `json`, so that `--output json` is `--json`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        namespace.output = self.const or values
        namespace.json = namespace.output == "json"


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


def write_cluster(cluster: "Cluster", options: argparse.Namespace) -> None:
    """Print a cluster and its live nodes."""
    from multicompute.cluster_view import cluster_facts

    document = cluster.to_dict()
    if wrote(options, document, [document]):
        return
    write_table(("cluster", ""), cluster_facts(cluster), wide=options.wide)
    if cluster.nodes:
        print()
        write_nodes(cluster, wide=options.wide)


def write_next_step(cluster: "Cluster") -> None:
    """Write which command continues with a cluster that is not up yet; nothing for others."""
    if cluster.state.is_coming_up:
        write_message(
            f"{cluster.name} is {cluster.state}: `multicompute wait {cluster.name}` waits until it is READY; "
            f"`multicompute show {cluster.name}`, `watch` and `ls --live` also ask whether its nodes run"
        )


def write_nodes(cluster: "Cluster", *, wide: bool) -> None:
    """Print the live nodes of a cluster."""
    from multicompute.cluster_view import NODE_HEADERS, NODE_NARROWING, node_rows

    rank, *others = NODE_HEADERS
    write_table((f">{rank}", *others), node_rows(cluster, wide=wide), narrowing=NODE_NARROWING, wide=wide)
