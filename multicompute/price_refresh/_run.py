"""Refreshes several clouds at once."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from multicompute.catalog import Catalog
from multicompute.catalog.location import in_use
from multicompute.catalog.versions import Versions
from multicompute.clock import monotonic
from multicompute.price_refresh._cloud import Cancelled, CloudRefresh, Progress
from multicompute.price_refresh._report import CloudReport, RefreshReport
from multicompute.price_refresh._scope import Scope, scopes
from multicompute.session import Session, open_session
from multicompute.units import format_duration

_POLL: Final = 0.2
"""Seconds. A wait without a limit can't be interrupted by a signal on every platform."""


def refresh(
    clouds: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    accelerators: Sequence[str] | None = None,
    progress: Callable[[str, float, str], None] | None = None,
) -> RefreshReport:
    """Fetch today's prices from the vendors, and use them in place of the tables in use, cloud by cloud.

    A cloud that fails, and a region that can't be read, keeps its old prices; nothing is lost. The new tables of a cloud are used from
    the moment at which all of them have been written and checked, also by other processes.

    Args:
        clouds: The clouds, such as ["aws"]; all that have offer tables if omitted.
        regions: Regions, globs such as "us-*", or residencies such as "eu"; all if omitted. Prices in other regions stay.
        accelerators: Names such as "h100", or "cpu" for types without accelerators; all if omitted. Other prices stay.
        progress: Called with a cloud, the completed share from 0 to 1, and what is being done; from any thread.

    Returns:
        What has changed, and what failed.

    Raises:
        SpecError: A name is unknown; the message suggests similar ones.
        CatalogError: The current tables can't be read.
    """
    session = open_session()
    tables = refreshable(session)
    found = scopes(tables, clouds=clouds, regions=regions, accelerators=accelerators)
    return run(session, found, progress=progress)


def reset(clouds: Sequence[str] | None = None) -> tuple[str, ...]:
    """Use the packaged tables again.

    Args:
        clouds: The clouds; all if omitted.

    Returns:
        The clouds whose refreshed tables were in use.

    Raises:
        SpecError: A name is unknown.
        CatalogError: The folder can't be written.
    """
    session = open_session()
    names = scopes(refreshable(session), clouds=clouds, regions=None, accelerators=None)
    return tuple(name for name in names if _reset_one(session, name))


def _reset_one(session: Session, name: str) -> bool:
    if not (session.refreshed_folder / name).is_symlink():
        return False
    pause = threading.Event()
    versions = Versions(session.refreshed_folder, name, clock=session.clock, random=session.random)
    with versions.locked(lambda: pause.wait(_POLL)):
        return versions.reset()


def refreshable(session: Session) -> Catalog:
    """Return the tables that a refresh starts from: the refreshed ones, else the packaged ones; not those of the configuration."""
    folder = str(session.refreshed_folder)
    packaged = {name: plugin.tables for name, plugin in session.plugins.items() if plugin.tables is not None}
    current = {name: in_use(folder, name) for name in packaged}
    return Catalog({name: Path(current[name] or tables) for name, tables in packaged.items()})


def run(
    session: Session,
    wanted: Mapping[str, Scope],
    *,
    progress: Progress | None = None,
    deadline: timedelta | None = None,
) -> RefreshReport:
    """Refresh these clouds, each in a thread.

    Args:
        session: The configuration and the providers.
        wanted: Cloud -> which part of its tables.
        progress: Called with the progress.
        deadline: The time after which clouds that are not finished count as failed; None for no limit.
    """
    workers = [
        _Worker(CloudRefresh(session, name, scope, progress=progress or _ignore), name)
        for name, scope in wanted.items()
    ]
    end = None if deadline is None else monotonic() + deadline.total_seconds()
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.wait(end)
    finally:
        # After an interrupt and after the deadline. A thread that waits for an answer ends when it has it, without new tables.
        for worker in workers:
            worker.refresh.cancel()
    late = f"it did not finish within {format_duration(deadline)}" if deadline else ""
    return RefreshReport({worker.cloud: worker.result(late) for worker in workers}, session.refreshed_folder)


class _Worker(threading.Thread):
    """The thread of one cloud. A daemon: neither Ctrl-C nor a deadline waits for the answer of a vendor."""

    def __init__(self, refresh: CloudRefresh, cloud: str) -> None:
        super().__init__(name=f"multicompute-refresh-{cloud}", daemon=True)
        self.refresh = refresh
        self.cloud = cloud
        self._report: CloudReport | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._report = self.refresh.run()
        except Cancelled:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error

    def wait(self, end: float | None) -> None:
        """Wait until the cloud is finished, at most until `end`."""
        while self.is_alive() and (end is None or monotonic() < end):
            self.join(_POLL if end is None else min(_POLL, max(end - monotonic(), 0.0)))

    def result(self, late: str) -> CloudReport:
        """Return the report; that of a failure if the cloud was not finished."""
        if self._error is not None:
            raise self._error
        return self._report or self.refresh.failed(late)


def _ignore(cloud: str, share: float, what: str) -> None:
    """Report to nobody."""
