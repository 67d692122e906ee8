"""`doctor`: checks what is installed, configured and allowed, and shows how to fix what fails."""

import argparse
from typing import TYPE_CHECKING, Any

from multicompute.cli.output import write_message, write_table, wrote
from multicompute.cli.status import one_line
from multicompute.cli.tables import explain, output_arguments
from multicompute.config import without_password
from multicompute.errors import MulticomputeError

if TYPE_CHECKING:
    from multicompute.provider import ProviderPlugin
    from multicompute.session import Session

NO_PROVIDER = 6
"""The status if no provider is usable, so that every request would raise AuthError, or if one could not be asked."""
UNUSABLE = 1
_COLUMNS = ("check", "ok", "detail")
_NOTES = 3
"""Problems with regions that are shown; they are usually the same everywhere."""


def doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`."""
    explain(
        parser,
        "Exit status: 0 if a provider is usable and ledger and catalog can be read; 6 if no provider is usable, or one that is\n"
        "configured or has a live cluster could not be asked; 1 if the ledger or the catalog can't be read; 2 if the\n"
        "configuration can't.",
    )
    output_arguments(parser)


def doctor(options: argparse.Namespace) -> int:
    """Print the result of each check."""
    from multicompute.session import open_session

    session = open_session()
    report: dict[str, Any] = {
        "configuration": _configuration(session),
        "ledger": _ledger(session),
        "catalog": _catalog(session),
        "providers": [_provider(session, plugin) for plugin in session.plugins.values()],
    }
    rows = _rows(report)
    if not wrote(options, report, [dict(zip(_COLUMNS, row, strict=True)) for row in rows]):
        write_table(_COLUMNS, rows, wide=options.wide)
    if not (report["ledger"]["ok"] and report["catalog"]["ok"]):
        return UNUSABLE
    not_asked = _not_asked(session, report["providers"])
    if not_asked:
        write_message(f"could not be asked: {', '.join(not_asked)}")
    return 0 if any(provider["usable"] for provider in report["providers"]) and not not_asked else NO_PROVIDER


def _not_asked(session: "Session", providers: list[dict[str, Any]]) -> list[str]:
    """Return the clouds, and their regions, that should have been asked and could not be."""
    from multicompute.engine.operation.coverage import clouds_in_use

    in_use = clouds_in_use(session)
    missing = [name for name in in_use if name not in session.plugins]
    for provider in providers:
        if provider["name"] in in_use and (provider["why"] or provider["unread"]):
            missing.append(" ".join((provider["name"], ", ".join(provider["unread"]))).strip())
    return missing


def _configuration(session: "Session") -> dict[str, Any]:
    path = session.config.path
    return _finding(ok=True, detail=str(path) if path.exists() else f"{path} (does not exist; defaults apply)")


def _ledger(session: "Session") -> dict[str, Any]:
    where = without_password(session.config.state)
    if not session.has_ledger:
        # A check must not create the file.
        return _finding(ok=True, detail=f"{where} (does not exist yet; the first request creates it)")
    try:
        # Opening it checks that it exists, is a ledger, is intact and not of a newer version.
        _ = session.ledger
    except MulticomputeError as error:
        return _finding(ok=False, detail=one_line(error))
    return _finding(ok=True, detail=where)


def _catalog(session: "Session") -> dict[str, Any]:
    try:
        tables = session.catalog.info()
    except MulticomputeError as error:
        return _finding(ok=False, detail=one_line(error))
    dates = ", ".join(f"{table.provider} {table.newest}" for table in tables if table.newest)
    return _finding(ok=True, detail=f"{session.catalog.offer_count:,} offers; newest prices: {dates}")


def _provider(session: "Session", plugin: "ProviderPlugin") -> dict[str, Any]:
    from multicompute.plugins import missing_modules

    why = session.usable[plugin.name]
    checks: list[dict[str, Any]] = []
    regions: list[dict[str, Any]] = []
    unread: list[str] = []
    if not why:
        try:
            checks = [
                _finding(name=check.name, ok=check.ok, detail=check.detail, hint=check.hint)
                for check in session.provider(plugin.name).check()
            ]
            regions, findings, unread = _regions(session, plugin.name)
            checks = [*checks, *findings]
        except MulticomputeError as error:
            why = one_line(error)
    return {
        "name": plugin.name,
        "installed": not missing_modules(plugin),
        "configured": not session.usable[plugin.name],
        "usable": not why and all(check["ok"] for check in checks),
        "why": why,
        "checks": checks,
        "regions": regions,
        "unread": unread,
    }


def _regions(session: "Session", name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Return what the account can use in each region, a finding about all of them, and the regions that could not be read.

    There is nothing for a cloud that has no such interface.
    """
    from multicompute.engine.availability import read_regions, reads_availability

    if not reads_availability(session, name):
        return [], [], []
    only = session.only.get(name)
    regions = [
        each.name
        for each in session.catalog.regions()
        if each.provider == name and (only is None or any(place.startswith(each.name) for place in only))
    ]
    answers, errors = read_regions(session, name, regions)
    found = [
        {"region": each.region, "refused": each.refused, "zones": each.zones, "instance_types": len(each.offered or ())}
        for each in answers
    ]
    refused = ", ".join(f"{each.region} ({each.refused})" for each in answers if each.refused)
    usable = sum(not each.refused for each in answers)
    detail = f"{usable} of {len(answers) + len(errors)} can be used" + (f"; not: {refused}" if refused else "")
    notes = list(
        dict.fromkeys([*(one_line(error) for error in errors), *(note for each in answers for note in each.notes)])
    )
    hint = "; ".join(notes[:_NOTES])
    unread = [region for region in regions if region not in {each.region for each in answers}]
    return found, [_finding(name="regions", ok=not errors and usable > 0, detail=detail, hint=hint)], unread


def _finding(*, ok: bool, detail: str, **more: str) -> dict[str, Any]:
    return {"ok": ok, "detail": detail, **more}


def _rows(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the lines of the table, under `_COLUMNS`."""
    parts = ("configuration", "ledger", "catalog")
    rows = [(part, _word(report[part]), report[part]["detail"]) for part in parts]
    for provider in report["providers"]:
        rows.append((provider["name"], "yes" if provider["usable"] else "no", provider["why"]))
        for check in provider["checks"]:
            rows.append((f"  {check['name']}", _word(check), " ".join((check["detail"], check["hint"])).strip()))
    return rows


def _word(finding: dict[str, Any]) -> str:
    return "yes" if finding["ok"] else "no"
