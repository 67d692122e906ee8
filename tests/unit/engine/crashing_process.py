"""Processes that can be killed, or cut in on, at each of their calls of a cloud and each of their commits to the ledger."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

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
ENDED = {ClusterState.TERMINATED, ClusterState.FAILED}
UP = {ClusterState.READY, ClusterState.DEGRADED}
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
"""What may follow on each state; the drawing is in the project's documentation."""


class Killed(BaseException):
    """The process is gone: raised by every call that it still tries, so that no handler of it achieves anything."""


@cache
def catalog() -> Catalog:
    """The packaged offers, read once for all processes."""
    return Catalog({name: plugin.tables for name, plugin in discover().items() if plugin.tables is not None})


class CrashPoint:
    """Lets something happen to a process at one of its steps.

    Attributes:
        is_dead: from then on no step gets through.
    """

    def __init__(self) -> None:
        self.is_dead = False
        self._left = 0
        self._where = ""
        self._act: Callable[[str], bool] | None = None

    def arm(self, at: int, where: str, act: Callable[[str], bool]) -> None:
        """At step number `at`, of those called `where` or of all, call `act`, and again at the following ones while it returns False."""
        self._left, self._where, self._act = at, where, act

    def disarm(self) -> None:
        self._act = None

    def meet(self, where: str) -> None:
        """A step of the process."""
        if self.is_dead:
            raise Killed
        if self._where not in ("", where):
            return
        self._left -= 1
        act = self._act
        if act is not None and self._left <= 0:
            self._act = None
            if not act(where):
                self._act = act

    def kill(self) -> None:
        self.is_dead = True
        raise Killed


class _Numbered(Random):
    """Chance that puts the number of its process into the names of leases, which are of 48 bits."""

    number = 0

    def getrandbits(self, k: int, /) -> int:
        if k == 48:
            return self.number << 24 | super().getrandbits(24)
        return super().getrandbits(k)


class Process:
    """One process of somebody who uses the package: a session of its own, on the same ledger and the same clouds."""

    def __init__(self, world: "ProviderHarness", number: int) -> None:
        self.world = world
        self.number = number
        self.fate = CrashPoint()
        plugins = {
            name: FakePlugin(
                name,
                tables=discover()[name].tables,
                provider=_MortalProvider(self, cloud),  # type: ignore[arg-type]
                tag_limits=discover()[name].tag_limits,
            )
            for name, cloud in world.clouds.items()
        }
        random = _Numbered(number)
        random.number = number
        self.session = Session(config=world.config, plugins=plugins, clock=world.clock, random=random)
        self.session.__dict__["catalog"] = catalog()
        self.session.__dict__["_ledger"] = _MortalLedger(self, world.config.state)

    def bury(self, *, where_all_see_it: bool) -> None:
        """Close the session of a killed process; others know at once that it is dead where they are on the same machine."""
        if where_all_see_it:
            self.world.forsake_leases(self.number)
        self.session.close()


class _MortalProvider:
    def __init__(self, process: Process, cloud: FakeProvider) -> None:
        self._process = process
        self._cloud = cloud

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cloud, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            process = self._process
            if process.fate.is_dead:
                raise Killed
            if threading.current_thread() is not threading.main_thread():
                # One of several looks side by side: their order is not the same in every run, so nothing befalls them.
                return found(*args, **options)
            process.world.before(process, name, args)
            process.fate.meet(f"before {name}")
            answer = found(*args, **options)
            process.world.look()
            process.fate.meet(f"after {name}")
            return answer

        return call


class _MortalLedger(Ledger):
    def __init__(self, process: Process, url: str) -> None:
        super().__init__(url)
        self._mortal = _MortalDatabase(process, super()._database)

    @property
    def _database(self) -> Any:
        return self._mortal


class _MortalDatabase:
    def __init__(self, process: Process, database: Any) -> None:
        self._process = process
        self._database = database

    @contextmanager
    def transaction(self, *args: Any, **options: Any) -> Iterator[Any]:
        self._process.fate.meet("before a commit")
        with self._database.transaction(*args, **options) as cursor:
            yield cursor
        self._process.world.look()
        self._process.fate.meet("after a commit")

    def read(self, *args: Any) -> Any:
        self._process.fate.meet("before a read")
        return self._database.read(*args)

    def close(self) -> None:
        self._database.close()


class ProviderHarness:
    """Two clouds, one ledger, and what must hold at every instant, whoever does what and wherever it dies."""

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
        """Go on with another ledger, which is empty."""
        self.states: dict[str, ClusterState] = {}
        self.stories: dict[str, list[tuple[object, ...]]] = {}
        self.config = Config(
            state=f"sqlite:///{self.folder}/{name}.db",
            default_ttl=timedelta(hours=24),
            catalog=None,
            owner=OWNER,
            path=self.folder / "config.toml",
        )
        self.ledger = Ledger(self.config.state)
        # By another way than the package's own.
        self._sql = sqlite3.connect(self.folder / f"{name}.db", isolation_level=None)
        self._sql.row_factory = sqlite3.Row
        # Of this type there is one here and one there, so that a gang of it is launched in two regions.
        for region in ("us-east-1", "us-east-2"):
            outage = ("aws", region, "p5.48xlarge", "on_demand", "capacity", "2028-01-01T00:00:00.000000+00:00", 2, 1)
            self._sql.execute("INSERT INTO outages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", outage)

    def close(self) -> None:
        """Leave the ledger."""
        self.ledger.close()
        self._sql.close()

    def _rows(self, statement: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        return self._sql.execute(statement, values).fetchall()

    def process(self) -> Process:
        """A new process."""
        self._count += 1
        return Process(self, self._count)

    def ours(self) -> list[Resource]:
        """Everything that exists and is ours, whether or not a listing shows it."""
        return [item for cloud in self.clouds.values() for item in cloud.alive() if item.tags.get(TAG_OWNER) == OWNER]

    def nodes_of(self, cluster_id: str) -> set[str]:
        """The ids of the nodes of a cluster that exist."""
        return {item.id for item in self.ours() if item.kind == "node" and item.tags[TAG_ID] == cluster_id}

    def forsake_leases(self, number: int) -> None:
        """Let the leases of a process be those of one that is known to be gone: of this machine, and begun at another time."""
        host = machine_name()
        for row in self._rows("SELECT holder FROM leases"):
            if _number(row["holder"]) == number:
                dead = f"{host}:{os.getpid()}:1:{number << 24:012x}"
                self._sql.execute("UPDATE leases SET holder = ? WHERE holder = ?", (dead, row["holder"]))

    # What must hold

    def promise(self, kept: bool, words: str) -> None:
        """Fail where a promise is broken; kept in mind, for whoever was at work may see to the failure in its own way."""
        if not kept:
            self.broken.append(words)
            raise AssertionError(words)

    def before(self, process: Process, operation: str, arguments: tuple[Any, ...]) -> None:
        """Look at a call that a process is about to make."""
        if operation not in CHANGES:
            return
        subject = arguments[0]
        if isinstance(subject, LaunchRequest):
            attempt = self.ledger.attempt(subject.token)
            state = attempt.state if attempt is not None else "unknown"
            self.promise(state == AttemptState.OPEN, f"I1: a launch of an attempt that is {state}")
        if self.states.get(subject.cluster_id) not in (None, *ENDED):
            rows = self._rows("SELECT holder FROM leases WHERE cluster_id = ?", (subject.cluster_id,))
            self.promise(
                [_number(row["holder"]) for row in rows] == [process.number], f"I7: {operation} without the lease"
            )

    def look(self) -> None:
        """Look at ledger and clouds after a change of either."""
        alive = self.ours()
        self._look_at_states()
        for item in alive:
            self.promise(item.tags.keys() >= OUR_TAGS, "I2: something was made without its tags")
        nodes = [item for item in alive if item.kind == "node"]
        attempts = {row["token"]: row["state"] for row in self._rows("SELECT token, state FROM attempts")}
        for node in nodes:
            if node.tags[TAG_ID] in self.states:
                self.promise(node.tags[TAG_ATTEMPT] in attempts, "I1: a machine of which the ledger does not know")
                self.promise(
                    attempts[node.tags[TAG_ATTEMPT]] != AttemptState.CLOSED, "I4: a machine of a closed attempt"
                )
        for item in alive:
            self.promise(
                self.states.get(item.tags[TAG_ID]) not in ENDED, f"I4: {item.kind} {item.id} of an ended cluster"
            )
        for cloud in self.clouds.values():
            self.promise(cloud.foreign_intact(), "I9: something of others was touched")
        self._look_at_sizes({node.id: node.tags[TAG_ID] for node in nodes})

    def _look_at_states(self) -> None:
        live: dict[str, str] = {}
        for row in self._rows("SELECT id, name, state FROM clusters"):
            now, before = ClusterState(row["state"]), self.states.get(row["id"])
            is_legal = now is before or now in LEGAL[before] or (before is None and now in UP and self.may_adopt)
            self.promise(is_legal, f"{row['name']} went from {before} to {now}")
            self.states[row["id"]] = now
            if now.is_live:
                self.promise(row["name"] not in live, "I6: two live clusters of one name")
                live[row["name"]] = row["id"]

    def _look_at_sizes(self, nodes: Mapping[str, str]) -> None:
        """No cluster ever has more machines than its gang."""
        for cluster_id in {cluster for cluster in nodes.values() if cluster in self.states}:
            gpus = sum(
                machine.offer.instance.accelerators
                for cloud in self.clouds.values()
                for machine in cloud._machines.values()
                if nodes.get(machine.id) == cluster_id
            )
            wanted = int(str(self.ledger.cluster(cluster_id).spec["gpus"]))
            self.promise(gpus <= wanted, f"I6: {gpus} accelerators where {wanted} were asked for")

    def look_at_stories(self) -> None:
        """No line of a story is ever changed or taken away."""
        for cluster_id in self.states:
            told = [(event.at, event.kind, event.message) for event in self.ledger.events(cluster_id)]
            before = self.stories.get(cluster_id, [])
            self.promise(told[: len(before)] == before, "a line of a story was changed")
            self.stories[cluster_id] = list(told)

    def empty_faults(self) -> None:
        """From here on all goes well."""
        for cloud in self.clouds.values():
            cloud.faults.clear()
            cloud.set_capacity("*", "*", None)
            cloud.lag, cloud.boot_time, cloud.shutdown_time = timedelta(0), timedelta(seconds=30), timedelta(seconds=20)


def _number(holder: str) -> int:
    """The process that a lease belongs to."""
    return int(holder.rpartition(":")[2], 16) >> 24
