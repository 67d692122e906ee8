"""`up`, `plan` and `schema`: commands that take the arguments of a request."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from multicompute.cli.arguments import add_file_argument, add_request_arguments, request_arguments
from multicompute.cli.output import write_json, write_message
from multicompute.cli.spelling import as_options, options_in_errors
from multicompute.cli.tables import explain, json_argument, write_cluster, write_next_step
from multicompute.errors import NoOfferError

if TYPE_CHECKING:
    from multicompute.cluster import Cluster


def up_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `up` and `plan`."""
    add_file_argument(parser)
    add_request_arguments(parser)
    json_argument(parser)


def up(options: argparse.Namespace) -> int:
    """Launch a cluster and print it."""
    from multicompute.cluster import Cluster

    given = request_arguments(options)
    with options_in_errors(), _progress(wanted=given.pop("progress", True)) as progress:
        cluster = Cluster.request(**given, progress=progress)
    write_cluster(cluster, as_json=options.json)
    write_next_step(cluster)
    if not options.json:
        for event in cluster.events():
            if event.kind == "reservation":
                write_message(f"note: {event.message}")
        end = cluster.to_dict()["expires_at"]
        limit = f"it expires at {end}" if end else "it has no ttl and runs until then"
        if early := _early_expiry(cluster):
            limit = f"it {early}"
        write_message(f"`multicompute down {cluster.name}` terminates the cluster; {limit}")
    return 0


def _early_expiry(cluster: "Cluster") -> str:
    """Return why the cluster expires before its ttl, "" if it does not."""
    events = [event for event in cluster.events() if event.kind in ("attempt", "early expiry", "extended")]
    # An earlier attempt may have had another end.
    return events[-1].message if events and events[-1].kind == "early expiry" else ""


plan_arguments = up_arguments


def plan(options: argparse.Namespace) -> int:
    """Print the candidates for a request."""
    from multicompute.cluster import Cluster

    given = request_arguments(options)
    try:
        with options_in_errors():
            found = Cluster.plan(**given)
    except NoOfferError as error:
        # The reasons are a result too: a program gets them in addition to the status.
        if options.json and error.plan is not None:
            write_json(error.plan.to_dict())
        raise
    if options.json:
        write_json(found.to_dict())
    else:
        print(as_options(found.explain()))
    return 0


def schema_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `schema`."""
    explain(
        parser, "Editors check a file for `up --file` and `plan --file` against this schema, and complete its keys."
    )


def schema(options: argparse.Namespace) -> int:
    """Print the JSON schema of a request."""
    from pydantic.json_schema import GenerateJsonSchema

    from multicompute.spec import ClusterSpec

    write_json({"$schema": GenerateJsonSchema.schema_dialect, **ClusterSpec.model_json_schema()})
    return 0


def _progress(*, wanted: bool) -> AbstractContextManager[Any]:
    if not wanted:
        return nullcontext(enter_result=False)
    from multicompute.progress import terminal_progress

    return terminal_progress()
