"""Runs commands, transfers of files and distributed engines on the nodes of a cluster."""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from multicompute.engine.operation.cancellation import Cancellation, cancel_on_signals
from multicompute.engine.running.findings import Findings
from multicompute.engine.running.gang import Gang, gang
from multicompute.errors import RunError
from multicompute.remote import reach
from multicompute.remote.command import Command, Task, job_of
from multicompute.remote.launchers.fabric import Facts
from multicompute.remote.launchers.jax import Jax, jax
from multicompute.remote.launchers.job import Job, environment, probe_all
from multicompute.remote.launchers.mpirun import Mpirun, mpirun
from multicompute.remote.launchers.ray import Ray, RayCluster, ray
from multicompute.remote.launchers.torchrun import Torchrun, torchrun
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.output import Output
from multicompute.remote.places import cluster_folder
from multicompute.remote.results import RunResult, TransferResult, error_of, first_culprit, not_started
from multicompute.session import Session


@dataclass(frozen=True, slots=True)
class How:
    """The environment, folder and limits of a command.

    Attributes:
        env: The user's variables; they win over all others.
        cwd: The folder to run in; the login user's home by default.
        timeout: How long the command may run.
        output: What receives the output while the command runs.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    timeout: timedelta | None = None
    output: Output | None = None


class OnNodes:
    """The nodes of a cluster as a place to run something; each method opens its own connections."""

    def __init__(
        self,
        session: Session,
        cluster_id: str,
        *,
        reports: MutableMapping[str, str],
        cancellation: Cancellation | None = None,
    ) -> None:
        """Prepare; nothing is read or opened yet.

        Args:
            session: The session.
            cluster_id: The id of the cluster.
            reports: What nodes reported earlier, by the id of the node; what they report now is added.
            cancellation: The request to stop.
        """
        self._session = session
        self._cluster_id = cluster_id
        self._reports = reports
        self._cancellation = cancellation or Cancellation()

    def run(
        self,
        command: Command,
        how: How,
        *,
        ranks: int | Sequence[int] | None,
        check: bool,
        input: str | bytes | None,
    ) -> list[RunResult]:
        """Run a command on nodes, all at once; `Cluster.run` describes the arguments."""
        found = self._gang()
        chosen = found.chosen(ranks)
        for rank in chosen[:1]:
            job_of(
                Task(rank, command, env=how.env, cwd=how.cwd)
            )  # what can't be passed on is refused before a node is asked
        if check:
            found.require(chosen)
        results = found.gone(chosen)
        present = [rank for rank in chosen if rank in found.ids]
        with self._opened(found, present) as nodes:
            facts, unreachable = self._facts(nodes, found, present)
            if unreachable and check:
                raise _not_started(nodes, unreachable, present)
            reached = [rank for rank in present if rank not in {result.rank for result in unreachable}]
            results += unreachable
            results += nodes.run(
                command,
                ranks=reached,
                env=lambda rank: environment(found.layout, rank, facts=facts.get(rank), env=how.env),
                cwd=how.cwd,
                timeout=how.timeout,
                check=check,
                output=how.output,
                input=input,
            )
        return sorted(results, key=lambda result: result.rank)

    def put(self, local: str | Path, remote: str, *, ranks: int | Sequence[int] | None) -> list[TransferResult]:
        """Copy a file or folder to nodes."""
        with self._all(ranks) as (nodes, chosen):
            return nodes.put(local, remote, ranks=chosen)

    def get(self, remote: str, local: str | Path, *, ranks: int | Sequence[int] | None) -> list[TransferResult]:
        """Copy a file or folder from nodes, into one folder for each rank."""
        with self._all(ranks) as (nodes, chosen):
            return nodes.get(remote, local, ranks=chosen)

    def env(self, rank: int, *, fabric: bool) -> dict[str, str]:
        """Return the variables that a command on a node gets."""
        found = self._gang()
        found.require(found.chosen(rank))
        if not fabric:
            return environment(found.layout, rank)
        facts = self._findings().get(found.ids[rank])
        if facts is None:
            with self._opened(found, [rank]) as nodes:
                asked, unreachable = self._facts(nodes, found, [rank])
                if unreachable:
                    raise _not_started(nodes, unreachable, [rank])
            facts = asked.get(rank)
        return environment(found.layout, rank, facts=facts)

    def hostfile(self) -> Gang:
        """Return the nodes for a host file, which needs all of them.

        Raises:
            RunError: A node is gone.
        """
        found = self._gang()
        found.require(found.chosen(None))
        return found

    def torchrun(self, script: str, args: Sequence[str], how: How, options: Torchrun) -> list[RunResult]:
        """Run a script under torchrun on all nodes."""
        with self._job(how) as job:
            return torchrun(job, script, args, options=options)

    def jax(self, script: str, args: Sequence[str], how: How, options: Jax) -> list[RunResult]:
        """Run a script on all nodes, with JAX initialized."""
        with self._job(how) as job:
            return jax(job, script, args, options=options)

    def mpirun(self, program: str, args: Sequence[str], how: How, options: Mpirun) -> list[RunResult]:
        """Run a program under mpirun on all nodes."""
        with self._job(how) as job:
            return mpirun(job, program, args, options=options)

    @contextmanager
    def ray(self, how: How, options: Ray) -> Iterator[RayCluster]:
        """Run Ray on all nodes for the length of a `with` block."""
        # Signals are left to the caller: the block is the caller's own code.
        with self._job(how, signals=False) as job, ray(job, options=options) as cluster:
            yield cluster

    def _gang(self) -> Gang:
        return gang(self._session, self._cluster_id)

    @contextmanager
    def _opened(self, found: Gang, ranks: Sequence[int], *, signals: bool = True) -> Iterator[RemoteNodes]:
        """Open connections to nodes, and keep the host keys that they presented."""
        reached = reach.targets(self._session, found.record, ranks)
        nodes = RemoteNodes(reached, check_cancelled=self._cancellation.check, random=self._session.random)
        with cancel_on_signals(self._cancellation) if signals else nullcontext(), nodes:
            try:
                yield nodes
            finally:
                reach.pin(self._session, found.record, nodes.host_keys, nodes.jump_host_keys)

    @contextmanager
    def _all(self, ranks: int | Sequence[int] | None) -> Iterator[tuple[RemoteNodes, list[int]]]:
        """Open connections to nodes that must all be there."""
        found = self._gang()
        chosen = found.chosen(ranks)
        found.require(chosen)
        with self._opened(found, chosen) as nodes:
            yield nodes, chosen

    @contextmanager
    def _job(self, how: How, *, signals: bool = True) -> Iterator[Job]:
        """Open connections to all nodes, and find out what they have: it may have changed since the last time."""
        found = self.hostfile()
        ranks = found.chosen(None)
        with self._opened(found, ranks, signals=signals) as nodes:
            facts, unreachable = self._facts(nodes, found, ranks, again=True)
            if unreachable:
                raise _not_started(nodes, unreachable, ranks)
            yield Job(nodes, found.layout, facts, env=how.env, cwd=how.cwd, timeout=how.timeout, output=how.output)

    def _facts(
        self, nodes: RemoteNodes, found: Gang, ranks: Sequence[int], *, again: bool = False
    ) -> tuple[dict[int, Facts], list[RunResult]]:
        """Return what is on the nodes, and the results of those that could not be asked."""
        findings = self._findings()
        unknown = findings.unknown(found.ids[rank] for rank in ranks)
        reports, unreachable = probe_all(nodes, [rank for rank in ranks if again or found.ids[rank] in unknown])
        findings.add({found.ids[rank]: report for rank, report in reports.items()})
        facts = {rank: findings.get(found.ids[rank]) for rank in ranks}
        return {rank: fact for rank, fact in facts.items() if fact is not None}, unreachable

    def _findings(self) -> Findings:
        return Findings(self._reports, cluster_folder(self._session, self._cluster_id))


def _not_started(nodes: RemoteNodes, unreachable: Sequence[RunResult], ranks: Sequence[int]) -> RunError:
    """Return the error for nodes that could not be reached before anything was started."""
    culprit = first_culprit(unreachable)
    assert culprit is not None
    failed = {result.rank for result in unreachable}
    others = [not_started(rank, culprit.rank) for rank in ranks if rank not in failed]
    return error_of(culprit, [*unreachable, *others], name=nodes.name(culprit.rank))
