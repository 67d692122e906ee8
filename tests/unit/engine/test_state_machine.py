"""Whatever is done in whatever order, by how many processes and wherever they die, the promises hold at every step."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.recovery.inventory import EVERY, take_inventory
from multicompute.engine.recovery.reap import reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.provider import TAG_EXPIRES_AT, TAG_ID, Capability
from multicompute.session import use_session

# Tests are imported by their file (importmode=importlib), so neighbours have to be found by hand.
from tests.unit.engine.crashing_process import Killed, Process, ProviderHarness

EXAMPLES = int(os.environ.get("MULTICOMPUTE_CAMPAIGN_EXAMPLES", "240")) // 4
"""`make campaign` asks for many thousands; an example here is some twelve steps, and takes longer than others do."""

NAMES = ("ada", "bob")
SPECS: tuple[dict[str, Any], ...] = (
    {"gpus": 8, "type": "h100", "regions": ["us-east-1", "us-central1"], "ttl": "2h"},
    {"gpus": 16, "type": "a100", "regions": ["us-east-1", "us-central1"], "spot": "prefer"},
    {
        "gpus": 32,
        "type": "p5.48xlarge",
        "regions": ["us-east-1", "us-east-2"],
        "placement": "cloud",
        "interconnect": "any",
        "ttl": None,
    },
)
"""One node; two that may be preempted; four in two regions, launched in two calls."""

OPERATIONS = ("launch", "nodes", "terminate", "resources", "set_expiry", "quotas", "boot")
CODES = ("capacity", "capacity-region", "not-offered", "quota", "throttled", "transient", "auth", "denied", "invalid")
FAULTS = ("lose_answer", "drop", *CODES, "who-knows")

names = st.sampled_from(NAMES)
specs = st.sampled_from(range(len(SPECS)))


@dataclass(frozen=True)
class Action:
    """Something that a process does: a call of the public API."""

    kind: str
    name: str = ""
    spec: int = 0

    @property
    def may_wait(self) -> bool:
        """Whether it waits for whoever else works on the cluster."""
        return self.kind in ("request", "wait", "terminate", "extend")


@dataclass(frozen=True)
class Trouble:
    """What befalls a process at one of its steps: it dies, or stands still while another one acts, which may die in turn."""

    at: tuple[int, str]
    dies: bool
    is_seen: bool = True
    pause: int = 0
    action: Action | None = None
    then: "Trouble | None" = None


KINDS = ("request", "request", "submit", "wait", "terminate", "end", "extend", "refresh", "heal", "reconcile", "reap")
actions = st.builds(Action, st.sampled_from(KINDS), names, specs)
STEPS = (
    "before launch",
    "after launch",
    "after launch",
    "after nodes",
    "after terminate",
    "after set_expiry",
    "after a commit",
)
moments = st.tuples(st.integers(1, 80), st.just("")) | st.tuples(st.integers(1, 4), st.sampled_from(STEPS))
deaths = st.builds(Trouble, moments, st.just(True), st.booleans())
cuts = st.builds(
    Trouble,
    moments,
    st.just(False),
    st.just(True),
    st.sampled_from((0, 0, 30, 300)),
    actions,
    st.none() | deaths,
)
troubles = st.none() | deaths | cuts


class Promises(RuleBasedStateMachine):
    """Processes that share a ledger and two clouds; `World.look` holds the promises against every change of either."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="multicompute-machine-")
        self.world = ProviderHarness(Path(self.folder.name))
        self.process = self.world.process()
        self.after_loss = ""

    @initialize(lag=st.sampled_from((0, 50)), is_bare=st.booleans())
    def clouds_differ(self, lag: int, is_bare: bool) -> None:
        """Listings may lag behind, and where nothing stands beside machines, nothing that stands there tells of hidden ones."""
        for cloud in self.world.clouds.values():
            cloud.lag = timedelta(seconds=lag)
            cloud.capabilities -= {Capability.DEPENDENT_RESOURCES} if is_bare else set()

    # What users and their schedulers do

    @rule(action=actions, trouble=troubles)
    def act(self, action: Action, trouble: Trouble | None) -> None:
        self.process = self.run(self.process, action, trouble)

    @rule(name=names, spec=specs, trouble=deaths, then=st.sampled_from(KINDS))
    def die_in_a_request(self, name: str, spec: int, trouble: Trouble, then: str) -> None:
        """And another one is there at once."""
        for action, befalls in ((Action("request", name, spec), trouble), (Action(then, name, spec), None)):
            self.process = self.run(self.process, action, befalls)

    # What the world does

    @rule(minutes=st.sampled_from((1, 3, 20, 90, 1500)))
    def time_passes(self, minutes: int) -> None:
        self.world.clock.advance(timedelta(minutes=minutes))

    @rule(place=st.sampled_from(("*", "us-east-1", "us-east-1a", "us-central1")), nodes=st.sampled_from((0, 1, None)))
    def capacity_changes(self, place: str, nodes: int | None) -> None:
        for cloud in self.world.clouds.values():
            cloud.set_capacity("*", place, nodes)

    @rule(
        cloud=st.sampled_from(("aws", "gcp")),
        operation=st.sampled_from(OPERATIONS),
        fault=st.sampled_from(FAULTS),
        times=st.integers(1, 9),
    )
    def a_cloud_has_trouble(self, cloud: str, operation: str, fault: str, times: int) -> None:
        faults = self.world.clouds[cloud].faults
        if operation == "boot" or fault not in ("lose_answer", "drop"):
            faults.fail(operation, fault if fault in CODES else "who-knows", times=times)
        elif fault == "drop":
            faults.drop(operation, times)
        else:
            faults.lose_answer(operation, times)

    @rule(lag=st.sampled_from((0, 3, 50)), boot=st.sampled_from((0, 30, 400)), shutdown=st.sampled_from((0, 20, 300)))
    def clouds_are_slow(self, lag: int, boot: int, shutdown: int) -> None:
        for cloud in self.world.clouds.values():
            cloud.lag, cloud.boot_time = timedelta(seconds=lag), timedelta(seconds=boot)
            cloud.shutdown_time = timedelta(seconds=shutdown)

    @rule(which=st.integers(0, 7))
    def a_node_is_taken_back(self, which: int) -> None:
        running = [(cloud, node) for cloud in self.world.clouds.values() for node in cloud.running_ids()]
        if running:
            cloud, node = running[which % len(running)]
            cloud.preempt(node)

    @rule()
    def all_is_well_again(self) -> None:
        self.world.empty_faults()

    @precondition(lambda self: not self.after_loss and self.world.ours())
    @rule(then=st.sampled_from(("adopt", "terminate", "reap")))
    def the_ledger_is_lost(self, then: str) -> None:
        """All that was known is found by its tags; what is done about it when all else is over."""
        # Nothing may be under way any more in what is forgotten.
        self.settle()
        self.after_loss = then
        forgotten = {item.tags[TAG_ID] for item in self.world.ours()}
        self.process.session.close()
        self.world.close()
        self.world.use_ledger("another")
        self.process = self.world.process()
        report = reconcile(self.process.session)
        assert {orphan.cluster_id for orphan in report.orphans} == forgotten, "I3: a lost ledger hides a machine"
        assert {item.tags[TAG_ID] for item in self.world.ours()} == forgotten

    # How it is done

    def run(self, process: Process, action: Action, trouble: Trouble | None = None) -> Process:
        """Let a process do something; returns the one that goes on, a new one where it died."""
        if trouble is not None:
            process.fate.arm(*trouble.at, lambda where: self.strike(process, trouble, where))
        try:
            with use_session(process.session):
                ACTIONS[action.kind](process, action)
        except errors.MulticomputeError:
            pass
        except Killed:
            assert trouble is not None
            process.bury(where_all_see_it=trouble.is_seen)
            return self.world.process()
        finally:
            process.fate.disarm()
        return process

    def strike(self, process: Process, trouble: Trouble, where: str) -> bool:
        """The trouble comes; False where it can't come at this step."""
        if trouble.dies:
            process.fate.kill()
        if where == "before launch" and (trouble.pause > 60 or trouble.action is None or trouble.action.may_wait):
            # Who stands still here for longer than a lease lasts launches for somebody who has given it up. No ledger
            # can prevent that, and `reconcile` finds it.
            return False
        self.world.clock.sleep(timedelta(seconds=trouble.pause))
        if trouble.action is not None:
            other = self.run(self.world.process(), trouble.action, trouble.then)
            other.session.close()
        return True

    def settle(self) -> None:
        """All goes well from here on: reconcile until nothing is in doubt."""
        self.world.empty_faults()
        for _ in range(8):
            self.world.clock.advance("3m")
            report = reconcile(self.process.session)
            if not report.in_doubt and not report.terminated:
                break
        assert report.in_doubt == report.terminated == report.notes == []

    @invariant()
    def promises_hold(self) -> None:
        assert self.world.broken == []
        self.world.look()
        self.world.look_at_stories()

    def teardown(self) -> None:
        """In the end everything is accounted for, a request gives what it says, and all of it can be ended."""
        try:
            self.settle()
            with use_session(self.process.session):
                self.come_to_an_end()
        finally:
            self.process.session.close()
            self.world.close()
            self.folder.cleanup()

    def come_to_an_end(self) -> None:
        session, world = self.process.session, self.world
        orphans = self.orphans()
        assert {item.tags[TAG_ID] for item in world.ours()} <= {cluster.id for cluster in Cluster.list()} | orphans
        assert not orphans or self.after_loss
        if self.after_loss == "adopt":
            world.may_adopt = True
            # Those whose name has been given to another cluster meanwhile are left over.
            orphans -= {Cluster.get(name).id for name in reconcile(session, adopt=EVERY).adopted}
        for cluster in Cluster.list():
            assert cluster.state in (ClusterState.READY, ClusterState.DEGRADED, ClusterState.PROVISIONING)
            if cluster.state is not ClusterState.PROVISIONING:
                assert {node.id for node in cluster.nodes} == world.nodes_of(cluster.id)
            cluster.terminate()
        if self.after_loss == "reap":
            world.clock.advance("48h")
            reap(session)
            # What never expires is named for as long as it is there.
            orphans = self.orphans()
            assert all(item.tags[TAG_EXPIRES_AT] == "never" for item in world.ours())
        assert {item.tags[TAG_ID] for item in world.ours()} <= orphans
        reconcile(session, terminate=sorted(orphans))
        assert world.ours() == []
        # A name is free again, and what is requested is what is there. By then outages are forgotten.
        world.clock.advance("48h")
        with Cluster.request(**SPECS[0], name="ada") as cluster:
            assert {node.id for node in cluster.nodes} == world.nodes_of(cluster.id)
        assert world.ours() == []

    def orphans(self) -> set[str]:
        """The ids of what no ledger knows."""
        return {orphan.cluster_id for orphan in take_inventory(self.process.session, []).orphans}


def _request(process: Process, action: Action) -> None:
    cluster = Cluster.request(**SPECS[action.spec], name=action.name)
    assert cluster.state in (ClusterState.READY, ClusterState.DEGRADED)


def _wait(process: Process, action: Action) -> None:
    cluster = Cluster.get(action.name)
    if cluster.state.is_live:
        cluster.wait()


ACTIONS: dict[str, Callable[[Process, Action], object]] = {
    "request": _request,
    "submit": lambda process, action: Cluster.request(**SPECS[action.spec], name=action.name, wait=False),
    "wait": _wait,
    "terminate": lambda process, action: Cluster.get(action.name).terminate(),
    "end": lambda process, action: Cluster.get(action.name).terminate(wait=False),
    "extend": lambda process, action: Cluster.get(action.name).extend("3h"),
    "heal": lambda process, action: Cluster.get(action.name).heal(),
    "refresh": lambda process, action: Cluster.get(action.name).refresh(),
    "reconcile": lambda process, action: reconcile(process.session),
    "reap": lambda process, action: reap(process.session),
}

Promises.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPromises = Promises.TestCase
