"""A local cloud, a ledger, and commands in processes that are killed on demand."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from multicompute.provider import TAG_EXPIRES_AT, TAG_ID
from multicompute.testing import Call
from multicompute_aws.local import AwsLocalCloud
from multicompute_azure.local import AzureLocalCloud
from multicompute_gcp.local import GcpLocalCloud
from tests.resilience.crash.shared_clock import SharedClock

NAME = "crash"
NODE_KINDS = ("instance", "tpu-host", "virtualMachines")
"""The kinds of resources that are nodes: only these have an expiry of their own."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A cloud and what is requested from it.

    Attributes:
        cloud: the local cloud.
        request: the arguments of `up`.
        nodes: how many nodes that is.
        launching: the cloud call that creates nodes.
    """

    cloud: type[AwsLocalCloud | AzureLocalCloud | GcpLocalCloud]
    request: tuple[str, ...]
    nodes: int
    launching: str


WINDOW = timedelta(seconds=5)
"""The longest time for which the local cloud hides new resources from listings."""
H100 = ("--gpus", "16", "--type", "h100")
KINDS = {
    "aws": Kind(AwsLocalCloud, (*H100, "--cloud", "aws"), 2, "RunInstances"),
    "gcp": Kind(GcpLocalCloud, (*H100, "--cloud", "gcp"), 2, "instances.bulkInsert"),
    "tpu": Kind(GcpLocalCloud, ("--type", "v5litepod-16", "--cloud", "gcp"), 4, "tpu.queuedResources.create"),
    "azure": Kind(AzureLocalCloud, (*H100, "--cloud", "azure"), 2, "virtualMachineScaleSets.createOrUpdate"),
}


@dataclass(frozen=True, slots=True)
class Kill:
    """The moment at which a process is killed.

    Attributes:
        moment: "before": a call reached the cloud and is not processed; "after": it was processed and not answered;
            "answered": the process has an answer and has not written to the ledger since; "committed": it has just written
            to the ledger.
        number: which of those moments, from 1.
        operation: the calls that count for "before" and "after".
    """

    moment: str
    number: int
    operation: str = "*"


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a process: its exit status, negative for a signal, and its output."""

    status: int
    stdout: str
    stderr: str

    @property
    def is_killed(self) -> bool:
        return self.status == -signal.SIGKILL


class CrashSite:
    """A local cloud that is used for one crash after the other, with a new ledger for each.

    Attributes:
        is_dirty: whether a test failed, and may have left something in the cloud.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.kind = KINDS[name]
        self.folder = folder
        self.is_dirty = True
        self.clock = SharedClock(folder / "clock")
        self.cloud = self.kind.cloud(clock=self.clock)
        self.cloud.start()
        self.cloud.seed_foreign()
        (folder / "config.toml").touch()
        self._crashes = 0
        script = [sys.executable, "-m", "tests.resilience.crash.fork_server", str(self.clock.path)]
        self._fork_server = subprocess.Popen(
            script, cwd=Path(__file__).parents[3], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.begin()
        for arguments in (self.up, self.down):
            self._send(arguments, is_warm_up=True)
            if self._status() != 0:
                raise RuntimeError(f"{name}: {arguments[0]} fails without a kill")
        self.is_dirty = False

    def close(self) -> None:
        """Stop the cloud and the fork server."""
        self.cloud.stop()
        self._fork_server.communicate(timeout=30)

    @property
    def up(self) -> tuple[str, ...]:
        return ("up", *self.kind.request, "--name", NAME, "--ttl", "2h", "--yes", "--json")

    @property
    def down(self) -> tuple[str, ...]:
        return ("down", NAME, "--yes")

    def begin(self) -> None:
        """Begin with a new ledger, on a cloud that has only foreign resources."""
        self._crashes += 1
        (self.folder / str(self._crashes)).mkdir()
        # Nodes that have ended are listed for an hour.
        self.clock.sleep(timedelta(hours=1, minutes=1))
        self.list_soon()

    def list_soon(self) -> None:
        """Let the cloud list new resources soon, but not at once."""
        self._delay(lag=0.06)

    def _delay(self, *, lag: float) -> None:
        # Short enough for two or three polls: each further poll adds two moments to kill at, which show the same.
        delays = {"boot": 0.06, "shutdown": 0.06} | ({} if self.cloud.name == "aws" else {"operation": 0.02})
        self.cloud.set_delays(lag=lag, **delays)

    def run(self, arguments: Sequence[str], *, kill: Kill | None = None) -> Ended:
        """Run a command in a new process until it exits or is killed."""
        child: Future[int] = Future()
        is_dead = threading.Event()
        if kill is not None and kill.moment in ("before", "after"):
            self.cloud.faults.hook(kill.operation, _Killer(self, kill, child, is_dead))
        busy = _connections()
        self._send(arguments, kill=kill)
        child.set_result(self._receive()["child"])
        status = self._status()
        is_dead.set()
        # The cloud may still process the call at which its client was killed.
        deadline = time.monotonic() + 10
        while _connections() > busy and time.monotonic() < deadline:
            time.sleep(0.001)
        self.cloud.faults.clear()
        return Ended(status, self._output("stdout"), self._output("stderr"))

    def run_ok(self, arguments: Sequence[str]) -> str:
        """Run a command that must succeed, and return its output."""
        ended = self.run(arguments)
        assert ended.status == 0, f"{' '.join(arguments)}: {ended.stderr}"
        return ended.stdout

    def list_late(self) -> None:
        """Let the cloud hide new resources for nearly as long as it may."""
        self._delay(lag=0.8 * WINDOW.total_seconds())

    # The state of ledger and cloud

    def clusters(self) -> list[dict[str, Any]]:
        """Return the live clusters of the ledger."""
        found: list[dict[str, Any]] = json.loads(self.run_ok(("ls", "--json")))
        return found

    def nodes(self) -> list[str]:
        """Return the ids of the nodes that the cloud runs."""
        return sorted(self.cloud.running_ids())

    def cluster_ids(self) -> set[str]:
        """Return the ids of the clusters that have resources in the cloud."""
        return {item.tags.get(TAG_ID, f"no cluster: {item}") for item in self.cloud.alive()}

    def expiries(self) -> set[int]:
        """Return the expiries in the tags of the nodes, in epoch seconds."""
        nodes = [item for item in self.cloud.alive() if item.kind in NODE_KINDS]
        return {int(item.tags[TAG_EXPIRES_AT]) for item in nodes}

    # The fork server

    def _send(self, arguments: Sequence[str], *, kill: Kill | None = None, is_warm_up: bool = False) -> None:
        is_self_kill = kill is not None and kill.moment in ("answered", "committed")
        folder = self.folder / str(self._crashes)
        environment = {
            **self.cloud.environment,
            # A cloud that the configuration names must be asked.
            **({"MULTICOMPUTE_AWS__REGIONS": "us-east-1"} if self.cloud.name == "aws" else {}),
            "MULTICOMPUTE_CONFIG": os.devnull,
            "MULTICOMPUTE_STATE": f"sqlite:///{folder / 'state.db'}",
        }
        command = {
            "arguments": list(arguments),
            "environment": environment,
            "folder": str(folder),
            "is_warm_up": is_warm_up,
            "kill_at": {"moment": kill.moment, "number": kill.number} if kill is not None and is_self_kill else None,
        }
        assert self._fork_server.stdin is not None
        self._fork_server.stdin.write(json.dumps(command).encode() + b"\n")
        self._fork_server.stdin.flush()

    def _receive(self) -> dict[str, int]:
        assert self._fork_server.stdout is not None
        found: dict[str, int] = json.loads(self._fork_server.stdout.readline())
        return found

    def _status(self) -> int:
        return self._receive()["status"]

    def _output(self, stream: str) -> str:
        return (self.folder / str(self._crashes) / stream).read_text()


class _Killer:
    """A hook of a local cloud that kills the calling process."""

    def __init__(self, site: CrashSite, kill: Kill, child: Future[int], is_dead: threading.Event) -> None:
        self._site = site
        self._kill = kill
        self._child = child
        self._is_dead = is_dead
        self._left = kill.number

    def __call__(self, call: Call) -> None:
        self._left -= 1
        if self._left != 0:
            return
        # So that one listing is not enough to find what this call creates.
        self._site.list_late()
        if self._kill.moment == "before":
            self._site.cloud.faults.drop(call.operation)
        os.kill(self._child.result(timeout=10), signal.SIGKILL)
        self._is_dead.wait(timeout=10)


def _connections() -> int:
    """Return how many connections the local clouds of this process serve."""
    return sum(thread.name == "local-cloud" for thread in threading.enumerate())
