"""The invariants hold at every step of random operations, by several processes that die at random points."""

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
from multicompute.engine.operation.coverage import Coverage
from multicompute.engine.recovery.inventory import EVERY, list_inventory
from multicompute.engine.recovery.reap import reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.provider import TAG_EXPIRES_AT, TAG_ID, Capability
from multicompute.session import use_session
from tests.unit.engine.crashing_process import InvariantHarness, Killed, Process

EXAMPLES = int(os.environ.get("CAMPAIGN_EXAMPLES", "240")) // 4
"""An example here has about twelve steps and takes longer than others, so there are fewer. `make campaign` runs thousands."""

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
"""One node; two nodes that may be preempted; four nodes in two regions, launched in two calls."""

OPERATIONS = ("launch", "nodes", "terminate", "resources", "set_expiry", "quotas", "boot")
CODES = ("capacity", "capacity-region", "not-offered", "quota", "throttled", "transient", "auth", "denied", "invalid")
FAULTS = ("lose_answer", "drop", *CODES, "who-knows")

names = st.sampled_from(NAMES)
specs = st.sampled_from(range(len(SPECS)))


@dataclass(frozen=True)
class Action:
    """A call of the public API by a process."""

    kind: str
    name: str = ""
    spec: int = 0

    @property
    def may_wait(self) -> bool:
        """Return whether it waits for another process that works on the cluster."""
        return self.kind in ("request", "wait", "terminate", "extend")


@dataclass(frozen=True)
class Trouble:
    """What happens to a process at one of its steps: it dies, or is suspended while another process acts and may die in turn.

    Attributes:
        at: number and name of the step.
        dies: whether it dies.
        is_on_this_machine: whether other processes can see that it is dead.
        pause: for how many seconds it is suspended.
        action: what another process does meanwhile.
        then: what happens to that process.
    """

    at: tuple[int, str]
    dies: bool
    is_on_this_machine: bool = True
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
steps = st.tuples(st.integers(1, 80), st.just("")) | st.tuples(st.integers(1, 4), st.sampled_from(STEPS))
deaths = st.builds(Trouble, steps, st.just(True), st.booleans())
interruptions = st.builds(
    Trouble,
    steps,
    st.just(False),
    st.just(True),
    st.sampled_from((0, 0, 30, 300)),
    actions,
    st.none() | deaths,
)
troubles = st.none() | deaths | interruptions


class Invariants(RuleBasedStateMachine):
    """Processes that share a ledger and two clouds; `InvariantHarness` checks the invariants after every change of either."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="multicompute-machine-")
        self.harness = InvariantHarness(Path(self.folder.name))
        self.process = self.harness.process()
        self.after_loss = ""

    @initialize(lag=st.sampled_from((0, 50)), is_bare=st.booleans())
    def clouds_differ(self, lag: int, is_bare: bool) -> None:
        """Vary the lag of listings, and whether launches create dependent resources, which show that nodes are missing from a listing."""
        for cloud in self.harness.clouds.values():
            cloud.lag = timedelta(seconds=lag)
            cloud.capabilities -= {Capability.DEPENDENT_RESOURCES} if is_bare else set()

    # Operations of users and schedulers

    @rule(action=actions, trouble=troubles)
    def act(self, action: Action, trouble: Trouble | None) -> None:
        self.process = self.run(self.process, action, trouble)

    @rule(name=names, spec=specs, trouble=deaths, then=st.sampled_from(KINDS))
    def die_in_a_request(self, name: str, spec: int, trouble: Trouble, then: str) -> None:
        """Kill a process during a request, and let another one act at once."""
        for action, happens in ((Action("request", name, spec), trouble), (Action(then, name, spec), None)):
            self.process = self.run(self.process, action, happens)

    # Changes of time and clouds

    @rule(minutes=st.sampled_from((1, 3, 20, 90, 1500)))
    def time_passes(self, minutes: int) -> None:
        self.harness.clock.advance(timedelta(minutes=minutes))

    @rule(place=st.sampled_from(("*", "us-east-1", "us-east-1a", "us-central1")), nodes=st.sampled_from((0, 1, None)))
    def capacity_changes(self, place: str, nodes: int | None) -> None:
        for cloud in self.harness.clouds.values():
            cloud.set_capacity("*", place, nodes)

    @rule(
        cloud=st.sampled_from(("aws", "gcp")),
        operation=st.sampled_from(OPERATIONS),
        fault=st.sampled_from(FAULTS),
        times=st.integers(1, 9),
    )
    def a_cloud_has_trouble(self, cloud: str, operation: str, fault: str, times: int) -> None:
        faults = self.harness.clouds[cloud].faults
        if operation == "boot" or fault not in ("lose_answer", "drop"):
            faults.fail(operation, fault if fault in CODES else "who-knows", times=times)
        elif fault == "drop":
            faults.drop(operation, times)
        else:
            faults.lose_answer(operation, times)

    @rule(lag=st.sampled_from((0, 3, 50)), boot=st.sampled_from((0, 30, 400)), shutdown=st.sampled_from((0, 20, 300)))
    def clouds_are_slow(self, lag: int, boot: int, shutdown: int) -> None:
        for cloud in self.harness.clouds.values():
            cloud.lag, cloud.boot_time = timedelta(seconds=lag), timedelta(seconds=boot)
            cloud.shutdown_time = timedelta(seconds=shutdown)

    @rule(which=st.integers(0, 7))
    def a_node_is_preempted(self, which: int) -> None:
        running = [(cloud, node) for cloud in self.harness.clouds.values() for node in cloud.running_ids()]
        if running:
            cloud, node = running[which % len(running)]
            cloud.preempt(node)

    @rule()
    def all_faults_end(self) -> None:
        self.harness.empty_faults()

    @precondition(lambda self: not self.after_loss and self.harness.ours())
    @rule(then=st.sampled_from(("adopt", "terminate", "reap")))
    def the_ledger_is_lost(self, then: str) -> None:
        """Lose the ledger: everything is found by its tags, and adopted, terminated or reaped at the end."""
        # No operation of the lost ledger may be in progress.
        self.settle()
        self.after_loss = then
        lost = {item.tags[TAG_ID] for item in self.harness.ours()}
        self.process.session.close()
        self.harness.close()
        self.harness.use_ledger("another")
        self.process = self.harness.process()
        report = reconcile(self.process.session)
        assert {orphan.cluster_id for orphan in report.orphans} == lost, "I3: a lost ledger hides a node"
        assert {item.tags[TAG_ID] for item in self.harness.ours()} == lost

    # Running operations

    def run(self, process: Process, action: Action, trouble: Trouble | None = None) -> Process:
        """Let a process act; return the process to continue with, which is a new one if it died."""
        if trouble is not None:
            process.crash_point.arm(*trouble.at, lambda step: self.strike(process, trouble, step))
        try:
            with use_session(process.session):
                ACTIONS[action.kind](process, action)
        except errors.MulticomputeError:
            pass
        except Killed:
            assert trouble is not None
            process.close_killed(is_on_this_machine=trouble.is_on_this_machine)
            return self.harness.process()
        finally:
            process.crash_point.disarm()
        return process

    def strike(self, process: Process, trouble: Trouble, step: str) -> bool:
        """Let the trouble happen; return False if it can't happen at this step."""
        if trouble.dies:
            process.crash_point.kill()
        if step == "before launch" and (trouble.pause > 60 or trouble.action is None or trouble.action.may_wait):
            # A process that is suspended here for longer than its lease launches for a cluster that another process has
            # closed. No ledger can prevent that, and `reconcile` finds it.
            return False
        self.harness.clock.sleep(timedelta(seconds=trouble.pause))
        if trouble.action is not None:
            other = self.run(self.harness.process(), trouble.action, trouble.then)
            other.session.close()
        return True

    def settle(self) -> None:
        """End all faults, and reconcile until nothing is in doubt."""
        self.harness.empty_faults()
        for _ in range(8):
            self.harness.clock.advance("3m")
            report = reconcile(self.process.session)
            if not report.in_doubt and not report.terminated:
                break
        assert report.in_doubt == report.terminated == report.notes == []

    @invariant()
    def invariants_hold(self) -> None:
        assert self.harness.broken == []
        self.harness.check()
        self.harness.check_events()

    def teardown(self) -> None:
        """Check that in the end everything is accounted for, and can be terminated."""
        try:
            self.settle()
            with use_session(self.process.session):
                self.finish()
        finally:
            self.process.session.close()
            self.harness.close()
            self.folder.cleanup()

    def finish(self) -> None:
        session, harness = self.process.session, self.harness
        orphans = self.orphans()
        assert {item.tags[TAG_ID] for item in harness.ours()} <= {cluster.id for cluster in Cluster.list()} | orphans
        assert not orphans or self.after_loss
        if self.after_loss == "adopt":
            harness.may_adopt = True
            # Those whose name another cluster has taken in the meantime are left.
            orphans -= {Cluster.get(name).id for name in reconcile(session, adopt=EVERY).adopted}
        for cluster in Cluster.list():
            assert cluster.state in (ClusterState.READY, ClusterState.DEGRADED, ClusterState.PROVISIONING)
            if cluster.state is not ClusterState.PROVISIONING:
                assert {node.id for node in cluster.nodes} == harness.nodes_of(cluster.id)
            cluster.terminate()
        if self.after_loss == "reap":
            harness.clock.advance("48h")
            reap(session)
            # Orphans that never expire are still listed.
            orphans = self.orphans()
            assert all(item.tags[TAG_EXPIRES_AT] == "never" for item in harness.ours())
        assert {item.tags[TAG_ID] for item in harness.ours()} <= orphans
        reconcile(session, terminate=sorted(orphans))
        assert harness.ours() == []
        # The name is free again, and a request gets what it asks for, after outages are over.
        harness.clock.advance("48h")
        with Cluster.request(**SPECS[0], name="ada") as cluster:
            assert {node.id for node in cluster.nodes} == harness.nodes_of(cluster.id)
        assert harness.ours() == []

    def orphans(self) -> set[str]:
        """Return the ids of clusters that are not in the ledger."""
        return {orphan.cluster_id for orphan in list_inventory(self.process.session, Coverage()).orphans}


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

Invariants.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestInvariants = Invariants.TestCase
