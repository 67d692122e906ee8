"""Refreshes the tables of one cloud: asks its feed, merges the answer, checks the result, and replaces the tables."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date
from typing import TYPE_CHECKING, Final

from multicompute import accelerators
from multicompute.catalog.checks import problems
from multicompute.catalog.content import Content, priced_type, read_content, with_additions
from multicompute.catalog.versions import Versions
from multicompute.catalog.writer import rendered
from multicompute.clock import monotonic
from multicompute.errors import CatalogError, ConfigError, MulticomputeError, ThrottledError, TransientError
from multicompute.offer import Region
from multicompute.price_feed import FailedRegion, FoundPrices, Price, PriceFeed, PriceQuery
from multicompute.price_refresh._merge import Merged, merge
from multicompute.price_refresh._report import CloudReport
from multicompute.price_refresh._scope import Scope, regions_sold_in
from multicompute.session import Session
from multicompute.text import shortened

if TYPE_CHECKING:
    from multicompute.provider import ProviderPlugin

_log = logging.getLogger("multicompute")
_LOCK_POLL: Final = 0.1
_LONGEST_ERROR: Final = 300

Progress = Callable[[str, float, str], None]
"""Called with the name of a cloud, the completed share from 0 to 1, and what is being done, from any thread."""


class Cancelled(BaseException):
    """The refresh is no longer wanted. Not an Exception, so that no feed catches it."""


class CloudRefresh:
    """The refresh of one cloud, which runs in a thread of its own."""

    def __init__(self, session: Session, name: str, scope: Scope, *, progress: Progress) -> None:
        """Keep what is to be done.

        Args:
            session: The configuration and the providers.
            name: The name of the cloud.
            scope: Which part of its tables.
            progress: Called with the progress.
        """
        self._session = session
        self._name = name
        self._scope = scope
        self._progress = progress
        self._cancelled = threading.Event()
        self._versions = Versions(session.refreshed_folder, name, clock=session.clock, random=session.random)
        self._today: date = session.clock.now().astimezone(UTC).date()
        self._notes: list[str] = []
        self._offers = 0
        self._as_of: date | None = None

    def cancel(self) -> None:
        """Stop at the next step, without new tables."""
        self._cancelled.set()

    def run(self) -> CloudReport:
        """Refresh the tables, and report what happened; a failure is part of the report.

        Raises:
            Cancelled: `cancel` was called.
        """
        started = monotonic()
        self._note_tables()
        try:
            with self._versions.locked(self._wait_for_lock):
                report = self._refresh()
        except MulticomputeError as error:
            report = self.failed(self._described(error))
        except ImportError as error:
            report = self.failed(self._missing_sdk(error))
        except Exception as error:  # noqa: BLE001 - a bug in one cloud's feed must not lose the prices of the others
            _log.debug("the refresh of %s failed", self._name, exc_info=True)
            report = self.failed(_one_line(f"unexpected {type(error).__name__}: {error}; --debug logs it in full"))
        self._progress(self._name, 1.0, "done" if report.ok else "failed")
        return replace(report, seconds=monotonic() - started)

    def failed(self, error: str) -> CloudReport:
        """Return the report of a cloud that could not be refreshed."""
        return CloudReport(offers=self._offers, as_of=self._as_of, failed=(FailedRegion("", error),))

    @property
    def _plugin(self) -> "ProviderPlugin":
        return self._session.plugins[self._name]

    def _note_tables(self) -> None:
        """Read the number and the age of the current offers, for the report of a failure."""
        described = [each for each in self._session.catalog.info() if each.provider == self._name]
        for each in described:
            self._offers, self._as_of = each.offers, each.newest

    def _wait_for_lock(self) -> None:
        self._report(0.0, "waiting for another refresh")
        self._cancelled.wait(_LOCK_POLL)

    def _report(self, share: float, what: str) -> None:
        """Report the progress, or stop if the refresh was cancelled."""
        if self._cancelled.is_set():
            raise Cancelled
        self._progress(self._name, min(max(share, 0.0), 1.0), what)

    def _refresh(self) -> CloudReport:
        self._report(0.0, "reading the tables")
        self._versions.clean_up()
        feed = self._open_feed()
        base = self._base()
        # Asking takes nearly all of the time.
        found = feed.fetch(self._query(base), progress=lambda share: self._report(0.9 * share, "asking"))
        self._report(0.9, "checking")
        merged = merge(
            base, found, scope=self._scope, today=self._today, confirm=lambda prices: self._confirm(feed, prices)
        )
        self._report(0.95, "writing")
        is_swapped = self._replace(merged.content)
        self._note_use()
        return self._describe(found, merged, is_swapped=is_swapped)

    def _open_feed(self) -> PriceFeed:
        # The method is younger than the first release, so the plug-ins of third parties may lack it.
        opens = getattr(self._plugin, "open_price_feed", None)
        feed: PriceFeed | None = opens(self._session.settings(self._name)) if opens else None
        if feed is None:
            raise ConfigError(f"{self._name}: its provider can't ask for prices, so its tables can't be refreshed")
        return feed

    def _base(self) -> Content:
        """Return the current tables; the packaged ones, with a note, if the refreshed ones can't be read."""
        assert self._plugin.tables is not None
        packaged = read_content(self._name, self._plugin.tables)
        current = self._versions.current
        if current is None:
            return packaged
        try:
            return with_additions(read_content(self._name, current), packaged)
        except CatalogError as error:
            text = f"the refreshed tables could not be read, so the packaged ones are the basis: {error.message}"
            self._notes.append(text)
            return packaged

    def _query(self, base: Content) -> PriceQuery:
        regions = [
            Region(self._name, row["region"], row["residency"], row["country"], row["partition"])
            for row in base.regions
        ]
        asked = regions_sold_in(regions, {line.cells["region"] for line in base.lines})
        return PriceQuery(
            types=[priced_type(self._name, entry) for entry in base.types if self._scope.has_shard(entry.shard)],
            regions=[name for name in asked if self._scope.has_region(name)],
            accelerators=self._scope.accelerators,
            zones=base.zones,
        )

    def _confirm(self, feed: PriceFeed, prices: Sequence[Price]) -> Sequence[Price]:
        self._report(0.92, "confirming")
        try:
            return feed.confirm(prices)
        except MulticomputeError as error:
            self._notes.append(f"the second query failed: {self._described(error)}")
            return ()

    def _replace(self, content: Content) -> bool:
        """Replace the tables in use; return False if they already have this content.

        Raises:
            CatalogError: The new tables have a problem, or can't be written. The old ones stay.
        """
        files = rendered(content)
        if self._versions.is_current(files):
            return False
        known = {accelerator.name for accelerator in accelerators.known()}
        with self._versions.written(files) as version:
            found = list(problems(self._name, version, accelerators=known, today=self._today))
            if found:
                more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
                raise CatalogError(
                    f"the new tables have a problem: {found[0]}{more}; the tables in use stay", provider=self._name
                )
            self._report(0.98, "replacing the tables")
            self._versions.use(version)
        return True

    def _describe(self, found: FoundPrices, merged: Merged, *, is_swapped: bool) -> CloudReport:
        dates = [line.cells["as_of"] for line in merged.content.lines]
        unreadable = {**found.unreadable}
        for what, count in merged.rejected.items():
            unreadable[what] = unreadable.get(what, 0) + count
        changes = merged.changes
        return CloudReport(
            offers=merged.content.offer_count,
            changed=changes.changed,
            added=changes.added,
            removed=changes.removed,
            as_of=date.fromisoformat(max(dates)) if dates else None,
            failed=tuple(FailedRegion(each.region, _one_line(each.error)) for each in found.failed),
            notes=(*found.notes, *merged.notes, *self._notes),
            unreadable=unreadable,
            moves=changes.moves,
            calls=dict(found.calls),
            is_swapped=is_swapped,
        )

    def _note_use(self) -> None:
        if configured := self._session.config.catalog:
            self._notes.append(f"plans do not use these tables, because `catalog` in the configuration is {configured}")

    def _described(self, error: MulticomputeError) -> str:
        """Return an error in one line, without the name of the cloud, which is next to it."""
        # The hint of these errors is about a launch.
        hint = "try again later" if isinstance(error, (ThrottledError, TransientError)) else error.hint
        text = error.message.removeprefix(f"{self._name}: ").removeprefix(f"{self._name} ")
        return _one_line(f"{text} ({hint})" if hint else text)

    def _missing_sdk(self, error: ImportError) -> str:
        from multicompute.plugins import install_line, missing_modules

        if missing_modules(self._plugin):
            return f"its SDK is not installed: {install_line(self._plugin)}"
        return _one_line(f"can't be loaded: {error}")


def _one_line(text: str) -> str:
    return shortened(" ".join(text.split()), _LONGEST_ERROR)
