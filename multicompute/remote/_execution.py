"""Runs commands on many nodes at once: starts them, passes their output on, and sees to their end."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

import asyncssh

from multicompute.remote._connections import KEEPALIVE_SECONDS, ConnectFailure, Connections, connect_all
from multicompute.remote.command import BOOTSTRAP, Task, run_request
from multicompute.remote.output import Chunk, OutputQueue, Stream, Tail
from multicompute.remote.results import NO_STATUS, Outcome, RunResult, not_started

_SLICE: Final = 256 * 1024
# A background process that keeps stdout open keeps the channel open after the command's end.
_QUIET_SECONDS: Final = 2.0
_SETTLE_SECONDS: Final = 1.0
_CONFIRM_SECONDS: Final = 4.0
_SIGNALS: Final = {"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "SEGV": 11, "PIPE": 13}

Listener = Callable[[Task, Stream, bytes], Sequence[Task]]


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules by which a set of commands is run.

    Attributes:
        timeout: How long they may run; None for no limit.
        stop_when: What ends the others: nothing, a node that is lost, or any rank that fails.
        needs_all: Whether nothing starts unless every node can be reached.
        sweep: Whether to end what a command left in the background.
        grace: How long processes have between TERM and KILL.
        kept_bytes: How much of the end of each stream results have.
        silence: After so long without a sign of life from the client a node ends what runs.
    """

    timeout: timedelta | None = None
    stop_when: Literal["never", "lost", "failed"] = "lost"
    needs_all: bool = True
    sweep: bool = False
    grace: timedelta = timedelta(seconds=3)
    kept_bytes: int = 2**20
    silence: timedelta = timedelta(seconds=45)


class Execution:
    """A set of commands that run together."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connections: Connections,
        tasks: Sequence[Task],
        policy: Policy,
        *,
        token: str,
        queue: OutputQueue | None = None,
        listen: Listener | None = None,
    ) -> None:
        """Prepare to run `tasks`.

        Args:
            loop: The event loop that will run this.
            connections: Where the nodes are reached.
            tasks: What to run.
            policy: How.
            token: Names the processes of this execution on the nodes.
            queue: Takes the output of all tasks that are no service.
            listen: Called in the event loop with the output of services; returns further commands to start.
        """
        self._loop = loop
        self._connections = connections
        self._tasks = tasks
        self._policy = policy
        self._token = token
        self._queue = queue
        self._listen = listen
        self._runs: list[_Run] = []
        self._events: asyncio.Queue[_Run | None] = asyncio.Queue()
        self._finished: list[RunResult] = []
        self._paused: set[_Run] = set()
        self._starts: set[asyncio.Task[None]] = set()
        self._connecting: asyncio.Task[dict[int, ConnectFailure]] | None = None
        self._is_stopping = False
        if queue is not None:
            queue.resume = lambda: self._loop.call_soon_threadsafe(self._resume)

    async def run(self) -> list[RunResult]:
        """Run the commands; return their results in the order in which they ended."""
        heartbeat = self._loop.create_task(self._beat())
        try:
            if await self._connect():
                await asyncio.gather(*(self._start(task) for task in self._tasks))
                await self._wait()
            return self._finished
        finally:
            heartbeat.cancel()
            await self._end("stopped", "")
            if self._queue is not None:
                self._queue.close()

    def stop(self) -> None:
        """End all commands."""
        self._events.put_nowait(None)
        if self._connecting is not None:
            self._connecting.cancel()

    @property
    def finished(self) -> list[RunResult]:
        """The results that there are so far, in the order in which they came in."""
        return self._finished

    def written(self, rank: int) -> RunResult | None:
        """Return what the first command of a rank wrote so far, None before it has started."""
        return next((run.result("exited", "") for run in self._runs if run.task.rank == rank), None)

    async def _connect(self) -> bool:
        """Connect to all nodes; return whether to go on."""
        ranks = sorted({task.rank for task in self._tasks})
        self._connecting = self._loop.create_task(connect_all(self._connections, ranks))
        await asyncio.wait([self._connecting])
        if self._connecting.cancelled():
            return False
        failures = self._connecting.result()
        self._tasks = [task for task in self._tasks if task.rank not in failures]
        for rank, failure in failures.items():
            outcome: Outcome = "untrusted" if failure.is_untrusted else "unreachable"
            self._finished.append(RunResult(rank, NO_STATUS, outcome=outcome, error=str(failure)))
        if not failures or not self._policy.needs_all:
            return bool(self._tasks)
        culprit = min(failures)
        self._finished += [not_started(task.rank, culprit) for task in self._tasks if not task.is_service]
        return False

    async def _start(self, task: Task) -> None:
        run = _Run(task, self._policy, self._loop, on_data=self._received, on_end=self._ended)
        self._runs.append(run)
        token = f"{self._token}-{len(self._runs)}"
        request = run_request(
            task,
            token=token,
            grace=self._policy.grace,
            alive=self._policy.silence,
            sweep=self._policy.sweep or task.is_service,
        )
        try:
            connection = await self._connections.open(task.rank)
            await connection.create_session(lambda: run, BOOTSTRAP, encoding=None, request_pty=False)
            await run.send(request)
        except ConnectFailure as failure:
            run.end("unreachable", str(failure))
        except (asyncssh.Error, OSError) as error:
            run.end("lost", f"the command could not be started: {error}")

    async def _wait(self) -> None:
        """Wait for the end of all commands that are no service, or for a reason to end them."""
        deadline = None if self._policy.timeout is None else self._loop.time() + self._policy.timeout.total_seconds()
        while not self._has_ended():
            left = None if deadline is None else max(deadline - self._loop.time(), 0.0)
            try:
                run = await asyncio.wait_for(self._events.get(), left)
            except TimeoutError:
                return await self._end("timed_out", f"still running after {_shown(self._policy.timeout)}; ended")
            if run is None:
                return await self._end("stopped", "stopped")
            if self._is_reason_to_stop(run):
                if run.outcome == "exited":
                    # The rank at fault may be a moment behind a peer that noticed.
                    await asyncio.sleep(_SETTLE_SECONDS)
                return await self._end("stopped", f"stopped, because rank {run.task.rank} failed")

    def _has_ended(self) -> bool:
        """Return whether all commands that are waited for have ended; a service may have yet to start the first of them."""
        awaited = [run for run in self._runs if not run.task.is_service]
        if awaited:
            return all(run.is_ended for run in awaited)
        return not self._starts and all(run.is_ended for run in self._runs)

    def _is_reason_to_stop(self, run: "_Run") -> bool:
        if self._policy.stop_when == "never":
            return False
        if run.outcome in ("lost", "unreachable"):
            return True
        return self._policy.stop_when == "failed" and run.status != 0

    async def _end(self, outcome: Outcome, reason: str) -> None:
        """End what still runs, and wait until the nodes confirm it."""
        self._is_stopping = True
        await asyncio.gather(*self._starts, return_exceptions=True)
        left = [run for run in self._runs if not run.is_ended]
        for run in left:
            run.ask_to_end(outcome, reason)
        self._resume()
        if left:
            wait = max(self._policy.grace.total_seconds() + _CONFIRM_SECONDS, KEEPALIVE_SECONDS + 1)
            await asyncio.wait([run.ended for run in left], timeout=wait)
        for run in left:
            run.give_up()

    def _received(self, run: "_Run", stream: Stream, data: bytes) -> None:
        if run.task.is_service:
            for task in self._listen(run.task, stream, data) if self._listen is not None else ():
                self._add(task)
        elif self._queue is not None and not self._queue.put(Chunk(run.task.rank, stream, data)):
            self._paused.add(run)
            run.pause()

    def _add(self, task: Task) -> None:
        """Start one more command, unless the end has begun."""
        if not self._is_stopping:
            start = self._loop.create_task(self._start(task))
            self._starts.add(start)
            start.add_done_callback(self._starts.discard)

    def _resume(self) -> None:
        paused, self._paused = self._paused, set()
        for run in paused:
            run.resume()

    def _ended(self, run: "_Run") -> None:
        if not run.task.is_service or (run.outcome != "stopped" and run.status != 0):
            self._finished.append(run.result(run.outcome, run.error))
        self._events.put_nowait(run)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._policy.silence.total_seconds() / 4)
            for run in self._runs:
                run.beat()


class _Run(asyncssh.SSHClientSession[bytes]):
    """One command on one node."""

    def __init__(
        self,
        task: Task,
        policy: Policy,
        loop: asyncio.AbstractEventLoop,
        *,
        on_data: "Callable[[_Run, Stream, bytes], None]",
        on_end: "Callable[[_Run], None]",
    ) -> None:
        self.task = task
        self.ended: asyncio.Future[None] = loop.create_future()
        self.outcome: Outcome = "exited"
        self.error = ""
        self.status: int | None = None
        self._loop = loop
        self._on_data = on_data
        self._on_end = on_end
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._tails: dict[Stream, Tail] = {"stdout": Tail(policy.kept_bytes), "stderr": Tail(policy.kept_bytes)}
        self._started = self._heard = loop.time()
        self._seconds: float | None = None
        self._asked: tuple[Outcome, str] | None = None
        self._is_paused = self._is_listening = False
        self._may_write = asyncio.Event()
        self._may_write.set()

    @property
    def is_ended(self) -> bool:
        return self.ended.done()

    async def send(self, request: bytes) -> None:
        """Send the command and its input; from then on stdin is the lifeline."""
        assert self._channel is not None
        self._channel.set_write_buffer_limits(high=4 * _SLICE)
        self._channel.write(request)
        data = memoryview(self.task.input or b"")
        for start in range(0, len(data), _SLICE):
            await self._may_write.wait()
            if self.is_ended or self._asked:
                return
            self._channel.write(bytes(data[start : start + _SLICE]))
        self._is_listening = True

    def beat(self) -> None:
        if self._is_listening and not self.is_ended and not self._asked and self._channel is not None:
            self._channel.write(b"\n")

    def pause(self) -> None:
        if self._channel is not None and not self.is_ended:
            self._is_paused = True
            self._channel.pause_reading()

    def resume(self) -> None:
        if self._channel is not None and not self.is_ended:
            self._is_paused = False
            self._heard = self._loop.time()
            self._channel.resume_reading()

    def ask_to_end(self, outcome: Outcome, reason: str) -> None:
        """Let go of the lifeline, on which the node ends the command."""
        self._asked = (outcome, reason)
        self._may_write.set()
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write_eof()

    def give_up(self) -> None:
        """Count the command as ended, although its node has not confirmed that."""
        if not self.is_ended:
            outcome, reason = self._asked or ("stopped", "")
            note = "the node has not confirmed that its processes ended"
            self.end(outcome, f"{reason}; {note}" if reason else note)

    def end(self, outcome: Outcome, error: str) -> None:
        if self.is_ended:
            return
        self._seconds = self._loop.time() - self._started
        self.outcome, self.error = outcome, error
        self.ended.set_result(None)
        self._may_write.set()
        if self._channel is not None:
            self._channel.close()
        self._on_end(self)

    def result(self, outcome: Outcome, error: str) -> RunResult:
        seconds = self._loop.time() - self._started if self._seconds is None else self._seconds
        return RunResult(
            rank=self.task.rank,
            returncode=NO_STATUS if self.status is None else self.status,
            stdout=self._tails["stdout"].text(),
            stderr=self._tails["stderr"].text(),
            seconds=seconds,
            outcome=outcome,
            error=error,
            left_out=sum(tail.dropped for tail in self._tails.values()),
        )

    # What asyncssh calls.

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan
        self._started = self._loop.time()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._heard = self._loop.time()
        stream: Stream = "stdout" if datatype is None else "stderr"
        self._tails[stream].add(data)
        self._on_data(self, stream, data)

    def eof_received(self) -> bool:
        return True

    def exit_status_received(self, status: int) -> None:
        self.status = status
        self._loop.call_later(_QUIET_SECONDS, self._end_if_quiet)

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: FBT001 - asyncssh passes it by position
        self.exit_status_received(128 + _SIGNALS.get(signal, 15))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.status is not None:
            self.end(*(self._asked or ("exited", "")))
        elif self._asked is not None:
            self.give_up()
        elif exc is not None and "keepalive" in str(exc):
            self.end("lost", f"the node was lost: no answer for {KEEPALIVE_SECONDS:.0f} s")
        else:
            self.end("lost", f"the node was lost: {exc or 'it closed the connection'}")

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def _end_if_quiet(self) -> None:
        if self.is_ended:
            return
        quiet = self._loop.time() - self._heard
        if self._is_paused or quiet < _QUIET_SECONDS:
            self._loop.call_later(_QUIET_SECONDS, self._end_if_quiet)
        else:
            self.end(*(self._asked or ("exited", "")))


def _shown(duration: timedelta | None) -> str:
    seconds = (duration or timedelta()).total_seconds()
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
