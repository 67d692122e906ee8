"""Waits for runs in the caller's thread: writes their output, and ends them when the wait is interrupted."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from multicompute.remote.loop import POLL, Call
from multicompute.remote.output import Chunk, Output, OutputQueue
from multicompute.remote.results import RunResult, error_of, first_culprit

if TYPE_CHECKING:
    from multicompute.remote._execution import Execution

_STOP_SECONDS: Final = 20.0

Results = list[RunResult]


def carry_out(
    execution: "Execution",
    call: Call[Results],
    queue: OutputQueue | None,
    output: Output | None,
    *,
    check_cancelled: Callable[[], object],
) -> Results:
    """Wait for the end of a run and return its results, in the order in which they came in.

    Args:
        execution: The run.
        call: Its coroutine.
        queue: Where its output comes from.
        output: Where it goes.
        check_cancelled: Called several times a second; what it raises ends the run, and then leaves this call.
    """
    try:
        _wait(call, queue, output, check_cancelled)
    except BaseException:
        _interrupt(execution, call, queue, output)
        raise
    return call.result()


def _wait(
    call: Call[Results], queue: OutputQueue | None, output: Output | None, check_cancelled: Callable[[], object]
) -> None:
    if queue is not None and output is not None:
        while (chunks := queue.take(POLL)) is not None:
            check_cancelled()
            _write(output, chunks)
        output.close()
    while not call.wait(POLL):
        check_cancelled()


def _interrupt(execution: "Execution", call: Call[Results], queue: OutputQueue | None, output: Output | None) -> None:
    """End the processes on the nodes, and show what they write while they end."""
    call.call_soon(execution.stop)
    waited = 0.0
    is_over = False
    while not is_over and waited < _STOP_SECONDS:
        is_over = call.wait(POLL)
        waited += POLL
        if queue is not None and output is not None:
            try:
                _write(output, queue.take(0.0) or [])
            except Exception:  # noqa: BLE001 - the output may be what failed; its error is on its way already
                output = None
    if not is_over:
        call.cancel()


def _write(output: Output, chunks: list[Chunk]) -> None:
    for chunk in chunks:
        output.write(*chunk)
    if chunks:
        output.flush()


class BackgroundRun:
    """Commands that run while the caller does something else."""

    def __init__(self, execution: "Execution", call: Call[Results], names: Mapping[int, str]) -> None:
        """Wrap a run that has begun."""
        self._execution = execution
        self._call = call
        self._names = names

    def check(self) -> None:
        """Raise if a command has ended.

        Raises:
            RunError: A command failed, or its node was lost.
        """
        results = list(self._execution.finished)
        culprit = first_culprit(results)
        if culprit is not None and self._call.wait(_STOP_SECONDS):
            results = self._call.result()
            raise error_of(first_culprit(results) or culprit, results, name=self._names[culprit.rank])

    def written(self, rank: int) -> RunResult | None:
        """Return what the command of a rank has written so far, None before it has started."""
        return self._execution.written(rank)

    def stop(self) -> None:
        """End the commands that still run."""
        self._call.call_soon(self._execution.stop)
        if not self._call.wait(_STOP_SECONDS):
            self._call.cancel()
