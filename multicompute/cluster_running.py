"""The methods of `Cluster` that run something on its nodes, over SSH."""

import builtins
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TextIO, TypeVar

from multicompute.errors import SpecError
from multicompute.units import parse_duration

if TYPE_CHECKING:
    from multicompute.engine.operation.cancellation import Cancellation
    from multicompute.engine.running.on_nodes import How, OnNodes
    from multicompute.ledger import ClusterRecord
    from multicompute.remote.launchers.ray import RayCluster
    from multicompute.remote.output import Output
    from multicompute.remote.results import RunResult, TransferResult
    from multicompute.session import Session

T = TypeVar("T")
Streaming = bool | TextIO | Callable[[int, Literal["stdout", "stderr"], str], object] | None
"""The destination of output while a command runs: True or None for this process's own streams, False for none."""
Argument = str | int | float | Path
"""An argument of a program; numbers and paths are passed on as text."""


class CopiesFiles(Protocol):
    """The type of `cluster.get`."""

    def __call__(
        self, remote: str, local: str | Path, *, ranks: int | Sequence[int] | None = None
    ) -> "builtins.list[TransferResult]":
        """Copy a file or folder from the nodes."""


class ClusterRunning:
    """The methods of `Cluster` that run something on its nodes; `Cluster` has the attributes."""

    _session: "Session"
    _record: "ClusterRecord"
    _reports: dict[str, str]

    def run(
        self,
        command: str | Sequence[str],
        *,
        ranks: int | Sequence[int] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: str | timedelta | None = None,
        check: bool = True,
        stream: Streaming = None,
        input: str | bytes | None = None,
    ) -> "builtins.list[RunResult]":
        """Run a command on the nodes, all at once, and wait until it has ended on all of them.

        No process of it is left on any node after a failure, a timeout, Ctrl-C or the death of this process.

        Args:
            command: A shell line, or a list of arguments that no shell interprets.
            ranks: The nodes; all of them if omitted.
            env: Variables to set. They win over those that every command gets.
            cwd: The folder to run in, relative to the login user's home; the home itself if omitted.
            timeout: How long it may run, "10m" or a timedelta.
            check: Raise if a rank fails. Otherwise, a node that is lost or can't be reached has the status 255.
            stream: Where output goes while the command runs: True (the default) for this process's stdout and stderr, with
                the rank before each line; False for nowhere; a text stream; or a function that is called with the rank,
                "stdout" or "stderr", and a line.
            input: What the command reads from stdin, on every node.

        Returns:
            A result for each rank, in the order of the ranks.

        Raises:
            RunError: A rank failed, or its node was lost or could not be reached. `rank` and `results` say more.
            RunTimeout: The command was still running after `timeout`.
            HostKeyError: A node presented another host key than the pinned one.
            SpecError: An argument is wrong.
            ClusterNotFound: The cluster is not up.
        """
        how = _how(env, cwd, timeout, stream)
        return self._on_nodes().run(command, how, ranks=ranks, check=check, input=input)

    def put(
        self, local: str | Path, remote: str, *, ranks: int | Sequence[int] | None = None
    ) -> "builtins.list[TransferResult]":
        """Copy a file or folder to the nodes.

        A file replaces the one of its name in one step. A folder is merged with the one of its name, after everything has arrived.

        Args:
            local: The file or folder here.
            remote: The name that it gets, relative to the login user's home. A name that ends in "/" is the folder to
                put it into.
            ranks: The nodes; all of them if omitted.

        Raises:
            SpecError: There is no such file or folder.
            RunError: It could not be written on a node.
            ClusterNotFound: The cluster is not up.
        """
        return self._on_nodes().put(local, remote, ranks=ranks)

    def _get_files(
        self, remote: str, local: str | Path, *, ranks: int | Sequence[int] | None = None
    ) -> "builtins.list[TransferResult]":
        """Copy a file or folder from the nodes, into one folder for each rank: `local/<rank>/<name>`.

        Args:
            remote: The file or folder on the nodes, relative to the login user's home.
            local: The folder here that gets the folders of the ranks; made if there is none.
            ranks: The nodes; all of them if omitted.

        Raises:
            RunError: It could not be read on a node.
            ClusterNotFound: The cluster is not up.
        """
        return self._on_nodes().get(remote, local, ranks=ranks)

    def env(self, rank: int, *, fabric: bool = True) -> dict[str, str]:
        """Return the variables that every command on a node gets, for processes that you start yourself.

        Args:
            rank: The node.
            fabric: Also those that the node's network fabric needs, for which the node is asked over SSH what it has.

        Raises:
            RunError: The node could not be asked.
            SpecError: The cluster has no such rank.
            ClusterNotFound: The cluster is not up.
        """
        return self._on_nodes().env(rank, fabric=fabric)

    def hostfile(self, style: Literal["mpi", "mpich", "plain"] = "mpi", *, slots: int | None = None) -> str:
        """Return a host file with the private addresses of all nodes.

        Args:
            style: "mpi" for `address slots=8` (Open MPI, DeepSpeed), "mpich" for `address:8` (MPICH, Intel MPI), "plain"
                for addresses alone.
            slots: Processes on each node; one for each accelerator, at least one, if omitted.

        Raises:
            RunError: A node is gone.
            SpecError: There is no such style.
            ClusterNotFound: The cluster is not up.
        """
        from multicompute.remote.launchers.layout import hostfile

        return hostfile(self._on_nodes().hostfile().layout, style, slots=slots)

    def torchrun(
        self,
        script: str,
        *args: Argument,
        nproc_per_node: int | Literal["auto"] = "auto",
        max_restarts: int = 0,
        python: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: str | timedelta | None = None,
        stream: Streaming = None,
    ) -> "builtins.list[RunResult]":
        """Run a script under torchrun on all nodes, as one job: when a rank fails, the others are stopped.

        Args:
            script: The script on the nodes, relative to `cwd`.
            *args: Its arguments.
            nproc_per_node: Processes on each node; "auto" for one for each accelerator.
            max_restarts: How often a failed job is started again, by torchrun itself.
            python: The interpreter, such as "/opt/venv/bin/python"; `torchrun` on the PATH, or else python3, if omitted.
            env: As for `run`.
            cwd: As for `run`.
            timeout: As for `run`.
            stream: As for `run`.

        Raises:
            RunError: A rank failed, or its node was lost. The message shows the rank and its last lines.
            ClusterNotFound: The cluster is not up.
        """
        from multicompute.remote.launchers.torchrun import Torchrun

        options = Torchrun(nproc_per_node=nproc_per_node, python=python, max_restarts=max_restarts)
        return self._on_nodes().torchrun(script, _texts(args), _how(env, cwd, timeout, stream), options)

    def jax(
        self,
        script: str,
        *args: Argument,
        python: str = "python3",
        initialize: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: str | timedelta | None = None,
        stream: Streaming = None,
    ) -> "builtins.list[RunResult]":
        """Run a script on all nodes, one process on each, as one job with JAX initialized.

        Args:
            script: The script on the nodes, relative to `cwd`; "-m" for a module, whose name is the next argument.
            *args: Its arguments.
            python: The interpreter, such as "/opt/venv/bin/python".
            initialize: Call `jax.distributed.initialize` before the script, which must not call it itself then.
            env: As for `run`.
            cwd: As for `run`.
            timeout: As for `run`.
            stream: As for `run`.

        Raises:
            RunError: A rank failed, or its node was lost; the others were stopped.
            ClusterNotFound: The cluster is not up.
        """
        from multicompute.remote.launchers.jax import Jax

        options = Jax(python=python, initialize=initialize)
        return self._on_nodes().jax(script, _texts(args), _how(env, cwd, timeout, stream), options)

    def mpirun(
        self,
        program: str,
        *args: Argument,
        slots: int | Literal["auto"] = "auto",
        mpirun: str | None = None,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: str | timedelta | None = None,
        stream: Streaming = None,
    ) -> "builtins.list[RunResult]":
        """Run a program under Open MPI on all nodes, as one job.

        Args:
            program: The program on the nodes, relative to `cwd`.
            *args: Its arguments.
            slots: Processes on each node; "auto" for one for each accelerator, or for each CPU where there is none.
            mpirun: The path of mpirun on the nodes; where the vendors' images have it, or else on the PATH, if omitted.
            options: Further options of mpirun, such as ["--map-by", "numa"].
            env: As for `run`; these variables reach all processes.
            cwd: As for `run`.
            timeout: As for `run`.
            stream: As for `run`.

        Returns:
            The result of mpirun, which has the output of all processes, as that of rank 0.

        Raises:
            RunError: A process failed, or a node was lost; all were stopped. `rank` is that of the node.
            ClusterNotFound: The cluster is not up.
        """
        from multicompute.remote.launchers.mpirun import Mpirun

        chosen = Mpirun(slots=slots, mpirun=mpirun, options=tuple(options))
        return self._on_nodes().mpirun(program, _texts(args), _how(env, cwd, timeout, stream), chosen)

    def ray(
        self,
        *,
        ray: str = "ray",
        within: str | timedelta = "2m",
        has_token: bool = False,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> "contextlib.AbstractContextManager[RayCluster]":
        """Run Ray on all nodes for the length of a `with` block.

        Example:
            >>> with cluster.ray() as ray:
            ...     print(ray.submit("python train.py").wait())

        Args:
            ray: The path of the `ray` command on the nodes; the one on the PATH if omitted.
            within: How long all nodes have to join, "2m" or a timedelta.
            has_token: Let Ray (2.52 or newer) ask every request for a token, for networks that you share with others.
            options: Further options of `ray start`.
            env: Variables for Ray and its jobs.
            cwd: The folder that Ray is started in.

        Raises:
            RunError: Ray did not start on a node, or the nodes did not find each other in time.
            ClusterNotFound: The cluster is not up.
        """
        return self._ray(None, ray=ray, within=within, has_token=has_token, options=options, env=env, cwd=cwd)

    # Async twins, as in `Cluster`.

    async def arun(
        self,
        command: str | Sequence[str],
        *,
        ranks: int | Sequence[int] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: str | timedelta | None = None,
        check: bool = True,
        stream: Streaming = None,
        input: str | bytes | None = None,
    ) -> "builtins.list[RunResult]":
        """Do what `run` does without blocking the event loop; a cancelled task ends the command on all nodes."""
        how = _how(env, cwd, timeout, stream)
        return await self._in_thread(lambda nodes: nodes.run(command, how, ranks=ranks, check=check, input=input))

    async def aput(
        self, local: str | Path, remote: str, *, ranks: int | Sequence[int] | None = None
    ) -> "builtins.list[TransferResult]":
        """Do what `put` does without blocking the event loop."""
        return await self._in_thread(lambda nodes: nodes.put(local, remote, ranks=ranks))

    async def aget(
        self, remote: str, local: str | Path, *, ranks: int | Sequence[int] | None = None
    ) -> "builtins.list[TransferResult]":
        """Do what `get` of a cluster does without blocking the event loop."""
        return await self._in_thread(lambda nodes: nodes.get(remote, local, ranks=ranks))

    async def aenv(self, rank: int, *, fabric: bool = True) -> dict[str, str]:
        """Do what `env` does without blocking the event loop."""
        return await self._in_thread(lambda nodes: nodes.env(rank, fabric=fabric))

    async def atorchrun(
        self,
        script: str,
        *args: Argument,
        nproc_per_node: int | Literal["auto"] = "auto",
        max_restarts: int = 0,
        python: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: str | timedelta | None = None,
        stream: Streaming = None,
    ) -> "builtins.list[RunResult]":
        """Do what `torchrun` does without blocking the event loop; a cancelled task ends the job."""
        from multicompute.remote.launchers.torchrun import Torchrun

        options = Torchrun(nproc_per_node=nproc_per_node, python=python, max_restarts=max_restarts)
        how = _how(env, cwd, timeout, stream)
        return await self._in_thread(lambda nodes: nodes.torchrun(script, _texts(args), how, options))

    async def ajax(
        self,
        script: str,
        *args: Argument,
        python: str = "python3",
        initialize: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: str | timedelta | None = None,
        stream: Streaming = None,
    ) -> "builtins.list[RunResult]":
        """Do what `jax` does without blocking the event loop; a cancelled task ends the job."""
        from multicompute.remote.launchers.jax import Jax

        options = Jax(python=python, initialize=initialize)
        how = _how(env, cwd, timeout, stream)
        return await self._in_thread(lambda nodes: nodes.jax(script, _texts(args), how, options))

    async def ampirun(
        self,
        program: str,
        *args: Argument,
        slots: int | Literal["auto"] = "auto",
        mpirun: str | None = None,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: str | timedelta | None = None,
        stream: Streaming = None,
    ) -> "builtins.list[RunResult]":
        """Do what `mpirun` does without blocking the event loop; a cancelled task ends the job."""
        from multicompute.remote.launchers.mpirun import Mpirun

        chosen = Mpirun(slots=slots, mpirun=mpirun, options=tuple(options))
        how = _how(env, cwd, timeout, stream)
        return await self._in_thread(lambda nodes: nodes.mpirun(program, _texts(args), how, chosen))

    @asynccontextmanager
    async def aray(
        self,
        *,
        ray: str = "ray",
        within: str | timedelta = "2m",
        has_token: bool = False,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> "AsyncIterator[RayCluster]":
        """Do what `ray` does, with `async with`; call `submit` and `wait` with `asyncio.to_thread`."""
        from multicompute.engine.operation.cancellation import Cancellation
        from multicompute.engine.operation.threads import in_thread

        cancellation = Cancellation()
        block = self._ray(cancellation, ray=ray, within=within, has_token=has_token, options=options, env=env, cwd=cwd)
        started = await in_thread(
            block.__enter__, cancellation=cancellation, undo=lambda _: block.__exit__(None, None, None)
        )
        try:
            yield started
        finally:
            await in_thread(lambda: block.__exit__(None, None, None))

    def _on_nodes(self, cancellation: "Cancellation | None" = None) -> "OnNodes":
        # Imported here: most programs run nothing on nodes, and asyncio takes 20 ms.
        from multicompute.engine.running.on_nodes import OnNodes

        return OnNodes(self._session, self._record.id, reports=self._reports, cancellation=cancellation)

    async def _in_thread(self, work: "Callable[[OnNodes], T]") -> T:
        from multicompute.engine.operation.cancellation import Cancellation
        from multicompute.engine.operation.threads import in_thread

        cancellation = Cancellation()
        return await in_thread(lambda: work(self._on_nodes(cancellation)), cancellation=cancellation)

    @contextmanager
    def _ray(
        self,
        cancellation: "Cancellation | None",
        *,
        ray: str,
        within: str | timedelta,
        has_token: bool,
        options: Sequence[str],
        env: Mapping[str, str] | None,
        cwd: str | None,
    ) -> "Iterator[RayCluster]":
        from multicompute.remote.launchers.ray import Ray

        limit = parse_duration(within, what="within")
        chosen = Ray(ray=ray, within=limit, has_token=has_token, options=tuple(options))
        with self._on_nodes(cancellation).ray(_how(env, cwd, None, stream=False), chosen) as cluster:
            yield cluster


def _how(env: Mapping[str, str] | None, cwd: str | None, timeout: str | timedelta | None, stream: Streaming) -> "How":
    from multicompute.engine.running.on_nodes import How

    limit = None if timeout is None else parse_duration(timeout, what="timeout")
    return How(env=dict(env or {}), cwd=cwd, timeout=limit, output=_output(stream))


def _output(stream: Streaming) -> "Output | None":
    from multicompute.remote.output import LineOutput, PrefixedOutput

    if stream is False:
        return None
    if stream is None or stream is True:
        return PrefixedOutput(sys.stdout, sys.stderr)
    if callable(stream):
        return LineOutput(stream)
    if hasattr(stream, "write"):
        return PrefixedOutput(stream, stream)
    raise SpecError(f"stream={stream!r}: must be True, False, a text stream or a function")


def _texts(args: Sequence[Argument]) -> builtins.list[str]:
    return [str(arg) for arg in args]
