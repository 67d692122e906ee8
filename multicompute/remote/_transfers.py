"""Copies files and folders to and from many nodes, as tar streams."""

import asyncio
import os
import posixpath
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import asyncssh

from multicompute.errors import MulticomputeError, SpecError
from multicompute.remote._connections import KEEPALIVE_SECONDS, ConnectFailure, Connections, connect_all
from multicompute.remote.archive import pack, unpack
from multicompute.remote.command import BOOTSTRAP, script_line
from multicompute.remote.results import NO_STATUS, RunResult, TransferResult

_QUEUED_CHUNKS: Final = 8
_DOWNLOADS: Final = 16
_EXIT_SECONDS: Final = 60.0

Transfers = list[TransferResult | RunResult]
Process = asyncssh.SSHClientProcess[bytes]


async def put(connections: Connections, source: Path, remote: str, ranks: Sequence[int]) -> Transfers:
    """Copy a file or folder to nodes, all at once; return what was copied, or what failed, for each rank."""
    failures = await connect_all(connections, ranks)
    if failures:
        return [_unreachable(rank, failure) for rank, failure in failures.items()]
    name = source.resolve().name
    settings = {"kind": "folder" if source.is_dir() else "file", "name": name, "target": _remote(remote)}
    uploads = await asyncio.gather(*(_Upload.start(connections, rank, settings) for rank in ranks))
    started = [upload for upload in uploads if isinstance(upload, _Upload)]
    failed: Transfers = [upload for upload in uploads if isinstance(upload, RunResult)]
    try:
        packed = None if failed else await _broadcast(source, started)
        if packed is None:
            # Those that are cut off change nothing.
            return failed + [result for upload in started if (result := await upload.failure()) is not None]
        return list(await asyncio.gather(*(upload.finish(*packed) for upload in started)))
    finally:
        for upload in started:
            upload.process.close()


async def _broadcast(source: Path, uploads: "Sequence[_Upload]") -> tuple[int, tuple[str, ...]] | None:
    """Pack once, for all nodes; the slowest sets the pace, and one that fails ends it, which returns None."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED_CHUNKS)
    is_over = False

    def write(data: bytes) -> None:
        if is_over:
            raise BrokenPipeError
        asyncio.run_coroutine_threadsafe(chunks.put(data), loop).result()

    def work() -> tuple[int, tuple[str, ...]]:
        try:
            return pack(source, write)
        finally:
            asyncio.run_coroutine_threadsafe(chunks.put(None), loop)

    packing = loop.run_in_executor(None, work)
    try:
        while (chunk := await chunks.get()) is not None:
            if not all(await asyncio.gather(*(upload.send(chunk) for upload in uploads))):
                return None
        return await packing
    except OSError as error:
        raise MulticomputeError(f"{error.filename or source}: can't be read: {error.strerror or error}") from error
    finally:
        is_over = True
        while not packing.done():
            while not chunks.empty():
                chunks.get_nowait()
            await asyncio.sleep(0.01)
        # Of one that was broken off nobody else asks for its error.
        packing.exception()


class _Upload:
    """An archive on its way to one node."""

    def __init__(self, rank: int, process: Process) -> None:
        self.process = process
        self._rank = rank
        self._started = asyncio.get_running_loop().time()
        self._size = 0

    @classmethod
    async def start(cls, connections: Connections, rank: int, settings: dict[str, str]) -> "_Upload | RunResult":
        try:
            connection = await connections.open(rank)
            process: Process = await connection.create_process(BOOTSTRAP, encoding=None)
        except ConnectFailure as failure:
            return _unreachable(rank, failure)
        except (asyncssh.Error, OSError) as error:
            return RunResult(rank, NO_STATUS, outcome="lost", error=f"the copy could not be started: {error}")
        process.stdin.write(script_line("put", settings))
        return cls(rank, process)

    async def send(self, chunk: bytes) -> bool:
        """Send a chunk; return whether more may follow."""
        if self._is_over():
            return False
        try:
            self.process.stdin.write(chunk)
            await self.process.stdin.drain()
        except (OSError, asyncssh.Error):
            return False
        self._size += len(chunk)
        return not self._is_over()

    async def finish(self, entries: int, left_out: tuple[str, ...]) -> "TransferResult | RunResult":
        """Wait until the node has put everything in its place."""
        if not self._is_over():
            self.process.stdin.write_eof()
        seconds = asyncio.get_running_loop().time() - self._started
        failure = await _failure(self._rank, self.process, seconds)
        return failure or TransferResult(self._rank, entries, self._size, seconds, left_out)

    async def failure(self) -> RunResult | None:
        """Return what ended the copy on the node, None where it could go on."""
        if not self._is_over():
            return None
        return await _failure(self._rank, self.process, asyncio.get_running_loop().time() - self._started)

    def _is_over(self) -> bool:
        return self.process.exit_status is not None or self.process.stdin.is_closing()


async def get(connections: Connections, remote: str, local: Path, ranks: Sequence[int]) -> Transfers:
    """Copy a file or folder from nodes, several at once; return what was copied, or what failed, for each rank."""
    if not hasattr(tarfile, "data_filter"):
        raise MulticomputeError("copying from nodes needs Python 3.11.4 or newer, which checks archives")
    failures = await connect_all(connections, ranks)
    if failures:
        return [_unreachable(rank, failure) for rank, failure in failures.items()]
    path = _remote(remote)
    name = posixpath.basename(posixpath.normpath(path))
    name = "files" if name in ("", ".", "..", "/") else name
    slots = asyncio.Semaphore(_DOWNLOADS)
    with ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="multicompute-unpack") as pool:

        async def one(rank: int) -> TransferResult | RunResult:
            async with slots:
                return await _download(connections, rank, path, local / str(rank) / name, pool)

        return list(await asyncio.gather(*(one(rank) for rank in ranks)))


async def _download(
    connections: Connections, rank: int, path: str, target: Path, pool: ThreadPoolExecutor
) -> TransferResult | RunResult:
    loop = asyncio.get_running_loop()
    started = loop.time()
    token = f"multicompute-{os.urandom(8).hex()}"
    reading, writing = os.pipe()
    try:
        connection = await connections.open(rank)
        process: Process = await connection.create_process(BOOTSTRAP, encoding=None, stdout=writing)
    except (ConnectFailure, asyncssh.Error, OSError) as error:
        os.close(reading)
        os.close(writing)
        if isinstance(error, ConnectFailure):
            return _unreachable(rank, error)
        return RunResult(rank, NO_STATUS, outcome="lost", error=f"the copy could not be started: {error}")
    unpacking = loop.run_in_executor(pool, _unpack_from, reading, token, target)
    try:
        process.stdin.write(script_line("get", {"path": path, "token": token}))
        unpacked = await unpacking
        failure = await _failure(rank, process, loop.time() - started, also_fine=1)
    finally:
        process.close()
        if not unpacking.done():
            await asyncio.wait([unpacking])
    if failure is not None:
        return failure
    if isinstance(unpacked, Exception):
        reason = f"what it sent could not be written to {target}: {unpacked}"
        return RunResult(rank, NO_STATUS, seconds=loop.time() - started, error=reason)
    entries, size, left_out = unpacked
    return TransferResult(rank, entries, size, loop.time() - started, left_out)


def _unpack_from(descriptor: int, token: str, target: Path) -> tuple[int, int, tuple[str, ...]] | Exception:
    """Unpack what comes through a pipe; an error is returned, as the node's own message may explain it better."""
    with os.fdopen(descriptor, "rb") as stream:
        try:
            return unpack(stream, token=token, target=target)
        except (OSError, EOFError, tarfile.TarError) as error:
            return error


async def _failure(rank: int, process: Process, seconds: float, *, also_fine: int = 0) -> RunResult | None:
    """Wait for the end of a copy on its node; return what failed there, None where nothing did."""
    try:
        messages = await asyncio.wait_for(process.stderr.read(), _EXIT_SECONDS)
        await asyncio.wait_for(process.wait_closed(), _EXIT_SECONDS)
    except (TimeoutError, OSError, asyncssh.Error):
        messages = b""
    status = process.returncode
    if status in (0, also_fine):
        return None
    stderr = messages.decode("utf-8", "replace")
    if status is None:
        error = f"the node was lost: no answer for {KEEPALIVE_SECONDS:.0f} s"
        return RunResult(rank, NO_STATUS, stderr=stderr, seconds=seconds, outcome="lost", error=error)
    return RunResult(rank, status, stderr=stderr, seconds=seconds)


def _unreachable(rank: int, failure: ConnectFailure) -> RunResult:
    return RunResult(
        rank, NO_STATUS, outcome="untrusted" if failure.is_untrusted else "unreachable", error=str(failure)
    )


def _remote(path: str) -> str:
    """Return a path as the node's shell takes it: sessions start at home, so "~/" needs no word for it."""
    if not path:
        raise SpecError("remote='': name a file or folder on the nodes")
    if path == "~":
        return "."
    return path.removeprefix("~/") or "."
