"""`offers`, `plan`, `catalog`: what can be bought and at what price; no cloud is touched."""

import argparse
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from multicompute.cli.arguments import add_request_arguments, request_arguments
from multicompute.cli.output import tell, write_json, write_table
from multicompute.errors import NoOfferError, SpecError

if TYPE_CHECKING:
    from multicompute.catalog.info import CatalogInfo
    from multicompute.plan import Candidate, Plan

DEFAULT_LIMIT = 20


def offers_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("accelerator", metavar="TYPE", help="accelerator, TPU slice or instance type")
    add_request_arguments(parser, only=("gpus", "spot", "clouds", "regions"))
    parser.add_argument(
        "--limit",
        type=int,
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"at most N offers, {DEFAULT_LIMIT} by default; 0: all",
    )
    _json_argument(parser)


def offers(options: argparse.Namespace) -> int:
    from multicompute.resolver import require

    if options.limit < 0:
        raise SpecError(f"--limit {options.limit}: must be 0, for all, or more")
    found = _found(options)
    require(found)
    candidates: Sequence[Candidate] = found.candidates
    if not hasattr(options, "gpus"):
        # No number asked for: what one accelerator costs is what compares.
        candidates = sorted(candidates, key=lambda candidate: candidate.price_per_accelerator)
    limit = options.limit or len(candidates)
    if options.json:
        write_json([candidate.to_dict() for candidate in candidates[:limit]])
        _tell_limit(limit, len(candidates), "offers")
    else:
        lines = [list(same) for _, same in groupby(candidates, key=_but_for_the_zone)]
        _write_offers(lines[:limit])
        _tell_limit(limit, len(lines), "lines")
    return 0


def _tell_limit(limit: int, there_are: int, what: str) -> None:
    if limit < there_are:
        tell(f"{limit} of {there_are:,} {what}; --limit 0 lists all")


def _found(options: argparse.Namespace) -> "Plan":
    """The plan over the bare catalog: neither fabric nor remembered outages narrow what is on sale."""
    from multicompute.resolver import resolve
    from multicompute.session import open_session
    from multicompute.spec import ClusterSpec

    session = open_session()
    asked = {"type": options.accelerator, "interconnect": "any", **request_arguments(options)}
    if not session.catalog.instances(options.accelerator):
        # One of an accelerator; an instance type or a slice stands for as many as it has.
        asked.setdefault("gpus", 1)
    return resolve(
        ClusterSpec.of(asked), session.catalog, now=session.clock.now(), configured=session.usable, only=session.only
    )


def _write_offers(lines: Iterable[Sequence["Candidate"]]) -> None:
    """Write a line for what differs in nothing but the zone: the first zone, and how many more there are."""
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
        ("provider", "zone", "instance type", ">nodes", ">gpus", "purchase", ">$/h", ">$/gpu-h", "price of", "basis"),
        rows,
    )


def _but_for_the_zone(candidate: "Candidate") -> tuple[object, ...]:
    return (candidate.provider, candidate.region, candidate.instance_type, candidate.purchase, candidate.hourly_cost)


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    add_request_arguments(parser)
    _json_argument(parser)


def plan(options: argparse.Namespace) -> int:
    from multicompute.cluster import Cluster

    try:
        found = Cluster.plan(**request_arguments(options))
    except NoOfferError as error:
        # The reasons are a result too: a program gets them beside the status.
        if options.json and error.plan is not None:
            write_json(error.plan.to_dict())
        raise
    if options.json:
        write_json(found.to_dict())
    else:
        print(found.explain())
    return 0


def catalog_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", choices=("info", "path"), help="info: how many offers, how old; path: where the tables are"
    )
    _json_argument(parser)


def catalog(options: argparse.Namespace) -> int:
    from multicompute.session import open_session

    info = open_session().catalog.info()
    if options.what == "path":
        paths = {table.provider: str(table.path) for table in info.providers}
        if options.json:
            write_json(paths)
        else:
            print("\n".join(paths.values()))
    elif options.json:
        write_json(_info_document(info))
    else:
        rows = [
            (
                t.provider,
                f"{t.offers:,}",
                str(t.instance_types),
                str(t.regions),
                str(t.oldest or "-"),
                str(t.newest or "-"),
            )
            for t in info.providers
        ]
        write_table(("provider", ">offers", ">instance types", ">regions", "oldest price", "newest price"), rows)
    return 0


def _info_document(info: "CatalogInfo") -> dict[str, object]:
    return {
        "offers": info.offers,
        "providers": [
            {
                "provider": table.provider,
                "path": str(table.path),
                "offers": table.offers,
                "instance_types": table.instance_types,
                "regions": table.regions,
                "oldest_price": table.oldest.isoformat() if table.oldest else None,
                "newest_price": table.newest.isoformat() if table.newest else None,
            }
            for table in info.providers
        ],
    }


def _json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
