"""Starts Open MPI's mpirun on the head, and its daemons on the other nodes over the client's own connections.

mpirun would reach the other nodes by ssh, for which the head needs a key, the nodes' host keys and a way to them. It
leaves that to an agent, though (`plm_rsh_agent`, in Open MPI 5 `plm_ssh_agent`). Ours hands each command to the client,
which runs it on the node in question. So no key leaves the client, and a daemon is watched over like any other command.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from multicompute.errors import RunError, SpecError
from multicompute.remote.command import Task
from multicompute.remote.launchers.job import Job, check_accelerators
from multicompute.remote.launchers.layout import hostfile, network_of, slots_of
from multicompute.remote.output import Stream
from multicompute.remote.results import RunResult, error_of

_READY: Final = "multicompute-ready"
# Each agent leaves its command in a file and its name in the pipe, as a write of a short line to a pipe is not mixed up
# with others. It then ends at once with success, as ssh does for a daemon that goes to the background.
_RELAY: Final = f"""
cd "$MULTICOMPUTE_SCRATCH" || exit
mkfifo requests || exit
cat >agent <<'END' || exit
cd "${{0%/*}}" || exit
host=$1
shift
request=$(mktemp request.XXXXXX) || exit
printf '%s %s' "$host" "$(printf '%s' "$*" | base64 | tr -d '\\n')" >"$request"
echo "$request" >requests
END
printf '%s' "$2" >hosts || exit
echo "{_READY} $MULTICOMPUTE_SCRATCH $("$1" --version 2>/dev/null | head -n 1)"
while IFS= read -r request <&3; do
    echo "$(cat "$request")"
    rm -f "$request"
done 3<>requests
"""
_FAILED: Final = re.compile(r"Process name: \[(?:\[\d+,\d+\]|[^\]]*@\d+),(\d+)\]|noticed that process rank (\d+) ")
_STDERR: Final = re.compile(r"^\[[^\]]*,(\d+)\]<stderr>:", re.MULTILINE)
_QUOTED_LINES: Final = 20
_EXIT_CODE: Final = re.compile(r"Exit code:\s+(\d+)")


@dataclass(frozen=True, slots=True)
class Mpirun:
    """The options for starting mpirun.

    Attributes:
        slots: Processes on each node; "auto" for one for each accelerator, on nodes without any one for each CPU.
        mpirun: The path of mpirun on the nodes; by default the one on the PATH, or where the vendors' images have it.
        options: Further options of mpirun, such as ["--map-by", "numa"].
        tags: Whether mpirun marks each line with the process that wrote it.
    """

    slots: int | Literal["auto"] = "auto"
    mpirun: str | None = None
    options: tuple[str, ...] = ()
    tags: bool = True


def mpirun(job: Job, program: str, args: Sequence[str] = (), *, options: Mpirun | None = None) -> list[RunResult]:
    """Run a program under mpirun on all nodes.

    Args:
        job: The nodes.
        program: The program on the nodes; relative to the job's folder.
        args: Its arguments.
        options: How mpirun is started.

    Returns:
        The result of mpirun itself, which has the output of all processes, as that of rank 0.

    Raises:
        RunError: A process failed, or a node was lost; all others were stopped. Its `rank` is that of the node.
    """
    options = options or Mpirun()
    if not program:
        raise SpecError("program='': name the program to run")
    check_accelerators(job)
    slots = _slots(job, options)
    relay = _Relay(job, program, args, options, slots)
    try:
        return job.execute([relay.task()], listen=relay.listen)
    except RunError as error:
        raise attributed(error, job, slots, options) from error


class _Relay:
    """Starts mpirun when its agent is in place, and runs on each node what the agent asks for."""

    def __init__(self, job: Job, program: str, args: Sequence[str], options: Mpirun, slots: Sequence[int]) -> None:
        self._job = job
        self._program = [program, *args]
        self._options = options
        self._slots = slots
        self._ranks = {member.address: member.rank for member in job.layout.members}
        self._pending = b""
        self._mpirun = options.mpirun or (job.facts[0].mpirun if 0 in job.facts else "") or "mpirun"

    def task(self) -> Task:
        """Return the service on the head that prepares the agent and passes on what it asks for."""
        hosts = hostfile(self._job.layout, slots=self._slots)
        arguments = ["sh", "-c", _RELAY, "relay", self._mpirun, hosts]
        return Task(0, arguments, env=self._job.environment(0), scratch=self._job.scratch(), is_service=True)

    def listen(self, task: Task, stream: Stream, data: bytes) -> list[Task]:
        """Return the commands that the relay's output asks for; what the daemons write themselves is theirs."""
        if stream != "stdout" or not task.scratch:
            return []
        *lines, self._pending = (self._pending + data).split(b"\n")
        asked = (self._asked(line.decode("utf-8", "replace")) for line in lines)
        return [further for further in asked if further is not None]

    def _asked(self, line: str) -> Task | None:
        word, _, rest = line.partition(" ")
        if word == _READY:
            folder, _, version = rest.partition(" ")
            command = mpirun_command(
                self._mpirun,
                self._program,
                folder=folder,
                slots=self._slots,
                options=self._options,
                is_version_5=" 4." not in version,
                names=[*self._job.env],
            )
            env = {**_settings(self._job, folder), **self._job.environment(0)}
            return Task(0, command, env=env, cwd=self._job.cwd)
        if word not in self._ranks:
            return None
        rank = self._ranks[word]
        try:
            command_line = base64.b64decode(rest, validate=True).decode("utf-8", "surrogateescape")
        except (binascii.Error, ValueError):
            return None
        return Task(rank, command_line, env=self._job.environment(rank), cwd=self._job.cwd, is_service=True)


def mpirun_command(
    mpirun: str,
    program: Sequence[str],
    *,
    folder: str,
    slots: Sequence[int],
    options: Mpirun,
    is_version_5: bool,
    names: Sequence[str],
) -> list[str]:
    """Return the command that starts Open MPI on the head.

    Args:
        mpirun: The path of mpirun.
        program: The program and its arguments.
        folder: The folder with the host file.
        slots: Processes on each node.
        options: How mpirun is started.
        is_version_5: Whether it is Open MPI 5 or newer.
        names: The user's variables, to be passed on to all processes.
    """
    tags = ["--output", "tag"] if is_version_5 else ["--tag-output"]
    return [
        mpirun,
        *("--hostfile", f"{folder}/hosts", "-np", str(sum(slots))),
        *(tags if options.tags else []),
        *(word for name in names for word in ("-x", name)),
        *options.options,
        *program,
    ]


def _settings(job: Job, folder: str) -> dict[str, str]:
    """Return the variables that make mpirun use the agent; each version reads its own."""
    settings = {
        "OMPI_MCA_plm": "rsh",
        # Every daemon looks its first word up, although only the head starts it.
        "OMPI_MCA_plm_rsh_agent": f"sh {folder}/agent",
        # The agent is on the head only. Starting in a tree has also hung above 64 hosts (open-mpi/ompi#4578, #7087).
        "OMPI_MCA_plm_rsh_no_tree_spawn": "1",
        # A daemon that goes to the background would count as ended.
        "OMPI_MCA_orte_leave_session_attached": "1",
        "PRTE_MCA_plm": "ssh",
        "PRTE_MCA_plm_ssh_agent": f"sh {folder}/agent",
        "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
        "PRTE_MCA_prte_leave_session_attached": "1",
        # Of use to root only, whom mpirun refuses otherwise. The flag is not passed on to the other nodes
        # (openpmix/prrte#1309).
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_ALLOW_RUN_AS_ROOT": "1",
        "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    network = network_of(job.layout)
    if network:
        # Docker's bridge has the same address on every node, and MPI would try it.
        names = ("OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include", "PRTE_MCA_prte_if_include")
        settings |= dict.fromkeys(names, network)
    return settings


def _slots(job: Job, options: Mpirun) -> list[int]:
    if options.slots != "auto":
        return slots_of(job.layout, options.slots)
    return [
        member.accelerators or (job.facts[member.rank].cpus if member.rank in job.facts else 1)
        for member in job.layout.members
    ]


def attributed(error: RunError, job: Job, slots: Sequence[int], options: Mpirun) -> RunError:
    """Return the error for the node whose process failed, instead of the one for mpirun on the head.

    Args:
        error: The error of mpirun, with its output.
        job: The nodes.
        slots: Processes on each node.
        options: How mpirun was started.
    """
    culprit = next((result for result in error.results if result.rank == error.rank), None)
    if culprit is None or error.rank != 0 or culprit.outcome != "exited":
        return error
    text = f"{culprit.stdout}\n{culprit.stderr}"
    process = _failed_process(text)
    # With a mapping of the user's own nothing is known about which process is where.
    if process is None or any(option.startswith(("--map-by", "--rank-by", "-N", "--rf")) for option in options.options):
        return error
    rank = next((rank for rank in range(len(slots)) if process < sum(slots[: rank + 1])), None)
    if rank is None:
        return error
    lines = _lines_of(process, culprit.stderr) or _lines_of(process, culprit.stdout)
    status = _EXIT_CODE.search(text)
    code = status[1] if status else "" if _FAILED.search(text) else str(culprit.returncode)
    failed = f"MPI process {process} failed" + (f" with status {code}" if code else "")
    blamed = replace(culprit, rank=rank, error=failed, stderr="\n".join(lines) or culprit.stderr)
    attributed = error_of(blamed, [], name=job.nodes.name(rank))
    attributed.results = error.results
    return attributed


def _failed_process(text: str) -> int | None:
    """Return the process that mpirun names as the one that failed, None if that is not known.

    mpirun 5 sometimes ends before its notice is written. Its status is that of the first process that failed, which is then known if
    only one process has written to stderr.
    """
    if found := _FAILED.search(text):
        return int(found[1] or found[2])
    wrote = {int(process) for process in _STDERR.findall(text)}
    return wrote.pop() if len(wrote) == 1 else None


def _lines_of(process: int, text: str) -> list[str]:
    """Return the last lines that mpirun marked as those of a process."""
    tag = re.compile(rf"^\[[^\]]*,{process}\]<[a-z]+>:\s?(.*\S.*)$", re.MULTILINE)
    return tag.findall(text)[-_QUOTED_LINES:]
