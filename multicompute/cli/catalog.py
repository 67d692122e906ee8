"""`catalog`: where prices come from, how old they are, and their refresh."""

import argparse
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from multicompute.cli.output import write_message, write_table, wrote
from multicompute.cli.spelling import options_in_errors
from multicompute.cli.tables import explain, output_arguments
from multicompute.errors import SpecError
from multicompute.text import Narrowing
from multicompute.units import counted

if TYPE_CHECKING:
    from multicompute.catalog.info import ProviderInfo, SourceInfo
    from multicompute.price_refresh import CloudReport, PriceMove, RefreshReport
    from multicompute.session import Session

_SELECTIONS: Final = ("clouds", "regions", "accelerators")
_ACCEPTED: Final[Mapping[str, tuple[str, ...]]] = {"refresh": _SELECTIONS, "reset": ("clouds",)}
"""Action -> the options that select a part of the tables."""
_SHOWN_MOVES: Final = 10
INCOMPLETE: Final = 1
"""The exit status if a cloud or a region could not be refreshed."""


def catalog_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `catalog`."""
    parser.add_argument(
        "what",
        choices=("info", "path", "refresh", "reset"),
        help="info: number, age and sources of the offers; path: folders of the tables; refresh: fetch today's prices from the "
        "vendors; reset: use the packaged tables again",
    )
    for flag, name, metavar, what in (
        ("--cloud", "clouds", "CLOUD", "refresh or reset only this cloud"),
        ("--region", "regions", "REGION", "refresh only this region, glob or residency"),
        ("--accelerator", "accelerators", "TYPE", "refresh only this accelerator; cpu for types without any"),
    ):
        parser.add_argument(flag, dest=name, metavar=metavar, action="append", help=f"{what} (may be repeated)")
    output_arguments(parser)
    explain(
        parser,
        "Exit status of `catalog refresh`: 0 if everything was read; 1 if a cloud or a region could not be read. What was read is in "
        "use then, and the other prices stay.",
    )


def catalog(options: argparse.Namespace) -> int:
    """Print facts on the offer tables, or refresh them."""
    for name in _SELECTIONS:
        if getattr(options, name) and name not in _ACCEPTED.get(options.what, ()):
            raise SpecError(f"--{name.removesuffix('s')}: not an option of `catalog {options.what}`")
    return {"info": _info, "path": _path, "refresh": _refresh, "reset": _reset}[options.what](options)


def _path(options: argparse.Namespace) -> int:
    from multicompute.session import open_session

    paths = {table.provider: str(table.path) for table in open_session().catalog.info()}
    if not wrote(options, paths, [{"provider": name, "path": path} for name, path in paths.items()]):
        print("\n".join(paths.values()))
    return 0


def _info(options: argparse.Namespace) -> int:
    from multicompute.session import open_session

    session = open_session()
    sources = session.catalog.sources()
    records = [_table_dict(session, each, sources) for each in session.catalog.info()]
    if wrote(options, {"offers": sum(each["offers"] for each in records), "providers": records}, records):
        return 0
    columns = ("cloud", "tables", ">offers", ">instance types", ">regions", "oldest price", "newest price", ">days old")
    narrowing = Narrowing(drop=("regions", "oldest price", "instance types"))
    write_table(columns, [_table_row(each) for each in records], narrowing=narrowing, wide=options.wide)
    print()
    titles = ("cloud", ">prices", "basis", "oldest", "newest", "source")
    write_table(
        titles,
        [_source_row(each) for each in sources],
        narrowing=Narrowing(prose="source", drop=("oldest", "prices")),
        wide=options.wide,
    )
    return 0


def _table_dict(session: "Session", table: "ProviderInfo", sources: "tuple[SourceInfo, ...]") -> dict[str, Any]:
    today = session.clock.now().date()
    return {
        "provider": table.provider,
        "path": str(table.path),
        "tables": _kind(session, table),
        "offers": table.offers,
        "instance_types": table.instance_types,
        "regions": table.regions,
        "oldest_price": table.oldest.isoformat() if table.oldest else None,
        "newest_price": table.newest.isoformat() if table.newest else None,
        "days_old": (today - table.newest).days if table.newest else None,
        "sources": [_source_dict(each) for each in sources if each.provider == table.provider],
    }


def _kind(session: "Session", table: "ProviderInfo") -> str:
    """Return which tables are used: "configured", "refreshed" or "packaged"."""
    if session.config.catalog is not None:
        return "configured"
    return "refreshed" if table.path.is_relative_to(session.refreshed_folder) else "packaged"


def _source_dict(source: "SourceInfo") -> dict[str, Any]:
    return {
        "source": source.source,
        "basis": source.basis,
        "prices": source.prices,
        "oldest_price": source.oldest.isoformat(),
        "newest_price": source.newest.isoformat(),
    }


def _table_row(record: Mapping[str, Any]) -> tuple[str, ...]:
    counts = (f"{record['offers']:,}", str(record["instance_types"]), str(record["regions"]))
    ages = (record["oldest_price"] or "-", record["newest_price"] or "-")
    days = "-" if record["days_old"] is None else str(record["days_old"])
    return (record["provider"], record["tables"], *counts, *ages, days)


def _source_row(source: "SourceInfo") -> tuple[str, ...]:
    dates = (source.oldest.isoformat(), source.newest.isoformat())
    return (source.provider, f"{source.prices:,}", source.basis, *dates, source.source)


def _refresh(options: argparse.Namespace) -> int:
    from multicompute import catalog
    from multicompute.progress import refresh_progress

    with options_in_errors(), refresh_progress() as progress:
        report = catalog.refresh(options.clouds, options.regions, options.accelerators, progress)
    if not wrote(options, report.to_dict(), [_csv_record(name, each) for name, each in report.clouds.items()]):
        _write_report(report, wide=options.wide)
    for cloud, failed in report.errors:
        where = f"{cloud} {failed.region}".strip()
        write_message(f"multicompute: {where}: {failed.error}")
    return 0 if report.ok else INCOMPLETE


def _csv_record(name: str, report: "CloudReport") -> dict[str, object]:
    return {"cloud": name, **report.to_dict()}


def _write_report(report: "RefreshReport", *, wide: bool) -> None:
    columns = ("cloud", ">offers", ">changed", ">added", ">removed", "newest price", ">calls", ">seconds", "result")
    rows = [_report_row(name, each) for name, each in report.clouds.items()]
    narrowing = Narrowing(drop=("seconds", "newest price", "calls"))
    write_table(columns, rows, narrowing=narrowing, wide=wide)
    moves = [(name, move) for name, each in report.clouds.items() for move in each.moves]
    moves.sort(key=lambda item: -max(item[1].ratio, 1 / item[1].ratio))
    if moves:
        print("\nlargest changes of prices")
        titles = ("place", "instance type", "purchase", ">before $/h", ">after $/h", ">change", "")
        rows = [_move_row(name, move) for name, move in moves[:_SHOWN_MOVES]]
        write_table(titles, rows, narrowing=Narrowing(shorten=("place",)), wide=wide)
        if len(moves) > _SHOWN_MOVES:
            print(f"and {len(moves) - _SHOWN_MOVES:,} more")
    calls = [line for name, each in report.clouds.items() if (line := _calls_line(name, each))]
    notes = [f"{name}: {note}" for name, each in report.clouds.items() for note in (*each.notes, *_unreadable(each))]
    for lines in (calls, notes):
        if lines:
            print("\n" + "\n".join(lines))


def _report_row(name: str, report: "CloudReport") -> tuple[str, ...]:
    counts = (report.offers, report.changed, report.added, report.removed)
    result = "failed" if any(not each.region for each in report.failed) else ""
    if report.failed and not result:
        result = f"{counted(len(report.failed), 'region')} failed"
    result = result or ("refreshed" if report.is_swapped else "unchanged")
    as_of = report.as_of.isoformat() if report.as_of else "-"
    return (name, *(f"{count:,}" for count in counts), as_of, f"{report.call_count:,}", f"{report.seconds:.1f}", result)


def _move_row(name: str, move: "PriceMove") -> tuple[str, ...]:
    place = f"{name} {move.zones[0] if move.zones else move.region}"
    place += f" +{len(move.zones) - 1}" if len(move.zones) > 1 else ""
    prices = (f"{move.before:,.2f}", f"{move.after:,.2f}", f"{move.ratio - 1:+.0%}")
    return (place, move.instance_type, move.purchase, *prices, "" if move.is_accepted else "not confirmed")


def _calls_line(name: str, report: "CloudReport") -> str:
    calls = ", ".join(f"{operation} {count:,}" for operation, count in Counter(report.calls).most_common())
    return f"{name}: {report.call_count:,} calls: {calls}" if calls else ""


def _unreadable(report: "CloudReport") -> list[str]:
    return [f"{count:,} rows left out: {what}" for what, count in sorted(report.unreadable.items())]


def _reset(options: argparse.Namespace) -> int:
    from multicompute import catalog
    from multicompute.session import open_session

    with options_in_errors():
        clouds = catalog.reset(options.clouds)
    path = str(open_session().refreshed_folder)
    if not wrote(
        options, {"clouds": list(clouds), "path": path}, [{"cloud": name} for name in clouds], header=("cloud",)
    ):
        print(f"packaged tables are used again: {', '.join(clouds)}" if clouds else "no refreshed tables were in use")
    return 0
