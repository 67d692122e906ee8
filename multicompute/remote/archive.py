"""Packs and unpacks tar streams, with what keeps a stranger's archive inside its folder."""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, cast

CHUNK: Final = 256 * 1024
DATA: Final = "data"
COMPLETE: Final = "complete"
"""The last member: an archive without it was cut off, which `tar` does not notice between two members."""


class _Writer:
    """The part of a file that tarfile needs to write a stream."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(bytes(data))
        return len(data)


def pack(source: Path, write: Callable[[bytes], object]) -> tuple[int, tuple[str, ...]]:
    """Write a file or folder as an archive; return how many entries it has, and what had to be left out.

    Args:
        source: What to pack; a link is followed, links inside it are kept.
        write: Gets the archive, chunk by chunk.
    """
    left_out: list[str] = []
    count = 0
    # GNU's format takes names of any bytes and length, and every tar reads it.
    with tarfile.open(
        fileobj=cast(IO[bytes], _Writer(write)), mode="w|", bufsize=CHUNK, format=tarfile.GNU_FORMAT,
        encoding="utf-8", errors="surrogateescape",
    ) as archive:  # fmt: skip
        for path, name in _entries(source.resolve()):
            member = archive.gettarinfo(path, name)
            if member is None:
                left_out.append(f"{path}: neither file, folder nor link")
                continue
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            if member.isreg():
                with open(path, "rb") as content:
                    archive.addfile(member, content)
            else:
                archive.addfile(member)
            count += 1
        archive.addfile(tarfile.TarInfo(COMPLETE))
    return count, tuple(left_out)


def _entries(source: Path) -> Iterator[tuple[str, str]]:
    yield str(source), DATA
    for folder, folders, files in os.walk(source):
        inside = os.path.relpath(folder, source)
        for name in sorted([*folders, *files]):
            yield os.path.join(folder, name), os.path.normpath(os.path.join(DATA, inside, name))


def unpack(stream: IO[bytes], *, token: str, target: Path) -> tuple[int, int, tuple[str, ...]]:
    """Unpack what a node wrote to `target`, and put it in its place once it is complete.

    Args:
        stream: A line that starts with `token` and names the kind, then the archive; noise before it is skipped.
        token: Starts that line.
        target: The file or folder to write. A folder that exists is merged with.

    Returns:
        How many entries there were, their bytes, and what was left out.

    Raises:
        EOFError: There was no archive.
        OSError: It could not be written.
        tarfile.TarError: it is damaged.
    """
    kind = _kind(stream, token)
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".multicompute-", dir=target.parent))
    try:
        counter = _Counter(stream)
        count, left_out = _extract(counter, stage / DATA)
        if kind == "folder":
            _merge(stage / DATA, target)
        else:
            for path in (stage / DATA).iterdir():
                path.replace(target)
        return count, counter.size, left_out
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _kind(stream: IO[bytes], token: str) -> str:
    start = f"{token} ".encode()
    while line := stream.readline():
        if line.startswith(start):
            return line.split()[1].decode()
    raise EOFError


class _Counter:
    """A stream that counts what was read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.size += len(data)
        return data


def _extract(stream: _Counter, folder: Path) -> tuple[int, tuple[str, ...]]:
    folder.mkdir()
    left_out: list[str] = []
    count = 0
    with tarfile.open(
        fileobj=cast(IO[bytes], stream), mode="r|", bufsize=CHUNK, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for member in archive:
            try:
                archive.extract(member, folder, filter="data")
                count += 1
            except tarfile.FilterError as error:
                left_out.append(str(error))
    return count, tuple(left_out)


def _merge(source: Path, target: Path) -> None:
    """Move a folder to its place; where there is one already, its entries replace those of the same names."""
    if not target.exists():
        source.rename(target)
        return
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and not entry.is_symlink() and place.is_dir():
            _merge(entry, place)
        else:
            entry.replace(place)
