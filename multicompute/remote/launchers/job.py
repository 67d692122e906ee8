"""The parts that all launchers share: nodes, their environment, free ports, and the start of a job."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from multicompute.errors import RunError
from multicompute.remote.command import Task
from multicompute.remote.launchers.fabric import Facts, Setting, parse, settings
from multicompute.remote.launchers.layout import Layout, variables
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.output import Output
from multicompute.remote.results import NO_STATUS, RunResult

PROBE_TIMEOUT: Final = timedelta(seconds=60)
# Below the ports that outgoing connections take (32768 and up), above those of well-known services.
_PORTS: Final = range(20000, 30000)
_TRIES: Final = 24
_FREE_PORTS: Final = """
for port; do
    hex=$(printf ':%04X ' "$port")
    grep -q "$hex" /proc/net/tcp /proc/net/tcp6 2>/dev/null || echo "$port"
done
exit 0
"""


@dataclass(frozen=True, slots=True)
class Job:
    """The nodes that a launcher starts an engine on, and how.

    Attributes:
        nodes: The open connections.
        layout: The nodes as they see each other.
        facts: What was found on each node, by rank; `probe` finds it.
        env: The user's variables; they win over all others.
        cwd: The folder to run in; the login user's home by default.
        timeout: How long the job may run.
        output: Receives the output while the job runs.
    """

    nodes: RemoteNodes
    layout: Layout
    facts: Mapping[int, Facts] = field(default_factory=lambda: MappingProxyType({}))
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    cwd: str | None = None
    timeout: timedelta | None = None
    output: Output | None = None

    def environment(self, rank: int) -> dict[str, str]:
        """Return the variables of a rank."""
        return environment(self.layout, rank, facts=self.facts.get(rank), env=self.env)

    def scratch(self) -> str:
        """Return the path of a folder that no node has, the same on all of them."""
        # On nodes, not here, and short for the sake of sockets. `mkdir` on the node refuses a folder that exists.
        return f"/tmp/mc-{self.nodes.random.getrandbits(40):010x}"  # nosec B108

    def execute(self, tasks: Sequence[Task], *, listen: Callable[..., list[Task]] | None = None) -> list[RunResult]:
        """Run the tasks as one job: a rank that fails ends the others, and nothing is left on the nodes."""
        return self.nodes.execute(
            tasks, timeout=self.timeout, output=self.output, stop_when="failed", sweep=True, listen=listen
        )


def environment(
    layout: Layout, rank: int, *, facts: Facts | None = None, env: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables that a command on a node gets.

    Args:
        layout: The nodes.
        rank: The node.
        facts: What was found on it; without, the variables of its fabric are missing.
        env: The user's variables; they win.
    """
    found = {} if facts is None else {setting.name: setting.value for setting in fabric_settings(layout, rank, facts)}
    return {**variables(layout, rank), **found, **(env or {})}


def fabric_settings(layout: Layout, rank: int, facts: Facts) -> list[Setting]:
    """Return the variables of a node's fabric, each with its source."""
    return settings(facts, address=layout.member(rank).address, nodes=len(layout.members))


def probe(nodes: RemoteNodes, *, ranks: Sequence[int] | None = None) -> dict[int, Facts]:
    """Find out what the nodes have.

    Raises:
        RunError: A node could not be asked.
    """
    return {result.rank: parse(result.stdout) for result in nodes.run(_probe(), ranks=ranks, timeout=PROBE_TIMEOUT)}


def probe_all(nodes: RemoteNodes, ranks: Sequence[int]) -> tuple[dict[int, str], list[RunResult]]:
    """Ask the nodes what they have; return their reports by rank, and the results of nodes that could not be asked."""
    results = nodes.run(_probe(), ranks=ranks, timeout=PROBE_TIMEOUT, check=False)
    asked = {result.rank: result.stdout for result in results if result.outcome == "exited"}
    return asked, [result for result in results if result.rank not in asked]


def _probe() -> list[str]:
    return ["sh", "-c", files("multicompute.remote").joinpath("scripts", "probe.sh").read_text(encoding="utf-8")]


def check_accelerators(job: Job) -> None:
    """Check that every node has the accelerators that it should have.

    Raises:
        RunError: A node has fewer; it would hold up all others.
    """
    for member in job.layout.members:
        facts = job.facts.get(member.rank)
        # Other makers' accelerators are not counted, so that none found proves nothing.
        if facts is not None and 0 < facts.nvidia < member.accelerators:
            reason = f"{facts.nvidia} of {member.accelerators} accelerators found"
            result = RunResult(member.rank, NO_STATUS, outcome="unreachable", error=reason)
            raise RunError(
                f"{job.nodes.name(member.rank)}: {reason}; nothing was started",
                rank=member.rank,
                results=[result],
                hint="replace the node, or leave its rank out",
            )


def free_ports(nodes: RemoteNodes, *, rank: int = 0, count: int = 1) -> list[int]:
    """Return ports that nothing listens on at a node.

    Raises:
        RunError: The node could not be asked, or has none.
    """
    tried = nodes.random.sample(_PORTS, _TRIES)
    asked = ["sh", "-c", _FREE_PORTS, "sh", *map(str, tried)]
    (result,) = nodes.run(asked, ranks=[rank], timeout=PROBE_TIMEOUT)
    free = [int(word) for word in result.stdout.split() if word.isdigit() and int(word) in tried]
    if len(free) < count:
        raise RunError(f"{nodes.name(rank)}: no free port among {_TRIES}", rank=rank, results=[result])
    return free[:count]
