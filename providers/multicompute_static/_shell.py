"""Runs the provider's script on machines over SSH, and reads its answers."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Final, Literal

from multicompute import accelerators
from multicompute.clock import Random
from multicompute.hosts import HostBook, HostLease, HostNote
from multicompute.provider import TAG_CLUSTER, TAG_EXPIRES_AT
from multicompute.remote.command import Task
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.results import RunResult
from multicompute.remote.target import Target
from multicompute_static._access import ssh_host
from multicompute_static._inventory import Host
from multicompute_static._settings import StaticSettings

Action = Literal["look", "check", "health", "take", "extend", "end"]

_DEADLINE: Final = timedelta(seconds=45)
"""The time limit of an action: nvidia-smi is known to hang on a broken GPU."""
_GRACE_SECONDS: Final = 3
_KINDS: Final[Mapping[str, str]] = {"nvidia": "nvidia", "amd": "amd", "aws": "neuron", "google": "tpu"}
"""The maker of an accelerator -> what the script counts. Others are not counted."""
_SAFE_TOKEN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Marker:
    """The marker of a lease on a machine: its token and all its tags."""

    token: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a machine.

    Attributes:
        host: The machine.
        is_known: Whether the script ran to its end. Without, it is not known what it did.
        is_refused: Whether the machine did not accept the login.
        trouble: What is wrong; "" for nothing.
        marker: The marker of the lease that it carries.
        ended: The token of the last lease that it ended by itself, because its time was over.
        is_busy: Whether another lease than the named one is there.
        left: The processes that could not be ended.
        address: The machine's own address.
    """

    host: Host
    is_known: bool = False
    is_refused: bool = False
    trouble: str = ""
    marker: Marker | None = None
    ended: str = ""
    is_busy: bool = False
    left: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """The work for one machine.

    Attributes:
        host: The machine.
        lease: The lease that it is about.
        setup: The user's script to start there.
    """

    host: Host
    lease: HostLease | None = None
    setup: str = field(default="", repr=False)


class Shell:
    """Connections to machines for the length of a `with` block."""

    def __init__(self, nodes: RemoteNodes, ranks: Mapping[str, int]) -> None:
        self._nodes = nodes
        self._ranks = ranks

    def ask(self, action: Action, jobs: Sequence[Job]) -> list[Answer]:
        """Do the same on several machines at once, and return their answers in the order of `jobs`."""
        tasks = [_task(action, job, self._ranks[job.host.id]) for job in jobs]
        results = self._nodes.execute(tasks, timeout=_DEADLINE, check=False, stop_when="never")
        by_rank = {result.rank: result for result in results}
        return [read_answer(job.host, by_rank[self._ranks[job.host.id]]) for job in jobs]


@contextmanager
def connected(settings: StaticSettings, hosts: Iterable[Host], *, book: HostBook, random: Random) -> Iterator[Shell]:
    """Open connections to machines when they are first used, and pin the keys of those that show theirs for the first time."""
    notes = book.notes()
    chosen = list(dict.fromkeys(hosts))
    pinned = {host.id: note.host_key if (note := notes.get(host.id)) else "" for host in chosen}
    targets = [
        Target(rank, ssh_host(settings, host, pinned=pinned[host.id]), name=host.id) for rank, host in enumerate(chosen)
    ]
    with RemoteNodes(targets, random=random) as nodes:
        try:
            yield Shell(nodes, {host.id: rank for rank, host in enumerate(chosen)})
        finally:
            for rank, key in nodes.host_keys.items():
                host = chosen[rank]
                if not host.host_key and not pinned[host.id]:
                    book.write(replace(book.notes().get(host.id) or HostNote(host.id), host_key=key))


def is_safe_token(token: str) -> bool:
    """Return whether a token can be part of the name of a file."""
    return _SAFE_TOKEN.fullmatch(token) is not None


@cache
def _script() -> str:
    return files("multicompute_static").joinpath("scripts", "host.sh").read_text(encoding="utf-8")


def _task(action: Action, job: Job, rank: int) -> Task:
    model = accelerators.get(job.host.accelerator)
    lease = job.lease
    tags = lease.tags if lease else {}
    env = {
        "mc_action": action,
        "mc_kind": _KINDS.get(model.vendor, "") if model else "",
        "mc_grace": str(_GRACE_SECONDS),
        "mc_script": _script(),
        "mc_token": lease.token if lease else "",
        "mc_name": tags.get(TAG_CLUSTER, ""),
        "mc_expires": tags.get(TAG_EXPIRES_AT, "never"),
        "mc_tags": json.dumps(dict(tags)),
    }
    # Not as a list: on a command line, everybody on the machine could read it.
    return Task(rank, 'eval "$mc_script"', env=env, input=job.setup.encode() if action == "take" else None)


def read_answer(host: Host, result: RunResult) -> Answer:
    """Return what the script reported, or why it did not."""
    if result.outcome != "exited":
        # The text is the engine's own.
        return Answer(host, trouble=result.error, is_refused="refused the login" in result.error)
    facts: dict[str, list[str]] = {}
    for line in result.stdout.splitlines():
        word, _, value = line.partition(" ")
        facts.setdefault(word, []).append(value)
    first = {word: values[0] for word, values in facts.items()}
    if "done" not in first:
        last = (result.last_lines(1) or [f"exit status {result.returncode}"])[0]
        return Answer(host, trouble=f"the script of multicompute failed there: {last[:120]}")
    return Answer(
        host,
        is_known=True,
        trouble=first.get("trouble") or _trouble(host, first, facts.get("work", [])),
        marker=_marker(first),
        ended=first.get("ended", "").partition(" ")[0] if first.get("ended", "").endswith(" expired") else "",
        is_busy="busy" in first,
        left=first.get("left", "").strip(),
        address=first.get("address", ""),
    )


def _marker(facts: Mapping[str, str]) -> Marker | None:
    if not facts.get("lease"):
        return None
    try:
        tags = {str(key): str(value) for key, value in dict(json.loads(facts.get("tags", "{}"))).items()}
    except ValueError:
        # Somebody has changed the file. The token remains.
        tags = {}
    if tags:
        tags[TAG_EXPIRES_AT] = facts.get("expires") or "never"
    return Marker(facts["lease"], tags)


def _trouble(host: Host, facts: Mapping[str, str], work: Sequence[str]) -> str:
    if work:
        shown = ", ".join(f"{name} (process {pid})" for pid, _, name in (each.partition(" ") for each in work[:3]))
        return f"processes of a cluster that has not leased it run there: {shown}"
    found = facts.get("accelerators")
    if found is not None and int(found) != host.accelerators:
        return f"has {found} accelerators, the inventory says {host.accelerators}"
    models = accelerators.find(facts.get("model", ""))
    if models and host.accelerator not in {model.name for model in models}:
        return f"has {facts['model']}, the inventory says {host.accelerator}"
    return ""
