"""Takes the output of many nodes apart into lines, keeps its end, and passes it to the thread that called."""

import codecs
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple, Protocol, TextIO

Stream = Literal["stdout", "stderr"]

_LONGEST_LINE: Final = 64 * 1024
_HIGH: Final = 4 * 2**20
_LOW: Final = 2**20


class Output(Protocol):
    """Receives the output of commands while they run, in the thread that called `run`."""

    def write(self, rank: int, stream: Stream, data: bytes) -> None:
        """Take a chunk, cut anywhere."""

    def flush(self) -> None:
        """Show what was taken so far; called when no more output is there for now."""

    def close(self) -> None:
        """Take the end of all output."""


class Chunk(NamedTuple):
    """A piece of output."""

    rank: int
    stream: Stream
    data: bytes


class LineSplitter:
    """Decodes one stream and cuts it into blocks of lines.

    What is not UTF-8 is replaced. A carriage return ends a line, as progress bars use it for each state.
    """

    def __init__(self) -> None:
        """Create a splitter without pending text."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""

    def feed(self, data: bytes) -> str:
        """Return the lines that `data` completes, each with its newline; "" where there are none."""
        text = self._pending + self._decoder.decode(data)
        if "\r" in text:
            # One at the end may be the first half of a line end.
            held = "\r" if text.endswith("\r") else ""
            text = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n") + held
        lines, newline, self._pending = text.rpartition("\n")
        if len(self._pending) > _LONGEST_LINE:
            text, self._pending = self._pending, ""
            return f"{lines}{newline}{text}\n"
        return lines + newline

    def finish(self) -> str:
        """Return what is left as a last line."""
        text = (self._pending + self._decoder.decode(b"", final=True)).removesuffix("\r")
        self._pending = ""
        return f"{text}\n" if text else ""


class _Splitters:
    """One splitter for each stream of each rank."""

    def __init__(self) -> None:
        self._splitters: dict[tuple[int, Stream], LineSplitter] = {}

    def feed(self, rank: int, stream: Stream, data: bytes) -> str:
        return (self._splitters.get((rank, stream)) or self._add(rank, stream)).feed(data)

    def finish(self) -> Iterator[tuple[int, Stream, str]]:
        for (rank, stream), splitter in self._splitters.items():
            yield rank, stream, splitter.finish()

    def _add(self, rank: int, stream: Stream) -> LineSplitter:
        return self._splitters.setdefault((rank, stream), LineSplitter())


class PrefixedOutput:
    """Writes every line with its rank in front of it, stdout to one stream and stderr to another."""

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        """Write to these two streams."""
        self._streams: dict[Stream, TextIO] = {"stdout": stdout, "stderr": stderr}
        self._splitters = _Splitters()

    def write(self, rank: int, stream: Stream, data: bytes) -> None:
        """Write the lines that `data` completes."""
        self._emit(rank, stream, self._splitters.feed(rank, stream, data))

    def flush(self) -> None:
        """Flush both streams."""
        for target in self._streams.values():
            target.flush()

    def close(self) -> None:
        """Write the lines that never got a newline."""
        for rank, stream, lines in self._splitters.finish():
            self._emit(rank, stream, lines)
        self.flush()

    def _emit(self, rank: int, stream: Stream, lines: str) -> None:
        if lines:
            prefix = f"[{rank}] "
            self._streams[stream].write(prefix + lines[:-1].replace("\n", f"\n{prefix}") + "\n")


class LineOutput:
    """Calls a function for each line."""

    def __init__(self, call: Callable[[int, Stream, str], object]) -> None:
        """`call` gets the rank, "stdout" or "stderr", and the line without its newline."""
        self._call = call
        self._splitters = _Splitters()

    def write(self, rank: int, stream: Stream, data: bytes) -> None:
        """Call the function for the lines that `data` completes."""
        self._emit(rank, stream, self._splitters.feed(rank, stream, data))

    def flush(self) -> None:
        """Do nothing: every line was passed on already."""

    def close(self) -> None:
        """Call the function for the lines that never got a newline."""
        for rank, stream, lines in self._splitters.finish():
            self._emit(rank, stream, lines)

    def _emit(self, rank: int, stream: Stream, lines: str) -> None:
        for line in lines.split("\n")[:-1]:
            self._call(rank, stream, line)


class Tail:
    """The end of a stream, of bounded size."""

    def __init__(self, limit: int) -> None:
        """Keep at most about `limit` bytes."""
        self._chunks: deque[bytes] = deque()
        self._limit = limit
        self._size = 0
        self.dropped = 0

    def add(self, data: bytes) -> None:
        """Add a chunk, and drop the oldest ones that are not needed for `limit` bytes."""
        self._chunks.append(data)
        self._size += len(data)
        while self._size - len(self._chunks[0]) >= self._limit:
            size = len(self._chunks.popleft())
            self._size -= size
            self.dropped += size

    def text(self) -> str:
        """Return what is kept, decoded."""
        return b"".join(self._chunks).decode("utf-8", "replace")


class OutputQueue:
    """Output on its way from the event loop to the thread that called.

    That thread may be blocked for long, by a pager on the other end of stdout. The event loop must not be, because the
    nodes would take its silence for the client's death. So the loop stops reading from the nodes when the queue is full.
    """

    def __init__(self) -> None:
        """Create an empty queue."""
        self._chunks: list[Chunk] = []
        self._size = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self.resume: Callable[[], object] = lambda: None
        """Called by the consuming thread when a full queue has room again."""

    def put(self, chunk: Chunk) -> bool:
        """Add a chunk; return whether there is room for more."""
        with self._changed:
            self._chunks.append(chunk)
            self._size += len(chunk.data)
            self._changed.notify()
            return self._size < _HIGH

    def close(self) -> None:
        """Let `take` return None once everything was taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def take(self, timeout: float) -> list[Chunk] | None:
        """Return what has come in, waiting for at most `timeout` seconds; None when the queue is closed and empty."""
        with self._changed:
            if not self._chunks and not self._is_closed:
                self._changed.wait(timeout)
            chunks, self._chunks = self._chunks, []
            if not chunks and self._is_closed:
                return None
            was_full = self._size >= _LOW
            self._size = 0
        if was_full:
            self.resume()
        return chunks
