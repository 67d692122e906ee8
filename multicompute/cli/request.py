"""`up`, `plan` and `schema`: commands that take the arguments of a request."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from multicompute.cli.arguments import add_file_argument, add_request_arguments, request_arguments
from multicompute.cli.output import write_json, write_message
from multicompute.cli.spelling import as_options, options_in_errors
from multicompute.cli.tables import json_argument, write_cluster
from multicompute.errors import NoOfferError


def up_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `up`."""
    add_file_argument(parser)
    add_request_arguments(parser)
    json_argument(parser)


def up(options: argparse.Namespace) -> int:
    """Launch a cluster and print it."""
    from multicompute.cluster import Cluster

    given = request_arguments(options)
    with options_in_errors(), _progress(wanted=given.pop("progress", True)) as progress:
        cluster = Cluster.request(**given, progress=progress)
    if options.json:
        write_json(cluster.to_dict())
        return 0
    write_cluster(cluster)
    for event in cluster.events():
        if event.kind == "reservation":
            write_message(f"note: {event.message}")
    end = cluster.to_dict()["expires_at"]
    limit = f"it expires at {end}" if end else "it has no ttl and runs until then"
    write_message(f"`multicompute down {cluster.name}` terminates the cluster; {limit}")
    return 0


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `plan`."""
    up_arguments(parser)


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
    parser.epilog = (
        "Editors check a file for `up --file` and `plan --file` against this schema, and complete its keys.\n\n"
        + (parser.epilog or "")
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
