"""`run`, `put`, `get` and `ssh`: commands and files on the nodes of a cluster."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multicompute.cli.output import write_json, write_message
from multicompute.cli.tables import explain, json_argument, name_argument
from multicompute.errors import RunError, SpecError
from multicompute.units import counted, parse_duration

if TYPE_CHECKING:
    from multicompute.remote.results import RunResult, TransferResult

_KIB = 1024


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`."""
    parser.usage = "multicompute run NAME -- COMMAND..."
    name_argument(parser)
    ranks_argument(parser)
    command_arguments(parser)
    parser.add_argument("--no-check", action="store_true", help="exit with 0 also if a rank fails or can't be reached")
    parser.add_argument(
        "--input", metavar="FILE", help='what the command reads from stdin on every node; "-" for this stdin'
    )
    parser.set_defaults(command=())
    explain(
        parser,
        "The words after -- arrive unchanged, as the arguments of a program. A single word is a shell line:\n"
        "  multicompute run NAME -- 'cd data && ls | wc -l'\n"
        "\n"
        "Every line of output has its rank in front. The exit status is 1 if a rank failed or its node was lost, and 130 after\n"
        "Ctrl-C, which ends the command on all nodes.",
    )


def run(options: argparse.Namespace) -> int:
    """Run a command on the nodes of a cluster."""
    from multicompute.cluster import Cluster

    command = command_of(options, "run")
    cluster = Cluster.get(options.name)
    with results_as_json(options) as document:
        results = cluster.run(
            command[0] if len(command) == 1 else command,
            ranks=options.ranks,
            check=not options.no_check,
            input=_input(options.input),
            **how(options),
        )
        document["results"] = results_of(results)
    for result in results:
        if not result.is_ok:
            reason = result.error or f"exit status {result.returncode}"
            write_message(f"rank {result.rank}: {reason}")
    return 0


def put_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `put`."""
    name_argument(parser)
    parser.add_argument("source", metavar="SRC", help="file or folder here")
    parser.add_argument(
        "target",
        metavar="DST",
        help="its name on the nodes, relative to the home folder; with / at the end, the folder for it",
    )
    ranks_argument(parser)
    json_argument(parser)


def put(options: argparse.Namespace) -> int:
    """Copy a file or folder to the nodes of a cluster."""
    from multicompute.cluster import Cluster

    copied = Cluster.get(options.name).put(options.source, options.target, ranks=options.ranks)
    return _show_copied(options, copied, "to")


def get_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `get`."""
    name_argument(parser)
    parser.add_argument("source", metavar="SRC", help="file or folder on the nodes, relative to the home folder")
    parser.add_argument("target", metavar="DST", help="folder here, which gets a folder for each rank")
    ranks_argument(parser)
    json_argument(parser)


def get(options: argparse.Namespace) -> int:
    """Copy a file or folder from the nodes of a cluster, into one folder for each rank."""
    from multicompute.cluster import Cluster

    copied = Cluster.get(options.name).get(options.source, options.target, ranks=options.ranks)
    return _show_copied(options, copied, "from")


def ssh_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ssh`."""
    parser.usage = "multicompute ssh NAME [RANK] [-- COMMAND...]"
    name_argument(parser)
    parser.add_argument("rank", metavar="RANK", nargs="?", type=int, default=0, help="rank of the node, 0 by default")
    parser.set_defaults(command=())
    explain(
        parser,
        "Replaces itself by the ssh command of this machine, which opens a shell on the node or runs the command after --.\n"
        "The host key of the node is checked; your own known_hosts file is neither read nor written.",
    )


def ssh(options: argparse.Namespace) -> int:
    """Open a shell on a node."""
    from multicompute.engine.running.shell import shell_command
    from multicompute.session import open_session

    session = open_session()
    words = shell_command(session, session.ledger.find(options.name).id, options.rank, remote=options.command)
    sys.stdout.flush()
    try:
        # The words come from the ledger and the configuration, and no shell interprets them.
        os.execvp(words[0], words)  # nosec B606
    except FileNotFoundError:
        raise SpecError("ssh: no such command on this machine", hint="install the OpenSSH client") from None


def ranks_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--rank`."""
    parser.add_argument(
        "--rank",
        dest="ranks",
        metavar="R",
        action="append",
        type=int,
        help="only on this node (may be repeated); on all nodes by default",
    )


def command_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all commands on nodes have."""
    parser.add_argument(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        type=_variable,
        default=[],
        help="set a variable (may be repeated)",
    )
    parser.add_argument("--cwd", metavar="DIR", help="folder to run in, relative to the home folder")
    parser.add_argument("--timeout", metavar="DURATION", help='end it after this time, such as "10m"')
    json_argument(parser)


def how(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `command_arguments` in the form of the methods of `Cluster`."""
    timeout = None if options.timeout is None else parse_duration(options.timeout, what="--timeout")
    return {"env": dict(options.env), "cwd": options.cwd, "timeout": timeout, "stream": False if options.json else None}


def command_of(options: argparse.Namespace, name: str) -> list[str]:
    """Return the words after "--".

    Raises:
        SpecError: There are none.
    """
    if not options.command:
        raise SpecError(f"{name}: no command given", hint="write it after --")
    return list(options.command)


@contextmanager
def results_as_json(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Write one JSON document with the results of the block, also those of a `RunError`, if `--json` was given.

    Yields:
        The document, which the block completes.
    """
    document: dict[str, object] = {"results": [], "error": None}
    try:
        yield document
    except RunError as error:
        if options.json:
            failed = {"rank": error.rank, "message": error.message}
            write_json({**document, "results": results_of(error.results), "error": failed})
        raise
    if options.json:
        write_json(document)


def results_of(results: "Sequence[RunResult]") -> list[dict[str, object]]:
    """Return results as JSON."""
    return [_result(result) for result in results]


def _result(result: "RunResult") -> dict[str, object]:
    return {
        "rank": result.rank,
        "returncode": result.returncode,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "seconds": round(result.seconds, 3),
        "outcome": result.outcome,
        "error": result.error,
    }


def _show_copied(options: argparse.Namespace, copied: "Sequence[TransferResult]", word: str) -> int:
    if options.json:
        keys = ("rank", "entries", "size", "seconds", "left_out")
        write_json({"results": [{key: getattr(each, key) for key in keys} for each in copied]})
        return 0
    for each in copied:
        for reason in each.left_out:
            write_message(f"rank {each.rank}: left out: {reason}")
    size = sum(each.size for each in copied)
    entries = sum(each.entries for each in copied)
    print(f"{counted(entries, 'item')} ({_amount(size)}) {word} {counted(len(copied), 'node')}")
    return 0


def _amount(size: int) -> str:
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < _KIB:
            return f"{amount:.0f} {unit}"
        amount /= _KIB
    return f"{amount:.1f} GiB"


def _variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not a variable; write --env NAME=VALUE")
    return name, value


def _input(file: str | None) -> bytes | None:
    if file is None:
        return None
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        raise SpecError(f"--input {file}: can't be read: {error.strerror}") from error
