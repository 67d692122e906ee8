"""`offers` and `catalog`: what can be bought, at which price; neither calls a cloud."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from multicompute import accelerators
from multicompute.cli.arguments import add_request_arguments, request_arguments
from multicompute.cli.output import write_message, write_table, wrote
from multicompute.cli.spelling import options_in_errors
from multicompute.cli.tables import output_arguments
from multicompute.errors import SpecError
from multicompute.text import Narrowing

if TYPE_CHECKING:
    from multicompute.catalog.info import ProviderInfo
    from multicompute.plan import Candidate, Plan
    from multicompute.plan_text import Line

DEFAULT_LIMIT = 20
_ACCELERATOR_KEYS: Final = (
    *("type", "memory_gib", "clouds", "usd_per_accelerator_hour", "provider", "region", "instance_type", "purchase"),
)


def offers_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `offers`."""
    parser.add_argument(
        "accelerator",
        metavar="TYPE",
        nargs="?",
        help="accelerator, TPU slice or instance type; lists all accelerators if omitted",
    )
    add_request_arguments(parser, only=("gpus", "spot", "clouds", "regions"))
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help=f"number of lines to list at most, for a type {DEFAULT_LIMIT} by default; 0 for all",
    )
    output_arguments(parser)


def offers(options: argparse.Namespace) -> int:
    """Print the offers for one type."""
    from multicompute.plan_text import group_zones
    from multicompute.resolver import require

    if options.limit is not None and options.limit < 0:
        raise SpecError(f"--limit {options.limit}: must be 0 (for all) or more")
    if options.accelerator is None:
        return _accelerators(options)
    with options_in_errors():
        found = _find(options, options.accelerator)
        require(found)
    candidates: Sequence[Candidate] = found.candidates
    if not hasattr(options, "gpus"):
        # Without a number, offers are compared by the price of one accelerator.
        candidates = sorted(candidates, key=lambda candidate: candidate.price_per_accelerator)
    limit = (DEFAULT_LIMIT if options.limit is None else options.limit) or len(candidates)
    if wrote(options, [candidate.to_dict() for candidate in candidates[:limit]]):
        _note_limit(limit, len(candidates), "offers")
    else:
        lines = group_zones(candidates)
        _write_offers(lines[:limit], wide=options.wide)
        _note_limit(limit, len(lines), "lines")
    return 0


def _accelerators(options: argparse.Namespace) -> int:
    """Print every accelerator that can be bought, with its memory, its clouds and its lowest price."""
    from multicompute.session import open_session

    if hasattr(options, "gpus"):
        raise SpecError("--gpus: needs a type", hint="write `multicompute offers TYPE --gpus N`")
    records = []
    with options_in_errors():
        for name in open_session().catalog.accelerators():
            if candidates := _find(options, name).candidates:
                records.append(_accelerator_dict(name, candidates))
    limit = options.limit or len(records)
    if not wrote(options, records[:limit], header=_ACCELERATOR_KEYS):
        columns = ("type", ">GiB", "clouds", ">$/acc-h", "lowest in", "instance type", "purchase")
        narrowing = Narrowing(drop=("purchase", "instance type"), shorten=("lowest in", "clouds"))
        rows = [_accelerator_row(record) for record in records[:limit]]
        write_table(columns, rows, narrowing=narrowing, wide=options.wide)
        write_message("`multicompute offers TYPE` lists the offers of one type")
    _note_limit(limit, len(records), "types")
    return 0


def _accelerator_dict(name: str, candidates: "Sequence[Candidate]") -> dict[str, object]:
    best = min(candidates, key=lambda candidate: candidate.price_per_accelerator)
    known = accelerators.get(name)
    memory = known.memory_gib if known else best.instance.accelerator_memory_gib
    clouds = sorted({candidate.provider for candidate in candidates})
    lowest = (best.price_per_accelerator, best.provider, best.region, best.instance_type, best.purchase)
    return dict(zip(_ACCELERATOR_KEYS, (name, memory, clouds, *lowest), strict=True))


def _accelerator_row(record: "Mapping[str, Any]") -> tuple[str, ...]:
    return (
        record["type"],
        f"{record['memory_gib']:g}",
        ", ".join(record["clouds"]),
        f"{record['usd_per_accelerator_hour']:,.2f}",
        f"{record['provider']} {record['region']}",
        record["instance_type"],
        record["purchase"],
    )


def _note_limit(limit: int, count: int, what: str) -> None:
    if limit < count:
        write_message(f"{limit} of {count:,} {what}; --limit 0 lists all")


def _find(options: argparse.Namespace, kind: str) -> "Plan":
    """Return the plan for the bare catalog: neither the fabric, a surplus nor remembered outages exclude an offer."""
    from multicompute.resolver import find_by_name, resolve
    from multicompute.session import open_session
    from multicompute.spec import ClusterSpec

    session = open_session()
    wanted = {"type": kind, "interconnect": "any", "allow_surplus": True, **request_arguments(options)}
    kinds = [name.strip() for name in kind.split(",")]
    if not any(find_by_name(session.catalog, name)[1] for name in kinds):
        # One accelerator; an instance type or a slice means as many as it has.
        wanted.setdefault("gpus", 1)
    return resolve(
        ClusterSpec.of(wanted),
        session.catalog,
        now=session.clock.now(),
        configured=session.usable,
        only=session.only,
        proposes=options.accelerator is not None,
    )


def _write_offers(lines: "Sequence[Line]", *, wide: bool) -> None:
    """Print the table of `plan` without the ranks, and with the sources in full."""
    from multicompute.plan_text import CANDIDATE_HEADERS, CANDIDATE_NARROWING, RIGHT, candidate_rows, legend

    sources = {line.best.price_source: line.best.price_source for line in lines}
    _, *titles = (f">{title}" if index in RIGHT else title for index, title in enumerate(CANDIDATE_HEADERS))
    rows = [row[1:] for row in candidate_rows(lines, sources)]
    write_table(titles, rows, narrowing=CANDIDATE_NARROWING, wide=wide)
    if meanings := legend(lines):
        print("\n" + "\n".join(meanings))


def catalog_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `catalog`."""
    parser.add_argument(
        "what", choices=("info", "path"), help="info: number and age of the offers; path: folders of the tables"
    )
    output_arguments(parser)


def catalog(options: argparse.Namespace) -> int:
    """Print facts on the offer tables."""
    from multicompute.session import open_session

    tables = open_session().catalog.info()
    if options.what == "path":
        paths = {table.provider: str(table.path) for table in tables}
        if not wrote(options, paths, [{"provider": name, "path": path} for name, path in paths.items()]):
            print("\n".join(paths.values()))
        return 0
    records = [_table_dict(each) for each in tables]
    if not wrote(options, {"offers": sum(table.offers for table in tables), "providers": records}, records):
        columns = ("cloud", ">offers", ">instance types", ">regions", "oldest price", "newest price")
        narrowing = Narrowing(drop=("regions", "oldest price"))
        write_table(columns, [_table_row(table) for table in tables], narrowing=narrowing, wide=options.wide)
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
