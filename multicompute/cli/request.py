"""`up`, `plan` and `schema`: commands that take the arguments of a request."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from multicompute.cli.arguments import add_file_argument, add_request_arguments, request_arguments
from multicompute.cli.output import terminal_width, write_json, write_message, wrote
from multicompute.cli.spelling import as_options, options_in_errors
from multicompute.cli.tables import explain, output_arguments, write_cluster, write_next_step
from multicompute.errors import CapacityError, NoOfferError, SpecError
from multicompute.spec import ClusterSpec

if TYPE_CHECKING:
    from multicompute.cluster import Cluster
    from multicompute.ledger import ClusterRecord
    from multicompute.session import Session

DEFAULT_LIMIT: Final = 20
DECLINED: Final = 1
"""The exit status if the user does not confirm."""


def up_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `up`."""
    add_file_argument(parser)
    add_request_arguments(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation, whatever it costs")
    parser.add_argument("--quiet", action="store_true", help="print no progress and no hints, only errors")
    output_arguments(parser)


def up(options: argparse.Namespace) -> int:
    """Launch a cluster and print it."""
    from multicompute.cli.purchase import Declined
    from multicompute.cluster import Cluster
    from multicompute.session import open_session

    given = request_arguments(options)
    # The log has the same lines.
    wanted = given.pop("progress", True) and not (options.quiet or options.verbose or options.debug)
    session = open_session()
    try:
        with options_in_errors():
            record = _request(session, ClusterSpec.of(given), is_approved=options.yes, shows_progress=wanted)
    except Declined:
        write_message("nothing was launched")
        return DECLINED
    cluster = Cluster(session, record)
    write_cluster(cluster, options)
    if not options.quiet:
        write_next_step(cluster)
    if options.output == "table" and not options.quiet:
        for event in cluster.events():
            if event.kind == "reservation":
                write_message(f"note: {event.message}")
        end = cluster.to_dict()["expires_at"]
        limit = f"it expires at {end}" if end else "it has no ttl and runs until then"
        if early := _early_expiry(cluster):
            limit = f"it {early}"
        write_message(f"`multicompute down {cluster.name}` terminates the cluster; {limit}")
    return 0


def _request(session: "Session", spec: ClusterSpec, *, is_approved: bool, shows_progress: bool) -> "ClusterRecord":
    """Carry out a request that the user approves; without a terminal to ask on, up to `confirm_above`."""
    from multicompute.cli.purchase import approve
    from multicompute.engine.planning import refresh_for
    from multicompute.engine.provision.request import request

    refresh_for(session, spec, notify=write_message if shows_progress else None)
    ceiling = None if is_approved else approve(session, spec)
    try:
        with _progress(wanted=shows_progress) as progress:
            return request(session, spec, callback=progress or None, ceiling=ceiling)
    except CapacityError as error:
        if ceiling is not None:
            error.add_note(f"offers over confirm_above ({ceiling:g} USD per hour) were not tried; --yes allows them")
        raise


def _early_expiry(cluster: "Cluster") -> str:
    """Return why the cluster expires before its ttl, "" if it does not."""
    events = [event for event in cluster.events() if event.kind in ("attempt", "early expiry", "extended")]
    # An earlier attempt may have had another end.
    return events[-1].message if events and events[-1].kind == "early expiry" else ""


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `plan`."""
    add_file_argument(parser)
    add_request_arguments(parser)
    parser.add_argument(
        "--limit",
        type=int,
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"number of lines to show at most, and the best candidate of each cloud; {DEFAULT_LIMIT} by default; 0 for all",
    )
    output_arguments(parser)


def plan(options: argparse.Namespace) -> int:
    """Print the candidates for a request."""
    from multicompute.cluster import Cluster

    if options.limit < 0:
        raise SpecError(f"--limit {options.limit}: must be 0 (for all) or more")
    given = request_arguments(options)
    try:
        with options_in_errors():
            _refresh_prices(given)
            found = Cluster.plan(**given)
    except NoOfferError as error:
        # The reasons are a result too: a program gets them in addition to the status.
        if options.json and error.plan is not None:
            write_json(error.plan.to_dict())
        raise
    if not wrote(options, found.to_dict(), [candidate.to_dict() for candidate in found]):
        width = None if options.wide else terminal_width()
        print(found.render(limit=options.limit or len(found), width=width, spelled=as_options))
    return 0


def _refresh_prices(given: dict[str, Any]) -> None:
    """Refresh the prices that a plan needs, if the configuration asks for it, and say so: it takes a few seconds."""
    from multicompute.engine.planning import refresh_for
    from multicompute.session import open_session

    refresh_for(open_session(), ClusterSpec.of(given), notify=write_message)


def schema_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `schema`."""
    explain(
        parser, "Editors check a file for `up --file` and `plan --file` against this schema, and complete its keys."
    )


def schema(options: argparse.Namespace) -> int:
    """Print the JSON schema of a request."""
    from pydantic.json_schema import GenerateJsonSchema

    write_json({"$schema": GenerateJsonSchema.schema_dialect, **ClusterSpec.model_json_schema()})
    return 0


def _progress(*, wanted: bool) -> AbstractContextManager[Any]:
    if not wanted:
        return nullcontext(enter_result=False)
    from multicompute.progress import terminal_progress

    return terminal_progress()
