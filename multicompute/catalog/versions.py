"""The refreshed tables of each provider: versions in folders of their own, and a link to the one in use.

    catalog/
      aws -> .versions/aws/1-20261130T071500Z-4f2a
      .versions/aws/1-20261130T071500Z-4f2a/shards.csv ...
      .locks/aws

A version never changes. A new one is written under another name and becomes visible by one rename of the link, so that a process that
ends at any moment leaves either the old or the new tables. Old versions stay for a day, for processes that read them.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from multicompute.catalog.location import FORMAT, in_use
from multicompute.catalog.writer import Files, write_files
from multicompute.clock import Clock, Random
from multicompute.errors import CatalogError

_KEPT: Final = timedelta(days=1)
_VERSIONS: Final = ".versions"
_LOCKS: Final = ".locks"
_UNFINISHED: Final = "unfinished-"
_TIME: Final = "%Y%m%dT%H%M%S%fZ"


class Versions:
    """The refreshed tables of one provider.

    Every method raises CatalogError if the folder can't be read or written, or the disk is full.
    """

    def __init__(self, folder: Path, provider: str, *, clock: Clock, random: Random) -> None:
        """Keep the places; nothing is created.

        Args:
            folder: The folder of all refreshed tables.
            provider: The name of the provider.
            clock: The clock that versions are named after.
            random: For unique names.
        """
        self._folder = folder
        self._provider = provider
        self._clock = clock
        self._random = random
        self._own = folder / _VERSIONS / provider

    @property
    def current(self) -> Path | None:
        """The tables in use, None if they are the packaged ones."""
        path = in_use(str(self._folder), self._provider)
        return Path(path) if path else None

    @contextmanager
    def locked(self, waiting: Callable[[], object]) -> Iterator[None]:
        """Exclude every other process and thread that changes these tables.

        Args:
            waiting: Called again and again while another one has the lock. It waits a moment, and may raise to give up.
        """
        # Imported here: the module does not exist on Windows, where tables can be read but not refreshed.
        import fcntl

        with self._explained():
            path = self._folder / _LOCKS / self._provider
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    waiting()
            yield
        finally:
            # Closing releases the lock, and so does the end of the process, however it ends.
            os.close(descriptor)

    def is_current(self, files: Files) -> bool:
        """Return whether the tables in use have exactly these files."""
        current = self.current
        if current is None:
            return False
        with self._explained():
            found = {str(path.relative_to(current)): path for path in current.rglob("*") if path.is_file()}
            return found.keys() == files.keys() and all(
                path.read_bytes() == files[name] for name, path in found.items()
            )

    @contextmanager
    def written(self, files: Files) -> Iterator[Path]:
        """Write a version that is not in use yet, and delete it at the end of the block unless `use` was called with it."""
        now = self._clock.now().astimezone(UTC)
        name = f"{FORMAT}-{now:{_TIME}}-{self._random.getrandbits(32):08x}"
        path = self._own / f"{_UNFINISHED}{name}"
        try:
            with self._explained():
                write_files(files, path)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def use(self, version: Path) -> Path:
        """Make a written version the one in use, in one step, and delete versions that were replaced long ago.

        Returns:
            Its final folder.
        """
        final = version.with_name(version.name.removeprefix(_UNFINISHED))
        with self._explained():
            version.rename(final)
            link = self._own / f"{_UNFINISHED}link"
            link.unlink(missing_ok=True)
            link.symlink_to(Path(_VERSIONS, self._provider, final.name))
            # The link is relative to the folder that it is moved to.
            link.replace(self._folder / self._provider)
            _flush(self._folder)
        self.clean_up()
        return final

    def reset(self) -> bool:
        """Return to the packaged tables; return whether refreshed ones were in use."""
        path = self._folder / self._provider
        if not path.is_symlink():
            return False
        with self._explained():
            path.unlink()
        self.clean_up()
        return True

    def clean_up(self) -> None:
        """Delete what a process that was killed left, and the versions that were replaced long ago."""
        current = self.current
        with contextlib.suppress(OSError):
            names = sorted(os.listdir(self._own))
            versions = [name for name in names if not name.startswith(_UNFINISHED)]
            # A version is replaced when the next one is made; after a reset, nothing tells when the last one was.
            replaced = dict(zip(versions, (*versions[1:], ""), strict=True))
            for name in names:
                is_old = name in replaced and _is_old(replaced[name] or name, self._clock.now())
                if name.startswith(_UNFINISHED) or (is_old and (current is None or current.name != name)):
                    self._delete(self._own / name)

    def _delete(self, path: Path) -> None:
        if path.is_symlink():
            path.unlink()
            return
        # First under another name, so that a process that is killed here leaves no version that lacks files.
        doomed = path if path.name.startswith(_UNFINISHED) else path.with_name(f"{_UNFINISHED}{path.name}")
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = "free space on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
            raise CatalogError(
                f"{error.filename or self._folder}: refreshed tables can't be written: {error.strerror or error}; "
                "the tables in use stay",
                hint=f"{hint}, or set XDG_DATA_HOME to another folder",
                provider=self._provider,
            ) from error


def _is_old(version: str, now: datetime) -> bool:
    """Return whether a version was made more than a day ago. One whose name has no time is old."""
    try:
        made = datetime.strptime(version.split("-")[1], _TIME).replace(tzinfo=UTC)
    except (IndexError, ValueError):
        return True
    return now - made > _KEPT


def _flush(folder: Path) -> None:
    """Wait until the entries of a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
