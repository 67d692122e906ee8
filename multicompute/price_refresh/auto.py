"""Refreshes the prices that a plan needs before it is made, if the configuration asks for it and they are too old.

What was asked is remembered in `catalog/.asked.json`, also by other processes: prices that the vendor did not answer with stay old, and
a machine without a network would otherwise wait before every plan.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from multicompute.clock import process_id
from multicompute.price_refresh._run import refreshable, run
from multicompute.price_refresh._scope import Scope
from multicompute.resolver import needed_prices
from multicompute.session import Session
from multicompute.spec import ClusterSpec
from multicompute.units import counted, format_instant, parse_instant

_log = logging.getLogger("multicompute")
_DAILY: Final = timedelta(days=1)
_DEADLINE: Final = timedelta(seconds=8)
_FAILURE_KEPT: Final = timedelta(hours=1)
"""So long after a failure, plans use the prices that there are."""

_Needed = Mapping[tuple[str, str], frozenset[str]]
"""(Provider, accelerator) -> regions."""


def is_wanted(session: Session) -> bool:
    """Return whether plans refresh prices that are too old."""
    config = session.config
    return config.auto_refresh == "daily" or (config.auto_refresh is None and config.max_price_age is not None)


def refresh_old_prices(
    session: Session, spec: ClusterSpec, *, notify: Callable[[str], None] | None = None
) -> tuple[str, ...]:
    """Refresh the prices that a plan for `spec` needs, if they are too old and plans are to refresh them.

    Args:
        session: The configuration and the current tables.
        spec: The request.
        notify: Called with what is done, in a sentence, before and after it takes time; otherwise this is only logged.

    Returns:
        Why prices could not be refreshed, for the notes of the plan.
    """
    if not is_wanted(session) or session.config.catalog is not None:
        return ()
    now, age = session.clock.now(), session.config.max_price_age or _DAILY
    asked = _Asked(session.refreshed_folder / ".asked.json", now=now, kept=min(age, _DAILY))
    # A price of a day may be from its first minute.
    old = needed_prices(spec, session.catalog, only=session.only, fresh_since=(now - age + _DAILY).date())
    needed, failures = asked.still_needed(old)
    if not needed:
        return failures
    say = notify or _ignore
    what = ", ".join(sorted({f"{name} {accelerator or 'cpu'}" for name, accelerator in needed}))
    _say(say, f"refreshing prices that are too old: {what}")
    report = run(session, _scopes(session, needed), deadline=_DEADLINE)
    for name, cloud in report.clouds.items():
        error = "; ".join(f"{failed.region} {failed.error}".strip() for failed in cloud.failed[:1])
        asked.put({key: regions for key, regions in needed.items() if key[0] == name}, error)
        _say(
            say,
            f"{name}: prices could not be refreshed: {error}"
            if error
            else f"{name}: {counted(cloud.changed, 'price')} changed",
        )
    asked.save()
    return asked.still_needed(old)[1]


def _say(say: Callable[[str], None], text: str) -> None:
    _log.info("%s", text)
    say(text)


def _ignore(text: str) -> None:
    """Say nothing."""


def _scopes(session: Session, needed: _Needed) -> dict[str, Scope]:
    regions: dict[str, set[str]] = defaultdict(set)
    accelerators: dict[str, set[str]] = defaultdict(set)
    for (name, accelerator), places in needed.items():
        regions[name] |= places
        accelerators[name].add(accelerator)
    known = refreshable(session).providers
    return {name: Scope(frozenset(regions[name]), frozenset(accelerators[name])) for name in regions if name in known}


class _Asked:
    """The time and the error of the last refresh of each price."""

    def __init__(self, path: Path, *, now: datetime, kept: timedelta) -> None:
        self._path = path
        self._now = now
        self._kept = kept
        self._entries = self._read()

    def _read(self) -> dict[str, dict[str, str]]:
        """Return key -> {"at", "error"}, without those that no longer count; {} if the file can't be read."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return {key: each for key, each in found.items() if self._counts(each)}
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            return {}

    def _counts(self, entry: Mapping[str, str]) -> bool:
        limit = _FAILURE_KEPT if entry["error"] else self._kept
        return timedelta(0) <= self._now - parse_instant(entry["at"]) < limit

    def still_needed(self, wanted: _Needed) -> tuple[dict[tuple[str, str], frozenset[str]], tuple[str, ...]]:
        """Return what has not been asked for lately, and the errors of the rest."""
        needed: dict[tuple[str, str], frozenset[str]] = {}
        errors: dict[str, None] = {}
        for (name, accelerator), regions in wanted.items():
            entries = {region: self._entries.get(_key(name, accelerator, region)) for region in regions}
            if missing := frozenset(region for region, entry in entries.items() if entry is None):
                needed[name, accelerator] = missing
            for entry in entries.values():
                if entry is not None and entry["error"]:
                    again = parse_instant(entry["at"]) + _FAILURE_KEPT
                    errors[
                        f"{name}: prices could not be refreshed ({entry['error']}); tried again after {again:%H:%M} UTC"
                    ] = None
        return needed, tuple(errors)

    def put(self, needed: _Needed, error: str) -> None:
        """Remember that these were asked for now."""
        for (name, accelerator), regions in needed.items():
            for region in regions:
                entry = {"at": format_instant(self._now), "error": error}
                self._entries[_key(name, accelerator, region)] = entry

    def save(self) -> None:
        """Write the file. Without it, the next plan asks again."""
        temporary = self._path.with_name(f"{self._path.name}.{process_id()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self._entries), encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            _log.warning("%s: can't be written: %s", self._path, error)


def _key(name: str, accelerator: str, region: str) -> str:
    return f"{name} {accelerator or 'cpu'} {region}"
