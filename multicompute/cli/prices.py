"""`offers` and `catalog`: what can be bought, at which price; neither calls a cloud."""

import argparse
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from multicompute.cli.arguments import add_request_arguments, request_arguments
from multicompute.cli.output import write_json, write_message, write_table
from multicompute.cli.spelling import options_in_errors
from multicompute.cli.tables import json_argument
from multicompute.errors import SpecError

if TYPE_CHECKING:
    from multicompute.catalog.info import ProviderInfo
    from multicompute.plan import Candidate, Plan

DEFAULT_LIMIT = 20


def offers_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `offers`."""
    parser.add_argument("accelerator", metavar="TYPE", help="accelerator, TPU slice or instance type")
    add_request_arguments(parser, only=("gpus", "spot", "clouds", "regions"))
    parser.add_argument(
        "--limit",
        type=int,
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"number of offers to list at most, {DEFAULT_LIMIT} by default; 0 for all",
    )
    json_argument(parser)


def offers(options: argparse.Namespace) -> int:
    """Print the offers for one type."""
    from multicompute.resolver import require

    if options.limit < 0:
        raise SpecError(f"--limit {options.limit}: must be 0 (for all) or more")
    with options_in_errors():
        found = _find(options)
        require(found)
    candidates: Sequence[Candidate] = found.candidates
    if not hasattr(options, "gpus"):
        # Without a number, offers are compared by the price of one accelerator.
        candidates = sorted(candidates, key=lambda candidate: candidate.price_per_accelerator)
    limit = options.limit or len(candidates)
    if options.json:
        write_json([candidate.to_dict() for candidate in candidates[:limit]])
        _note_limit(limit, len(candidates), "offers")
    else:
        lines = [list(same) for _, same in groupby(candidates, key=_without_zone)]
        _write_offers(lines[:limit])
        _note_limit(limit, len(lines), "lines")
    return 0


def _note_limit(limit: int, count: int, what: str) -> None:
    if limit < count:
        write_message(f"{limit} of {count:,} {what}; --limit 0 lists all")


def _find(options: argparse.Namespace) -> "Plan":
    """Return the plan for the bare catalog: neither the fabric nor remembered outages exclude an offer."""
    from multicompute.resolver import find_by_name, resolve
    from multicompute.session import open_session
    from multicompute.spec import ClusterSpec

    session = open_session()
    wanted = {"type": options.accelerator, "interconnect": "any", **request_arguments(options)}
    _, instances = find_by_name(session.catalog, options.accelerator)
    if not instances:
        # One accelerator; an instance type or a slice means as many as it has.
        wanted.setdefault("gpus", 1)
    return resolve(
        ClusterSpec.of(wanted), session.catalog, now=session.clock.now(), configured=session.usable, only=session.only
    )


def _write_offers(lines: Iterable[Sequence["Candidate"]]) -> None:
    """Print one line for offers that differ only in the zone: the first zone, and the number of others."""
    rows = []
    for zones in lines:
        best = zones[0]
        more = f" +{len(zones) - 1}" if len(zones) > 1 else ""
        rows.append(
            (
                best.provider,
                (best.zone or best.region) + more,
                best.instance_type,
                str(best.nodes),
                f"{best.accelerators:g}",
                best.purchase,
                f"{best.hourly_cost:,.2f}",
                f"{best.price_per_accelerator:,.3f}",
                f"{best.price_as_of:%Y-%m-%d}",
                " ".join((best.price_basis, "old" if best.is_stale else "")).strip(),
            )
        )
    write_table(
        ("provider", "zone", "instance type", ">nodes", ">gpus", "purchase", ">$/h", ">$/gpu-h", "price date", "basis"),
        rows,
    )


def _without_zone(candidate: "Candidate") -> tuple[object, ...]:
    return (candidate.provider, candidate.region, candidate.instance_type, candidate.purchase, candidate.hourly_cost)


def catalog_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `catalog`."""
    parser.add_argument(
        "what", choices=("info", "path"), help="info: number and age of the offers; path: folders of the tables"
    )
    json_argument(parser)


def catalog(options: argparse.Namespace) -> int:
    """Print facts on the offer tables."""
    from multicompute.session import open_session

    tables = open_session().catalog.info()
    if options.what == "path":
        paths = {table.provider: str(table.path) for table in tables}
        if options.json:
            write_json(paths)
        else:
            print("\n".join(paths.values()))
    elif options.json:
        write_json(
            {"offers": sum(table.offers for table in tables), "providers": [_table_dict(each) for each in tables]}
        )
    else:
        columns = ("provider", ">offers", ">instance types", ">regions", "oldest price", "newest price")
        write_table(columns, [_table_row(table) for table in tables])
    return 0


def _table_row(table: "ProviderInfo") -> tuple[str, ...]:
    counts = (f"{table.offers:,}", str(table.instance_types), str(table.regions))
    return (table.provider, *counts, str(table.oldest or "-"), str(table.newest or "-"))


def _table_dict(table: "ProviderInfo") -> dict[str, object]:
    return {
        "provider": table.provider,
        "path": str(table.path),
        "offers": table.offers,
        "instance_types": table.instance_types,
        "regions": table.regions,
        "oldest_price": table.oldest.isoformat() if table.oldest else None,
        "newest_price": table.newest.isoformat() if table.newest else None,
    }
