"""The nodes of a cluster, reached over SSH: the synchronous way in to everything that runs there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

from multicompute.clock import Random, system_random
from multicompute.errors import MulticomputeError, SpecError
from multicompute.remote.command import Command, Task, job_of
from multicompute.remote.loop import Call, LoopThread
from multicompute.remote.output import Output, OutputQueue
from multicompute.remote.results import (
    NO_STATUS,
    RunResult,
    TransferResult,
    error_of,
    first_culprit,
)
from multicompute.remote.running import BackgroundRun, carry_out
from multicompute.remote.target import Target

if TYPE_CHECKING:
    from multicompute.remote._connections import ConnectFailure, Connections
    from multicompute.remote._execution import Execution, Listener, Policy

StopWhen = Literal["never", "lost", "failed"]

GRACE: Final = timedelta(seconds=3)
SILENCE: Final = timedelta(seconds=45)
_KEPT_BYTES: Final = 64 * 2**20
_LEAST_KEPT: Final = 64 * 1024


class RemoteNodes:
    """The nodes of a cluster, with their connections for the length of a `with` block.

    All methods may be called from any thread, also from one that runs an event loop, one at a time.

    Example:
        >>> with RemoteNodes(targets) as nodes:
        ...     results = nodes.run(["nvidia-smi", "-L"])
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        check_cancelled: Callable[[], object] | None = None,
        random: Random | None = None,
        concurrency: int = 32,
        silence: timedelta = SILENCE,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            targets: The nodes, in the order of their ranks.
            check_cancelled: Called several times a second while something runs. What it raises ends the processes on
                the nodes and then leaves the call.
            random: The source of tokens and of jitter.
            concurrency: How many logins may be under way at once.
            silence: After so long without a sign of life from here, a node ends what runs.

        Raises:
            MulticomputeError: asyncssh is not installed.
        """
        if find_spec("asyncssh") is None:
            raise MulticomputeError("running on nodes needs asyncssh", hint='pip install "multicompute[ssh]"')
        self.targets = tuple(targets)
        self.random = random or system_random()
        self._check_cancelled = check_cancelled or (lambda: None)
        self._concurrency = concurrency
        self._silence = silence
        self._names = {target.rank: str(target) for target in self.targets}
        self._loop: LoopThread | None = None
        self._connections: Connections | None = None

    def __enter__(self) -> Self:
        """Start the event loop; connections are opened when they are first used."""
        from multicompute.remote._connections import Connections, allow_files

        allow_files(len(self.targets))
        self._loop = LoopThread()
        self._loop.start()
        self._connections = Connections(self.targets, random=self.random, concurrency=self._concurrency)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections and stop the event loop."""
        loop, connections = self._opened()
        self._loop = self._connections = None
        try:
            loop.call(connections.close(), check_cancelled=lambda: None)
        finally:
            loop.stop()

    @property
    def host_keys(self) -> Mapping[int, str]:
        """The host keys of the nodes that were connected to, by rank; to be pinned from then on."""
        _, connections = self._opened()
        keys = connections.host_keys
        return MappingProxyType({target.rank: keys[target.host] for target in self.targets if target.host in keys})

    @property
    def jump_host_keys(self) -> Mapping[str, str]:
        """The host keys of jump hosts, by "user@address:port"."""
        _, connections = self._opened()
        nodes = {target.host for target in self.targets}
        return MappingProxyType({str(host): key for host, key in connections.host_keys.items() if host not in nodes})

    def connect(self, *, ranks: Sequence[int] | None = None, within: timedelta | None = None) -> None:
        """Log in to the nodes, and keep the connections open.

        Args:
            ranks: The nodes, all by default.
            within: For how long to try again, for nodes that are still booting; None to try once.

        Raises:
            HostKeyError: A node presented another host key than the pinned one.
            RunError: A node could not be reached.
        """
        from multicompute.remote._connections import connect_within

        loop, connections = self._opened()
        chosen = self._chosen(ranks)
        failures = loop.call(
            connect_within(connections, chosen, within=within, random=self.random),
            check_cancelled=self._check_cancelled,
        )
        self._raise_for(failures, chosen)

    def run(
        self,
        command: Command,
        *,
        ranks: Sequence[int] | None = None,
        env: Mapping[str, str] | Callable[[int], Mapping[str, str]] | None = None,
        cwd: str | None = None,
        timeout: timedelta | None = None,
        check: bool = True,
        output: Output | None = None,
        input: str | bytes | None = None,
    ) -> list[RunResult]:
        """Run a command on the nodes, all at once, and wait for its end.

        Args:
            command: A shell line, run by bash where a node has it and else by sh, or a list of arguments.
            ranks: The nodes, all by default.
            env: Variables to set, for all ranks or by rank.
            cwd: The folder to run in; the login user's home by default.
            timeout: How long it may run; afterwards it is ended.
            check: Whether a failure raises. Without, a node that is lost or can't be reached gets the status 255.
            output: Receives the output while the command runs.
            input: What the command reads from stdin on every node.

        Returns:
            One result for each rank, in the order of the ranks.

        Raises:
            RunError: A rank failed, or a node was lost or could not be reached; no process is left on the others.
            RunTimeout: The command was still running after `timeout`.
            HostKeyError: A node presented another host key than the pinned one.
            SpecError: The command can't be passed on.
        """
        data = input.encode("utf-8", "surrogateescape") if isinstance(input, str) else input
        of = env if callable(env) else lambda _: env or {}
        tasks = [Task(rank, command, env=of(rank), cwd=cwd, input=data) for rank in self._chosen(ranks)]
        return self.execute(tasks, timeout=timeout, check=check, output=output, stop_when="lost" if check else "never")

    def execute(
        self,
        tasks: Sequence[Task],
        *,
        timeout: timedelta | None = None,
        check: bool = True,
        output: Output | None = None,
        stop_when: StopWhen = "failed",
        sweep: bool = False,
        grace: timedelta = GRACE,
        listen: "Listener | None" = None,
    ) -> list[RunResult]:
        """Run a command of its own on each of several nodes, as one job.

        Args:
            tasks: The commands; one or more of a rank.
            timeout: How long they may run; afterwards they are ended.
            check: Whether a failure raises.
            output: Receives the output while the commands run.
            stop_when: What ends the other ranks: nothing, a node that is lost, or any rank that fails.
            sweep: Whether to end what a command left in the background.
            grace: How long processes have between TERM and KILL.
            listen: Called in the event loop with the output of services; returns further commands to start.

        Returns:
            One result for each task that is no service, in the order of the ranks.

        Raises:
            RunError: A rank failed; as in `run`.
        """
        from multicompute.remote._execution import Policy

        policy = Policy(
            timeout=timeout,
            stop_when=stop_when,
            needs_all=check,
            sweep=sweep,
            grace=grace,
            kept_bytes=max(_KEPT_BYTES // max(len(tasks), 1), _LEAST_KEPT),
            silence=self._silence,
        )
        if not tasks:
            return []
        self._check_cancelled()
        queue = None if output is None else OutputQueue()
        execution, call = self._begin(tasks, policy, queue, listen)
        results = carry_out(execution, call, queue, output, check_cancelled=self._check_cancelled)
        culprit = first_culprit(results) if check else None
        if culprit is not None:
            raise error_of(culprit, results, name=self._names[culprit.rank])
        return sorted(results, key=lambda result: result.rank)

    @contextmanager
    def start(self, tasks: Sequence[Task], *, grace: timedelta = GRACE) -> Iterator["BackgroundRun"]:
        """Run commands in the background for the length of a `with` block, and end them with it.

        Args:
            tasks: The commands.
            grace: How long processes have between TERM and KILL.

        Yields:
            The handle that reports whether they still run.
        """
        from multicompute.remote._execution import Policy

        execution, call = self._begin(
            tasks, Policy(stop_when="failed", sweep=True, grace=grace, silence=self._silence), None, None
        )
        background = BackgroundRun(execution, call, self._names)
        try:
            yield background
        finally:
            background.stop()

    def put(self, local: str | Path, remote: str, *, ranks: Sequence[int] | None = None) -> list[TransferResult]:
        """Copy a file or folder to the nodes.

        A file replaces the one of its name in one step. The contents of a folder go into the folder of that name, where
        they replace what has the same names, and only after everything has arrived.

        Args:
            local: The file or folder here.
            remote: The name that it gets; a name that ends in "/", or the folder that a file goes into, names the
                place. Relative to the login user's home.
            ranks: The nodes, all by default.

        Raises:
            SpecError: There is no such file or folder here.
            RunError: It could not be written on a node.
        """
        from multicompute.remote._transfers import put

        loop, connections = self._opened()
        source = Path(local).expanduser()
        if not source.exists():
            raise SpecError(f"{source}: no such file or folder")
        chosen = self._chosen(ranks)
        transfers = loop.call(put(connections, source, remote, chosen), check_cancelled=self._check_cancelled)
        return self._transferred(transfers)

    def get(self, remote: str, local: str | Path, *, ranks: Sequence[int] | None = None) -> list[TransferResult]:
        """Copy a file or folder from the nodes into one folder for each rank: `local/<rank>/<name>`.

        Links that lead out of what is copied, devices, and the set-user-id bit are left out; the results name them.

        Args:
            remote: The file or folder on the nodes; relative to the login user's home.
            local: The folder here that gets the ranks' folders; made if there is none.
            ranks: The nodes, all by default.

        Raises:
            RunError: It could not be read on a node.
        """
        from multicompute.remote._transfers import get

        loop, connections = self._opened()
        target = Path(local).expanduser()
        chosen = self._chosen(ranks)
        transfers = loop.call(get(connections, remote, target, chosen), check_cancelled=self._check_cancelled)
        return self._transferred(transfers)

    @contextmanager
    def forward(self, rank: int, port: int, *, host: str = "127.0.0.1") -> Iterator[int]:
        """Forward a free port of 127.0.0.1 here to a port on a node, for the length of a `with` block.

        Args:
            rank: The node.
            port: The port there.
            host: The address there.

        Yields:
            The port here.
        """
        loop, connections = self._opened()
        self.connect(ranks=[rank])

        async def listen() -> "tuple[int, Callable[[], object]]":
            connection = await connections.open(rank)
            listener = await connection.forward_local_port("127.0.0.1", 0, host, port)
            return listener.get_port(), listener.close

        here, close = loop.call(listen(), check_cancelled=self._check_cancelled)
        try:
            yield here
        finally:
            loop.loop.call_soon_threadsafe(close)

    def check_cancelled(self) -> None:
        """Raise if the caller wants to stop; for waits outside of this class."""
        self._check_cancelled()

    def name(self, rank: int) -> str:
        """Return a rank as messages show it."""
        return self._names[rank]

    def _opened(self) -> "tuple[LoopThread, Connections]":
        if self._loop is None or self._connections is None:
            raise RuntimeError("RemoteNodes is used outside of its `with` block")
        return self._loop, self._connections

    def _chosen(self, ranks: Sequence[int] | None) -> list[int]:
        if ranks is None:
            return [target.rank for target in self.targets]
        unknown = sorted(set(ranks) - set(self._names))
        if unknown:
            raise SpecError(
                f"ranks={list(ranks)}: there is no rank {unknown[0]}", hint=f"ranks are {_range(self._names)}"
            )
        return list(dict.fromkeys(ranks))

    def _begin(
        self, tasks: Sequence[Task], policy: "Policy", queue: OutputQueue | None, listen: "Listener | None"
    ) -> "tuple[Execution, Call[list[RunResult]]]":
        from multicompute.remote._execution import Execution

        loop, connections = self._opened()
        for task in tasks:
            job_of(task)  # what can't be passed on is an error before anything starts
        token = f"{self.random.getrandbits(64):016x}"
        execution = Execution(loop.loop, connections, tasks, policy, token=token, queue=queue, listen=listen)
        return execution, loop.submit(execution.run())

    def _raise_for(self, failures: "Mapping[int, ConnectFailure]", ranks: Sequence[int]) -> None:
        if failures:
            results = [
                RunResult(
                    rank, NO_STATUS, outcome="untrusted" if failure.is_untrusted else "unreachable", error=str(failure)
                )
                for rank, failure in failures.items()
            ]
            culprit = first_culprit(results)
            assert culprit is not None
            raise error_of(culprit, results, name=self._names[culprit.rank])

    def _transferred(self, transfers: "Sequence[TransferResult | RunResult]") -> list[TransferResult]:
        failed = [transfer for transfer in transfers if isinstance(transfer, RunResult)]
        culprit = first_culprit(failed)
        if culprit is not None:
            raise error_of(culprit, failed, name=self._names[culprit.rank])
        return sorted(
            (transfer for transfer in transfers if isinstance(transfer, TransferResult)), key=lambda done: done.rank
        )


def _range(names: Mapping[int, str]) -> str:
    ranks = sorted(names)
    return f"{ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else ", ".join(map(str, ranks))
