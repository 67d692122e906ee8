"""Processes that a test can kill or interrupt at each of their cloud calls and ledger commits, and the invariants that must hold."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from multicompute.catalog import Catalog
from multicompute.config import Config
from multicompute.engine.operation.lease import machine_name
from multicompute.ledger import AttemptState, Ledger
from multicompute.node import ClusterState
from multicompute.plugins import discover
from multicompute.provider import TAG_ATTEMPT, TAG_CLUSTER, TAG_EXPIRES_AT, TAG_ID, TAG_OWNER, LaunchRequest, Resource
from multicompute.session import Session
from multicompute.testing import FakeClock, FakePlugin, FakeProvider

OUR_TAGS = {TAG_CLUSTER, TAG_ID, TAG_ATTEMPT, TAG_OWNER, TAG_EXPIRES_AT}
OWNER = "tester@fake"
CHANGES = {"launch", "terminate", "set_expiry"}
ENDED = {state for state in ClusterState if state.has_ended}
UP = {state for state in ClusterState if state.is_up}
LEGAL: Mapping[ClusterState | None, set[ClusterState]] = {
    None: {ClusterState.REQUESTED},
    ClusterState.REQUESTED: {ClusterState.PROVISIONING, ClusterState.TERMINATING},
    ClusterState.PROVISIONING: {ClusterState.READY, ClusterState.FAILED, ClusterState.TERMINATING},
    ClusterState.READY: {ClusterState.DEGRADED, ClusterState.TERMINATING},
    ClusterState.DEGRADED: {ClusterState.READY, ClusterState.TERMINATING},
    ClusterState.TERMINATING: ENDED,
    ClusterState.TERMINATED: set(),
    ClusterState.FAILED: set(),
}
"""The states that may follow each state, as drawn in the documentation."""


class Killed(BaseException):
    """The process was killed: every further call of it raises this, so that no handler of it has an effect."""


@cache
def catalog() -> Catalog:
    """Return the packaged offers, read once for all processes."""
    return Catalog({name: plugin.tables for name, plugin in discover().items() if plugin.tables is not None})


class CrashPoint:
    """The step of a process at which something happens to it.

    Attributes:
        is_dead: whether the process was killed; no further step succeeds then.
    """

    def __init__(self) -> None:
        self.is_dead = False
        self._left = 0
        self._step = ""
        self._act: Callable[[str], bool] | None = None

    def arm(self, at: int, step: str, act: Callable[[str], bool]) -> None:
        """Call `act` at a step of the process, and at each following one while it returns False.

        Args:
            at: the number of the step, from 1.
            step: the name of the steps that count, "" for all.
            act: called with the name of the step.
        """
        self._left, self._step, self._act = at, step, act

    def disarm(self) -> None:
        self._act = None

    def reach(self, step: str) -> None:
        """Reach a step of the process."""
        if self.is_dead:
            raise Killed
        if self._step not in ("", step):
            return
        self._left -= 1
        act = self._act
        if act is not None and self._left <= 0:
            self._act = None
            if not act(step):
                self._act = act

    def kill(self) -> NoReturn:
        self.is_dead = True
        raise Killed


class _NumberedRandom(Random):
    """Randomness that puts the number of its process into the holders of leases, which have 48 bits."""

    number = 0

    def getrandbits(self, k: int, /) -> int:
        if k == 48:
            return self.number << 24 | super().getrandbits(24)
        return super().getrandbits(k)


class Process:
    """A process that uses the package: a session of its own, on the same ledger and clouds as the others."""

    def __init__(self, harness: "InvariantHarness", number: int) -> None:
        self.harness = harness
        self.number = number
        self.crash_point = CrashPoint()
        plugins = {
            name: FakePlugin(
                name,
                tables=discover()[name].tables,
                provider=_CrashingProvider(self, cloud),
                tag_limits=discover()[name].tag_limits,
            )
            for name, cloud in harness.clouds.items()
        }
        random = _NumberedRandom(number)
        random.number = number
        self.session = Session(config=harness.config, plugins=plugins, clock=harness.clock, random=random)
        self.session.__dict__["catalog"] = catalog()
        self.session.__dict__["_ledger"] = _CrashingLedger(self, harness.config.state)

    def close_killed(self, *, is_on_this_machine: bool) -> None:
        """Close the session of a killed process; other processes of its machine can see that it is dead."""
        if is_on_this_machine:
            self.harness.mark_leases_dead(self.number)
        self.session.close()


class _CrashingProvider:
    def __init__(self, process: Process, cloud: FakeProvider) -> None:
        self._process = process
        self._cloud = cloud

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cloud, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            process = self._process
            if process.crash_point.is_dead:
                raise Killed
            if threading.current_thread() is not threading.main_thread():
                # A call of a thread pool: their order differs from run to run, so nothing happens at them.
                return found(*args, **options)
            process.harness.check_before(process, name, args)
            process.crash_point.reach(f"before {name}")
            answer = found(*args, **options)
            process.harness.check()
            process.crash_point.reach(f"after {name}")
            return answer

        return call


class _CrashingLedger(Ledger):
    def __init__(self, process: Process, url: str) -> None:
        super().__init__(url)
        self._crashing_database = _CrashingDatabase(process, super()._database)

    @property
    def _database(self) -> Any:
        return self._crashing_database


class _CrashingDatabase:
    def __init__(self, process: Process, database: Any) -> None:
        self._process = process
        self._database = database

    @contextmanager
    def transaction(self, *args: Any, **options: Any) -> Iterator[Any]:
        self._process.crash_point.reach("before a commit")
        with self._database.transaction(*args, **options) as cursor:
            yield cursor
        self._process.harness.check()
        self._process.crash_point.reach("after a commit")

    def read(self, *args: Any) -> Any:
        self._process.crash_point.reach("before a read")
        return self._database.read(*args)

    def close(self) -> None:
        self._database.close()


class InvariantHarness:
    """Two clouds, one ledger, and the invariants that hold after every step, whichever process does what and dies where.

    Attributes:
        may_adopt: whether clusters may appear in the ledger that are up already.
        broken: the invariants that did not hold.
    """

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.clouds = {name: FakeProvider(name, clock=self.clock) for name in ("aws", "gcp")}
        for cloud in self.clouds.values():
            cloud.add_foreign()
        self.folder = folder
        self.may_adopt = False
        self.use_ledger("state")
        self.broken: list[str] = []
        self._count = 0

    def use_ledger(self, name: str) -> None:
        """Continue with another, empty ledger."""
        self.states: dict[str, ClusterState] = {}
        self.events: dict[str, list[tuple[object, ...]]] = {}
        self.config = Config(
            state=f"sqlite:///{self.folder}/{name}.db",
            default_ttl=timedelta(hours=24),
            catalog=None,
            owner=OWNER,
            path=self.folder / "config.toml",
        )
        self.ledger = Ledger(self.config.state)
        # A second connection, so that the checks do not depend on the code under test.
        self._sql = sqlite3.connect(self.folder / f"{name}.db", isolation_level=None)
        self._sql.row_factory = sqlite3.Row
        # No zone has two nodes of this type, so that a gang of it is launched in two regions.
        until = datetime(2028, 1, 1, tzinfo=self.clock.now().tzinfo).isoformat(timespec="microseconds")
        for region in ("us-east-1", "us-east-2"):
            outage = ("aws", region, "p5.48xlarge", "on_demand", "capacity", until, 2, 1)
            columns = "provider, place, instance_type, purchase, reason, until, nodes, strikes"
            self._sql.execute(f"INSERT INTO outages ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", outage)

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()
        self._sql.close()

    def _rows(self, statement: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        return self._sql.execute(statement, values).fetchall()

    def process(self) -> Process:
        """Return a new process."""
        self._count += 1
        return Process(self, self._count)

    def ours(self) -> list[Resource]:
        """Return every resource that exists and has our owner's tag, whether or not a listing shows it."""
        return [item for cloud in self.clouds.values() for item in cloud.alive() if item.tags.get(TAG_OWNER) == OWNER]

    def nodes_of(self, cluster_id: str) -> set[str]:
        """Return the ids of the nodes of a cluster that exist."""
        return {item.id for item in self.ours() if item.kind == "node" and item.tags[TAG_ID] == cluster_id}

    def mark_leases_dead(self, number: int) -> None:
        """Change the holder of the leases of a process to one that is dead: its process id has another start time."""
        host = machine_name()
        for row in self._rows("SELECT holder FROM leases"):
            if _process_number(row["holder"]) == number:
                dead = f"{host}:{os.getpid()}:1:{number << 24:012x}"
                self._sql.execute("UPDATE leases SET holder = ? WHERE holder = ?", (dead, row["holder"]))

    def empty_faults(self) -> None:
        """Let all further calls succeed."""
        for cloud in self.clouds.values():
            cloud.faults.clear()
            cloud.set_capacity("*", "*", None)
            cloud.lag, cloud.boot_time, cloud.shutdown_time = timedelta(0), timedelta(seconds=30), timedelta(seconds=20)

    # The invariants

    def require(self, holds: bool, invariant: str) -> None:
        """Fail if an invariant does not hold, and record that, since the process under test may catch the failure."""
        if not holds:
            self.broken.append(invariant)
            raise AssertionError(invariant)

    def check_before(self, process: Process, operation: str, arguments: tuple[Any, ...]) -> None:
        """Check a call that a process is about to make."""
        if operation not in CHANGES:
            return
        subject = arguments[0]
        if isinstance(subject, LaunchRequest):
            attempt = self.ledger.attempt(subject.token)
            state = attempt.state if attempt is not None else "unknown"
            self.require(state == AttemptState.OPEN, f"I1: a launch of an attempt that is {state}")
        if self.states.get(subject.cluster_id) not in (None, *ENDED):
            rows = self._rows("SELECT holder FROM leases WHERE cluster_id = ?", (subject.cluster_id,))
            holders = [_process_number(row["holder"]) for row in rows]
            self.require(holders == [process.number], f"I7: {operation} without the lease")

    def check(self) -> None:
        """Check ledger and clouds after a change of either."""
        alive = self.ours()
        self._check_states()
        for item in alive:
            self.require(item.tags.keys() >= OUR_TAGS, "I2: a resource was created without its tags")
        nodes = [item for item in alive if item.kind == "node"]
        attempts = {row["token"]: row["state"] for row in self._rows("SELECT token, state FROM attempts")}
        for node in nodes:
            if node.tags[TAG_ID] in self.states:
                token = node.tags[TAG_ATTEMPT]
                self.require(token in attempts, "I1: a node of an attempt that is not in the ledger")
                self.require(attempts[token] != AttemptState.CLOSED, "I4: a node of a closed attempt")
        for item in alive:
            self.require(
                self.states.get(item.tags[TAG_ID]) not in ENDED, f"I4: {item.kind} {item.id} of an ended cluster"
            )
        for cloud in self.clouds.values():
            self.require(cloud.foreign_intact(), "I9: a foreign resource was changed")
        self._check_sizes({node.id: node.tags[TAG_ID] for node in nodes})

    def _check_states(self) -> None:
        live: dict[str, str] = {}
        for row in self._rows("SELECT id, name, state FROM clusters"):
            now, before = ClusterState(row["state"]), self.states.get(row["id"])
            is_legal = now is before or now in LEGAL[before] or (before is None and now in UP and self.may_adopt)
            self.require(is_legal, f"{row['name']} went from {before} to {now}")
            self.states[row["id"]] = now
            if now.is_live:
                self.require(row["name"] not in live, "I6: two live clusters have one name")
                live[row["name"]] = row["id"]

    def _check_sizes(self, nodes: Mapping[str, str]) -> None:
        """Check that no cluster has more accelerators than requested."""
        for cluster_id in {cluster for cluster in nodes.values() if cluster in self.states}:
            gpus = sum(
                machine.offer.instance.accelerators
                for cloud in self.clouds.values()
                for machine in cloud._machines.values()
                if nodes.get(machine.id) == cluster_id
            )
            requested = int(str(self.ledger.cluster(cluster_id).spec["gpus"]))
            self.require(gpus <= requested, f"I6: {gpus} accelerators where {requested} were requested")

    def check_events(self) -> None:
        """Check that no event was changed or removed."""
        for cluster_id in self.states:
            events = [(event.at, event.kind, event.message) for event in self.ledger.events(cluster_id)]
            before = self.events.get(cluster_id, [])
            self.require(events[: len(before)] == before, "an event was changed")
            self.events[cluster_id] = list(events)


def _process_number(holder: str) -> int:
    """Return the number of the process that holds a lease."""
    return int(holder.rpartition(":")[2], 16) >> 24
