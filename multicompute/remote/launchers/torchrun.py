"""Starts torchrun on every node of a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from multicompute.errors import SpecError
from multicompute.remote.command import Task
from multicompute.remote.launchers.job import Job, check_accelerators, free_ports
from multicompute.remote.launchers.layout import Layout
from multicompute.remote.results import RunResult

# The installed command has the interpreter that torch is installed for; where it is not on the (short) PATH of a
# non-login shell, the module is tried.
_START: Final = """
if command -v torchrun >/dev/null 2>&1; then exec torchrun "$@"; fi
exec python3 -m torch.distributed.run "$@"
"""


@dataclass(frozen=True, slots=True)
class Torchrun:
    """The options for starting torchrun.

    Attributes:
        nproc_per_node: Processes on each node; "auto" for one for each accelerator, on nodes without any for torch's
            own "auto".
        python: The interpreter to start it with, such as "/opt/venv/bin/python"; by default `torchrun` on the PATH,
            else python3.
        max_restarts: How often a failed gang is started again; a rendezvous of torch's own makes that possible.
    """

    nproc_per_node: int | Literal["auto"] = "auto"
    python: str | None = None
    max_restarts: int = 0


def torchrun(job: Job, script: str, args: Sequence[str] = (), *, options: Torchrun | None = None) -> list[RunResult]:
    """Run a script under torchrun on all nodes.

    Args:
        job: The nodes.
        script: The script on the nodes; relative to the job's folder.
        args: Its arguments.
        options: How torchrun is started.

    Raises:
        RunError: A rank failed, or its node was lost; the others were stopped.
    """
    options = options or Torchrun()
    if not script:
        raise SpecError("script='': name the script to run")
    check_accelerators(job)
    (port,) = free_ports(job.nodes)
    run_id = f"{job.nodes.random.getrandbits(64):016x}"
    return job.execute(
        [
            Task(
                member.rank,
                command(job.layout, member.rank, script, args, port=port, run_id=run_id, options=options),
                env=job.environment(member.rank),
                cwd=job.cwd,
            )
            for member in job.layout.members
        ]
    )


def command(
    layout: Layout, rank: int, script: str, args: Sequence[str], *, port: int, run_id: str, options: Torchrun
) -> list[str]:
    """Return the command of one node.

    Args:
        layout: The nodes.
        rank: The node.
        script: The script.
        args: Its arguments.
        port: A free port of the head.
        run_id: Names this run, so that two of them on one port do not become one.
        options: How torchrun is started.
    """
    start = [options.python, "-m", "torch.distributed.run"] if options.python else ["sh", "-c", _START, "torchrun"]
    member = layout.member(rank)
    count = options.nproc_per_node
    # torch's "auto" counts CPUs where it finds no CUDA: a node whose driver is broken would train on those.
    processes = str(member.accelerators) if count == "auto" and member.accelerators else str(count)
    return [
        *start,
        *("--nnodes", str(len(layout.members)), "--nproc-per-node", processes),
        *(_rendezvous(layout, rank, port=port, run_id=run_id, options=options)),
        script,
        *args,
    ]


def _rendezvous(layout: Layout, rank: int, *, port: int, run_id: str, options: Torchrun) -> list[str]:
    if not options.max_restarts:
        # The static one: c10d ignores --node-rank (pytorch/pytorch#182374) and replaces addresses by host names, which
        # fails without DNS (#85300, #150532).
        return ["--node-rank", str(rank), "--master-addr", layout.head.address, "--master-port", str(port)]
    return [
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{layout.head.address}:{port}", "--rdzv-id", run_id),
        # The default of 60 s is short where nodes start apart (flyteorg/flytekit#3419).
        *("--local-addr", layout.member(rank).address, "--rdzv-conf", "read_timeout=300"),
        *("--max-restarts", str(options.max_restarts)),
    ]
