"""`reconcile` and `reap`: compare the clouds with the ledger."""

import argparse
from collections.abc import Mapping
from typing import Any

from multicompute.cli.coverage import NOT_ASKED, write_coverage
from multicompute.cli.output import write_message, write_table, wrote
from multicompute.cli.tables import output_arguments

LEAK_FOUND = 9
INCOMPLETE = 1
"""The status if something could not be terminated or adopted; the next call tries again."""

_COLUMNS = ("finding", "cluster", "detail")
_WORDS = {
    "orphans": "orphan",
    "in_doubt": "in doubt",
    "clusters": "live",
    "skipped": "other account",
    "not_due": "not due",
}
"""Key of the report -> the word for one finding, if it is not the key itself."""
_NO_FINDINGS = ("asked", "not_asked", "unused", "notes")
"""Keys of the report that are written as messages."""


def reconcile_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `reconcile`."""
    every = "; every orphan if no name is given"
    parser.add_argument(
        "--adopt", nargs="*", metavar="NAME", help=f"add these orphans, by name or id, to the ledger{every}"
    )
    parser.add_argument(
        "--terminate", nargs="*", metavar="NAME", help=f"delete these orphans, by name or id, and wait{every}"
    )
    _arguments(parser)


def reconcile(options: argparse.Namespace) -> int:
    """Compare, fix and print the findings."""
    from multicompute.engine.recovery.inventory import EVERY
    from multicompute.engine.recovery.reconcile import reconcile as compare
    from multicompute.session import open_session

    def chosen(names: list[str] | None) -> tuple[str, ...]:
        return () if names is None else tuple(names) or EVERY

    adopt, terminate = chosen(options.adopt), chosen(options.terminate)
    report = compare(open_session(), dry_run=options.dry_run, adopt=adopt, terminate=terminate)
    _write(report.to_dict(), options)
    if report.orphans and not (adopt or terminate or options.json):
        write_message(
            "an orphan may belong to another ledger: --adopt NAME adds it to this one, --terminate NAME deletes it"
        )
    write_coverage(report.coverage, is_terse=options.output != "table")
    if options.dry_run and report.is_leak:
        return LEAK_FOUND
    if not report.is_complete:
        return NOT_ASKED
    return INCOMPLETE if report.failed else 0


def reap_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `reap`."""
    _arguments(parser)


def reap(options: argparse.Namespace) -> int:
    """Terminate what has expired and print the findings."""
    from multicompute.engine.recovery.reap import reap as terminate_expired
    from multicompute.session import open_session

    report = terminate_expired(open_session(), dry_run=options.dry_run)
    _write(report.to_dict(), options)
    write_coverage(report.coverage, is_terse=options.output != "table")
    if not report.coverage.is_complete:
        return NOT_ASKED
    return INCOMPLETE if report.failed else 0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="report what would be done, and change nothing")
    output_arguments(parser)


def _write(report: Mapping[str, Any], options: argparse.Namespace) -> None:
    rows = [row for key, found in report.items() if key not in _NO_FINDINGS for row in _rows(key, found)]
    if wrote(options, report, [dict(zip(_COLUMNS, row, strict=True)) for row in rows], header=_COLUMNS):
        return
    if rows:
        if options.dry_run:
            write_message("nothing was changed: --dry-run")
        write_table(_COLUMNS, rows, wide=options.wide)
    elif report["asked"]:
        write_message("no live clusters in the ledger, and no resources left in the clouds that answered")
    else:
        write_message("no live clusters in the ledger; what the clouds have is unknown")
    for note in report["notes"]:
        write_message(f"note: {note}")


def _rows(key: str, found: Any) -> list[tuple[str, str, str]]:
    """Return the rows for findings of one kind: names, names with a reason, or orphans."""
    word = _WORDS.get(key, key)
    if isinstance(found, Mapping):
        return [(word, name, why) for name, why in found.items()]
    return [(word, item, "") if isinstance(item, str) else (word, item["name"], _orphan(item)) for item in found]


def _orphan(item: Mapping[str, Any]) -> str:
    cost = "billable" if item["billable"] else "free"
    return f"{item['provider']} {', '.join(item['regions'])}: {', '.join(item['resources'])} ({cost})"
