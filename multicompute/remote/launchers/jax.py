"""Starts one JAX process on every node of a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from multicompute.errors import SpecError
from multicompute.remote.command import Task
from multicompute.remote.launchers.fabric import Facts
from multicompute.remote.launchers.job import Job, check_accelerators, free_ports
from multicompute.remote.launchers.layout import Layout
from multicompute.remote.results import RunResult

# Initializes JAX and runs the script as `python script` would. JAX reads neither the number of processes nor the id
# from the environment (jax-ml/jax#12415). At its end a process waits for all others (shutdown_timeout_seconds, five
# minutes), also after a failure (tried with jax 0.10.2), which would hide the failure: so that one ends on the spot.
SHIM: Final = """
import os, runpy, sys, traceback
import jax
coordinator, count, rank, script, *args = sys.argv[1:]
if coordinator:
    jax.distributed.initialize(coordinator, int(count), int(rank))
else:
    jax.distributed.initialize()
try:
    if script == "-m":
        sys.argv = args
        sys.path[0] = os.getcwd()
        runpy.run_module(args[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [script, *args]
        sys.path[0] = os.path.dirname(os.path.abspath(script))
        runpy.run_path(script, run_name="__main__")
except BaseException as error:
    code = error.code if isinstance(error, SystemExit) else 1
    if code in (None, 0):
        raise
    if not isinstance(error, SystemExit):
        traceback.print_exc()
    elif not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
"""


# Logical NeuronCores of one chip in the default configuration (Neuron SDK documentation, developer guide for training
# with PyTorch NeuronX). Of a machine that is not known nothing is set.
_CORES: Final = {"trn1": 2, "inf2": 2, "trn2": 4}


@dataclass(frozen=True, slots=True)
class Jax:
    """The options for starting JAX.

    Attributes:
        python: The interpreter, such as "/opt/venv/bin/python".
        initialize: Whether to call `jax.distributed.initialize` before the script, which must then not call it itself.
            Without, the script finds JAX_COORDINATOR_ADDRESS, MULTICOMPUTE_NODES and MULTICOMPUTE_RANK.
    """

    python: str = "python3"
    initialize: bool = True


def jax(job: Job, script: str, args: Sequence[str] = (), *, options: Jax | None = None) -> list[RunResult]:
    """Run a script on all nodes, one process on each, with JAX initialized.

    Args:
        job: The nodes.
        script: The script on the nodes, or "-m"; relative to the job's folder.
        args: Its arguments.
        options: How JAX is started.

    Raises:
        RunError: A rank failed, or its node was lost; the others were stopped.
    """
    options = options or Jax()
    if not script:
        raise SpecError("script='': name the script to run")
    check_accelerators(job)
    port, other_port = free_ports(job.nodes, count=2)
    return job.execute(
        [
            Task(
                member.rank,
                command(job, member.rank, script, args, port=port, options=options),
                env={
                    **variables(job.layout, member.rank, job.facts.get(member.rank), ports=(port, other_port)),
                    **job.environment(member.rank),
                },
                cwd=job.cwd,
            )
            for member in job.layout.members
        ]
    )


def command(job: Job, rank: int, script: str, args: Sequence[str], *, port: int, options: Jax) -> list[str]:
    """Return the command of one node."""
    if not options.initialize:
        return [options.python, script, *args]
    facts = job.facts.get(rank)
    # TPU VMs read all of it from their metadata.
    coordinator = "" if facts is not None and facts.is_tpu else f"{job.layout.head.address}:{port}"
    return [options.python, "-c", SHIM, coordinator, str(len(job.layout.members)), str(rank), script, *args]


def variables(layout: Layout, rank: int, facts: Facts | None, *, ports: tuple[int, int]) -> dict[str, str]:
    """Return the variables that JAX reads on one node.

    Args:
        layout: The nodes.
        rank: The node.
        facts: What was found on it.
        ports: Two free ports of the head.
    """
    facts = facts or Facts()
    head = layout.head.address
    if facts.is_tpu:
        if layout.slices < 2:
            return {}
        return {
            "MEGASCALE_COORDINATOR_ADDRESS": head,
            "MEGASCALE_NUM_SLICES": str(layout.slices),
            "MEGASCALE_SLICE_ID": str(layout.member(rank).slice),
        }
    found = {"JAX_COORDINATOR_ADDRESS": f"{head}:{ports[0]}"}
    cores = next((count for prefix, count in _CORES.items() if facts.product.startswith(prefix)), 0)
    if facts.neuron and cores:
        found |= {
            "NEURON_RT_ROOT_COMM_ID": f"{head}:{ports[1]}",
            "NEURON_PJRT_PROCESSES_NUM_DEVICES": ",".join(
                str(cores * member.accelerators) for member in layout.members
            ),
            "NEURON_PJRT_PROCESS_INDEX": str(rank),
        }
    return found
