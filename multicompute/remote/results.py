"""The results of commands on nodes, and the errors that carry them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from multicompute.errors import HostKeyError, RunError, RunTimeout

Outcome = Literal["exited", "lost", "unreachable", "untrusted", "timed_out", "stopped", "not_started"]
"""The reason why a command ended.

exited: by itself, with a status. lost: its node did not answer any more. unreachable: it was never started.
untrusted: likewise, as the host key is not the pinned one.
timed_out: its time was over. stopped: we ended it, because of another rank's failure or a cancellation. not_started: another node could not be reached.
"""

NO_STATUS = 255
"""The status of a command whose own is not known; OpenSSH's client has the same."""

_SHOWN_LINES = 2
_LINE_WIDTH = 110
_SEARCHED_LINES = 200
# "ValueError: ..." or "[rank1]: package.SomeException: ...", but not torchrun's own report of what its workers did.
_EXCEPTION = re.compile(r"(?:\[rank\d+\]: )?(?!torch\.distributed\.elastic)[\w.]*(?:Error|Exception|Exit|Interrupt)\b")
_PEER_FAILED = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "socket closed",
    "remote process exited",
    "connection refused",
    "shutdown barrier",
    "coordination service",
    "preempted",
    "sigterm",
)
"""Lines of engines that report the failure of another rank."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of one command on one node.

    Attributes:
        rank: The rank of the node.
        returncode: The exit status; 128 + n after signal n, 255 where the node was lost or not reached.
        stdout: Its output, decoded as UTF-8; of a very long one the end.
        stderr: Its messages, likewise.
        seconds: How long it ran.
        outcome: How it ended.
        error: Why there is no status, in one sentence; "" where the command exited by itself.
        left_out: How many bytes are missing at the start of `stdout` and `stderr`.
    """

    rank: int
    returncode: int
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    outcome: Outcome = "exited"
    error: str = ""
    left_out: int = 0

    @property
    def is_ok(self) -> bool:
        """True if the command exited with status 0."""
        return self.outcome == "exited" and self.returncode == 0

    def last_lines(self, count: int = 20) -> list[str]:
        """Return the last lines of stderr that are not empty, of stdout where stderr has none."""
        for text in (self.stderr, self.stdout):
            lines = [line.rstrip() for line in text.splitlines() if line.strip()]
            if lines:
                return lines[-count:]
        return []


@dataclass(frozen=True, slots=True)
class TransferResult:
    """The files that were copied to or from one node.

    Attributes:
        rank: The rank of the node.
        entries: How many files, folders and links.
        size: The bytes of the archive that went over the wire.
        seconds: How long it took.
        left_out: What was not copied, and why.
    """

    rank: int
    entries: int
    size: int
    seconds: float
    left_out: tuple[str, ...] = ()


def not_started(rank: int, culprit: int) -> RunResult:
    """Return the result of a rank on which nothing was started, because another one could not be reached."""
    reason = f"not started, as rank {culprit} could not be reached"
    return RunResult(rank, NO_STATUS, outcome="not_started", error=reason)


def first_culprit(results: Iterable[RunResult]) -> RunResult | None:
    """Return the result to blame, of results in the order in which they came in; None where all are fine.

    A node that was lost makes its peers fail, and so does a rank that died: a rank that reports the failure of a peer is
    blamed only where no other one failed.
    """
    failed = [result for result in results if not result.is_ok and result.outcome not in ("stopped", "not_started")]
    return min(failed, key=_blame, default=None)


def _blame(result: RunResult) -> int:
    """Return how little a failed result is to blame: 0 for the most."""
    if result.outcome in ("lost", "unreachable", "untrusted"):
        return 0
    if result.outcome == "timed_out":
        return 3
    tail = " ".join([*_exceptions(result)[-1:], *result.last_lines(5)]).lower()
    return 2 if any(phrase in tail for phrase in _PEER_FAILED) else 1


def error_of(culprit: RunResult, results: Sequence[RunResult], *, name: str) -> RunError:
    """Return the error for a failure, naming the rank, its status and its last lines.

    Args:
        culprit: The result to blame.
        results: All results.
        name: The rank as messages show it.
    """
    ordered = sorted(results, key=lambda result: result.rank)
    if culprit.outcome == "timed_out":
        more = sum(result.outcome == "timed_out" for result in ordered) - 1
        also = f" and {more} other{'s' * (more > 1)}" if more > 0 else ""
        return RunTimeout(f"{name}{also}: {culprit.error}", rank=culprit.rank, results=ordered)
    if culprit.outcome == "untrusted":
        hint = "if the node was rebuilt on purpose, forget its old key"
        return HostKeyError(f"{name}: {culprit.error}", rank=culprit.rank, results=ordered, hint=hint)
    what = culprit.error or f"exit status {culprit.returncode} after {culprit.seconds:.0f} s"
    stopped = sum(result.outcome == "stopped" for result in ordered)
    others = f"; {stopped} other rank{'s were' if stopped > 1 else ' was'} stopped" if stopped else ""
    if any(result.outcome == "not_started" for result in ordered):
        others = "; nothing was started"
    return RunError(f"{name}: {what}{others}" + _quoted(culprit), rank=culprit.rank, results=ordered)


def _quoted(result: RunResult) -> str:
    """Return the lines that tell most: the exception of a Python program, else the last ones."""
    lines = _exceptions(result)[-1:] or result.last_lines(_SHOWN_LINES)
    return "".join(f"\n  {line.strip()[:_LINE_WIDTH]}" for line in lines)


def _exceptions(result: RunResult) -> list[str]:
    return [line for line in result.last_lines(_SEARCHED_LINES) if _EXCEPTION.match(line)]
