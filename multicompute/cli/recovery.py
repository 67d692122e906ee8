"""`reconcile` and `reap`: what the clouds have, held against what the ledger says."""

import argparse
from collections.abc import Mapping
from typing import Any

from multicompute.cli.output import tell, write_json, write_table

LEAK_FOUND = 9
NOT_THROUGH = 1
"""Something could not be ended or adopted; the next call goes on."""

_WORDS = {"orphans": "orphan", "in_doubt": "in doubt", "clusters": "alive"}
"""What a finding is called, where the key of the report is not the word for one."""


def reconcile_arguments(parser: argparse.ArgumentParser) -> None:
    every = "; without a name every orphan"
    parser.add_argument(
        "--adopt", nargs="*", metavar="NAME", help=f"write these orphans, by name or id, into the ledger{every}"
    )
    parser.add_argument(
        "--terminate", nargs="*", metavar="NAME", help=f"delete these orphans, by name or id, and wait{every}"
    )
    _arguments(parser)


def reconcile(options: argparse.Namespace) -> int:
    from multicompute.engine.recovery.inventory import EVERY
    from multicompute.engine.recovery.reconcile import reconcile as compare
    from multicompute.session import open_session

    def chosen(names: list[str] | None) -> tuple[str, ...]:
        return () if names is None else tuple(names) or EVERY

    adopt, terminate = chosen(options.adopt), chosen(options.terminate)
    report = compare(open_session(), dry_run=options.dry_run, adopt=adopt, terminate=terminate)
    _write(report.to_dict(), options)
    if report.orphans and not (adopt or terminate or options.json):
        tell("an orphan may be another ledger's: --adopt NAME takes it into this one, --terminate NAME deletes it")
    if report.failed:
        return NOT_THROUGH
    return LEAK_FOUND if options.dry_run and report.is_leak else 0


def reap_arguments(parser: argparse.ArgumentParser) -> None:
    _arguments(parser)


def reap(options: argparse.Namespace) -> int:
    from multicompute.engine.recovery.reap import reap as end
    from multicompute.session import open_session

    report = end(open_session(), dry_run=options.dry_run)
    _write(report.to_dict(), options)
    return NOT_THROUGH if report.failed else 0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def _write(report: Mapping[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        write_json(report)
        return
    rows = [row for key, found in report.items() if key != "notes" for row in _rows(key, found)]
    if rows:
        if options.dry_run:
            tell("nothing was done: --dry-run")
        write_table(("finding", "cluster", "detail"), rows)
    else:
        tell("no cluster lives, and nothing of ours is left anywhere that could be asked")
    for note in report["notes"]:
        tell(f"note: {note}")


def _rows(key: str, found: Any) -> list[tuple[str, str, str]]:
    """The findings of one kind: names, names with a reason, or orphans."""
    word = _WORDS.get(key, key)
    if isinstance(found, Mapping):
        return [(word, name, why) for name, why in found.items()]
    return [(word, item, "") if isinstance(item, str) else (word, item["name"], _orphan(item)) for item in found]


def _orphan(item: Mapping[str, Any]) -> str:
    cost = "costs money" if item["billable"] else "free"
    return f"{item['provider']} {', '.join(item['regions'])}: {', '.join(item['resources'])} ({cost})"
