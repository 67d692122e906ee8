"""A local cloud, a ledger and processes that die on demand: one request after another, each in a process of its own."""

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
MACHINES = ("instance", "tpu-host", "virtualMachines")
"""What the clouds call machines; only these end by their tags, what is beside them goes with them."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is requested of which cloud.

    Attributes:
        launching: the call that makes machines.
    """

    cloud: type[AwsLocalCloud | AzureLocalCloud | GcpLocalCloud]
    wanted: tuple[str, ...]
    nodes: int
    launching: str


WINDOW = timedelta(seconds=5)
"""How long a local cloud may hide what it has made."""
H100 = ("--gpus", "16", "--type", "h100")
KINDS = {
    "aws": Kind(AwsLocalCloud, (*H100, "--cloud", "aws"), 2, "RunInstances"),
    "gcp": Kind(GcpLocalCloud, (*H100, "--cloud", "gcp"), 2, "instances.bulkInsert"),
    "tpu": Kind(GcpLocalCloud, ("--type", "v5litepod-16", "--cloud", "gcp"), 4, "tpu.queuedResources.create"),
    "azure": Kind(AzureLocalCloud, (*H100, "--cloud", "azure"), 2, "virtualMachineScaleSets.createOrUpdate"),
}


@dataclass(frozen=True, slots=True)
class Kill:
    """When a process is killed.

    Attributes:
        moment: "before": a call reaches the cloud, and is not worked on; "after": it is worked on, and not answered; "answered":
            the process has an answer, and has written nothing since; "committed": it has just written to the ledger.
        number: at which of those, from 1.
        operation: of which calls, where it is about calls.
    """

    moment: str
    number: int
    operation: str = "*"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its status, negative for a signal, and what it wrote."""

    status: int
    stdout: str
    stderr: str

    @property
    def is_killed(self) -> bool:
        return self.status == -signal.SIGKILL


class CrashSite:
    """One local cloud that goes on from point to point, with a ledger of its own for each point.

    Attributes:
        is_spoilt: whether a point failed, and may have left something behind.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.kind = KINDS[name]
        self.folder = folder
        self.is_spoilt = True
        self.clock = SharedClock(folder / "clock")
        self.cloud = self.kind.cloud(clock=self.clock)
        self.cloud.start()
        self.cloud.seed_foreign()
        (folder / "config.toml").touch()
        self._points = 0
        script = [sys.executable, "-m", "tests.resilience.crash.fork_server", str(self.clock.path)]
        self._fork_server = subprocess.Popen(
            script, cwd=Path(__file__).parents[3], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.begin()
        for arguments in (self.up, self.down):
            if self._tell(arguments, is_warm_up=True) and self._status() != 0:
                raise RuntimeError(f"{name}: a request does not even work when nobody is killed")
        self.is_spoilt = False

    def close(self) -> None:
        """Stop the cloud, and let the fork server end."""
        self.cloud.stop()
        self._fork_server.communicate(timeout=30)

    @property
    def up(self) -> tuple[str, ...]:
        return ("up", *self.kind.wanted, "--name", NAME, "--ttl", "2h", "--json")

    @property
    def down(self) -> tuple[str, ...]:
        return ("down", NAME, "--yes")

    def begin(self) -> None:
        """Begin a point: with a new ledger, on a cloud that holds nothing but what belongs to others."""
        self._points += 1
        (self.folder / str(self._points)).mkdir()
        # Machines that have ended are shown for an hour.
        self.clock.sleep(timedelta(hours=1, minutes=1))
        self.show_all()

    def show_all(self) -> None:
        """From now on the cloud shows soon, but not at once, what it has made."""
        self._delay(lag=0.06)

    def _delay(self, *, lag: float) -> None:
        # Two or three looks of a process that waits: every one more is two more points, which prove the same.
        delays = {"boot": 0.06, "shutdown": 0.06} | ({} if self.cloud.name == "aws" else {"operation": 0.02})
        self.cloud.set_delays(lag=lag, **delays)

    def run(self, arguments: Sequence[str], *, kill: Kill | None = None) -> Ended:
        """Run a command in a new process, until its end or its death."""
        child: Future[int] = Future()
        is_dead = threading.Event()
        if kill is not None and kill.moment in ("before", "after"):
            self.cloud.faults.hook(kill.operation, _Killer(self, kill, child, is_dead))
        busy = _connections()
        self._tell(arguments, kill=kill)
        child.set_result(self._answer()["child"])
        status = self._status()
        is_dead.set()
        # The cloud may still be at the work of the call at which its client died.
        deadline = time.monotonic() + 10
        while _connections() > busy and time.monotonic() < deadline:
            time.sleep(0.001)
        self.cloud.faults.clear()
        return Ended(status, self._written("stdout"), self._written("stderr"))

    def done(self, arguments: Sequence[str]) -> str:
        """Run a command that has to succeed; returns what it wrote."""
        ended = self.run(arguments)
        assert ended.status == 0, f"{' '.join(arguments)}: {ended.stderr}"
        return ended.stdout

    def hide(self) -> None:
        """From now on the cloud hides what it makes for nearly as long as it ever may."""
        self._delay(lag=0.8 * WINDOW.total_seconds())

    # What there is

    def clusters(self) -> list[dict[str, Any]]:
        """The clusters that live by the ledger."""
        found: list[dict[str, Any]] = json.loads(self.done(("ls", "--json")))
        return found

    def machines(self) -> list[str]:
        """The machines that the cloud runs."""
        return sorted(self.cloud.running_ids())

    def owners(self) -> set[str]:
        """The ids of the clusters of which the cloud has anything."""
        return {item.tags.get(TAG_ID, f"nobody: {item}") for item in self.cloud.alive()}

    def ends(self) -> set[int]:
        """The ends of life that the tags of the machines tell, in epoch seconds."""
        machines = [item for item in self.cloud.alive() if item.kind in MACHINES]
        return {int(item.tags[TAG_EXPIRES_AT]) for item in machines}

    # The fork server

    def _tell(self, arguments: Sequence[str], *, kill: Kill | None = None, is_warm_up: bool = False) -> bool:
        is_suicide = kill is not None and kill.moment in ("answered", "committed")
        folder = self.folder / str(self._points)
        environment = {
            **self.cloud.environment,
            "MULTICOMPUTE_AWS__REGIONS": "us-east-1",
            "MULTICOMPUTE_CONFIG": str(self.folder / "config.toml"),
            "MULTICOMPUTE_STATE": f"sqlite:///{folder / 'state.db'}",
        }
        command = {
            "arguments": list(arguments),
            "environment": environment,
            "folder": str(folder),
            "is_warm_up": is_warm_up,
            "kill_at": {"moment": kill.moment, "number": kill.number} if kill is not None and is_suicide else None,
        }
        assert self._fork_server.stdin is not None
        self._fork_server.stdin.write(json.dumps(command).encode() + b"\n")
        self._fork_server.stdin.flush()
        return True

    def _answer(self) -> dict[str, int]:
        assert self._fork_server.stdout is not None
        found: dict[str, int] = json.loads(self._fork_server.stdout.readline())
        return found

    def _status(self) -> int:
        return self._answer()["status"]

    def _written(self, stream: str) -> str:
        return (self.folder / str(self._points) / stream).read_text()


class _Killer:
    """A hook of a local cloud, which kills the process that calls."""

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
        # So that whoever comes next can't find what this call makes by looking once.
        self._site.hide()
        if self._kill.moment == "before":
            self._site.cloud.faults.drop(call.operation)
        os.kill(self._child.result(timeout=10), signal.SIGKILL)
        self._is_dead.wait(timeout=10)


def _connections() -> int:
    """How many connections the local clouds of this process serve."""
    return sum(thread.name == "local-cloud" for thread in threading.enumerate())
