"""`torchrun`, `jax`, `mpirun` and `ray`: distributed engines on the nodes of a cluster."""

import argparse
import sys
from typing import Final, Literal

from multicompute.cli.running import command_arguments, command_of, how, results_as_json, results_of
from multicompute.cli.tables import explain, name_argument

_TOGETHER: Final = (
    "When a rank fails, the others are stopped, and the exit status is 1; the message has the rank and its last lines. After\n"
    "Ctrl-C, which ends everything on all nodes, it is 130."
)


def torchrun_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `torchrun`."""
    parser.usage = "multicompute torchrun NAME -- SCRIPT [ARGUMENT]..."
    _common(parser)
    parser.add_argument(
        "--nproc-per-node",
        metavar="N",
        type=_count,
        default="auto",
        help="processes on each node; one for each accelerator by default (auto)",
    )
    parser.add_argument(
        "--max-restarts",
        metavar="N",
        type=int,
        default=0,
        help="how often torchrun starts a failed job again, 0 by default",
    )
    parser.add_argument("--python", metavar="PATH", help="interpreter on the nodes; `torchrun` on the PATH by default")


def torchrun(options: argparse.Namespace) -> int:
    """Run a script under torchrun on all nodes."""
    from multicompute.cluster import Cluster

    script, *args = command_of(options, "torchrun")
    with results_as_json(options) as document:
        results = Cluster.get(options.name).torchrun(
            script,
            *args,
            nproc_per_node=options.nproc_per_node,
            max_restarts=options.max_restarts,
            python=options.python,
            **how(options),
        )
        document["results"] = results_of(results)
    return 0


def jax_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `jax`."""
    parser.usage = "multicompute jax NAME -- SCRIPT [ARGUMENT]..."
    _common(parser)
    parser.add_argument(
        "--python", metavar="PATH", default="python3", help="interpreter on the nodes, python3 by default"
    )
    parser.add_argument("--no-initialize", action="store_true", help="leave jax.distributed.initialize to the script")


def jax(options: argparse.Namespace) -> int:
    """Run a script on all nodes with JAX initialized."""
    from multicompute.cluster import Cluster

    script, *args = command_of(options, "jax")
    with results_as_json(options) as document:
        results = Cluster.get(options.name).jax(
            script, *args, python=options.python, initialize=not options.no_initialize, **how(options)
        )
        document["results"] = results_of(results)
    return 0


def mpirun_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `mpirun`."""
    parser.usage = "multicompute mpirun NAME -- PROGRAM [ARGUMENT]..."
    _common(parser)
    parser.add_argument(
        "--slots",
        metavar="N",
        type=_count,
        default="auto",
        help="processes on each node; one for each accelerator by default, or for each CPU where there is none (auto)",
    )
    parser.add_argument("--mpirun", metavar="PATH", help="path of mpirun on the nodes")
    parser.add_argument(
        "--option",
        dest="options",
        metavar="OPTION",
        action="append",
        default=[],
        help="a word to pass to mpirun itself, such as --option=--map-by --option=numa (may be repeated)",
    )


def mpirun(options: argparse.Namespace) -> int:
    """Run a program under Open MPI on all nodes."""
    from multicompute.cluster import Cluster

    program, *args = command_of(options, "mpirun")
    with results_as_json(options) as document:
        results = Cluster.get(options.name).mpirun(
            program, *args, slots=options.slots, mpirun=options.mpirun, options=options.options, **how(options)
        )
        document["results"] = results_of(results)
    return 0


def ray_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ray`."""
    parser.usage = "multicompute ray NAME -- COMMAND..."
    _common(parser)
    parser.add_argument(
        "--ray", metavar="PATH", default="ray", help="path of ray on the nodes; the one on the PATH by default"
    )
    parser.add_argument("--within", metavar="DURATION", default="2m", help="time for all nodes to join, 2m by default")
    parser.add_argument("--token", action="store_true", help="let Ray (2.52 or newer) ask every request for a token")
    explain(
        parser,
        "Starts Ray on all nodes, submits the command as a job, prints what the job writes, and stops Ray when the job has\n"
        "ended. A single word after -- is a shell line.",
    )


def ray(options: argparse.Namespace) -> int:
    """Run a command as a job of Ray on all nodes."""
    from multicompute.cluster import Cluster
    from multicompute.engine.operation.cancellation import StopGuard

    command = command_of(options, "ray")
    given = how(options)
    guard = StopGuard()
    guard.install()
    try:
        with (
            results_as_json(options) as document,
            Cluster.get(options.name).ray(
                ray=options.ray, within=options.within, has_token=options.token, env=given["env"], cwd=given["cwd"]
            ) as running,
        ):
            job = running.submit(command[0] if len(command) == 1 else command)
            logs = job.wait(timeout=given["timeout"], on_output=None if options.json else _print)
            document |= {"job": job.id, "logs": logs}
            del document["results"]
    finally:
        guard.uninstall()
    return 0


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _common(parser: argparse.ArgumentParser) -> None:
    name_argument(parser)
    command_arguments(parser)
    parser.set_defaults(command=())
    explain(parser, _TOGETHER)


def _count(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor auto")
    return int(text)
