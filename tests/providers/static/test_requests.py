"""Requests for own machines, from end to end: planned, leased, checked, listed, found again without a ledger, torn down."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from multicompute import Cluster, errors
from multicompute.engine.hosts import forget_host, list_hosts
from multicompute.engine.recovery.reap import reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.node import ClusterState, NodeState
from multicompute.provider import TAG_CLUSTER, TAG_OWNER
from multicompute.remote.reach import targets
from multicompute.session import Session, use_session
from multicompute.testing.provider_harness import launch_request
from tests.providers.static.conftest import open_session
from tests.providers.static.machines import Machines, run


def request(gpus: int = 16, **arguments: object) -> Cluster:
    return Cluster.request(gpus=gpus, type="h100", clouds=["static"], ttl="1h", **arguments)  # type: ignore[arg-type] # passed on as they are


def test_a_gang_is_leased_marked_and_torn_down(own: Machines, session: Session) -> None:
    with request(name="train-1", tags={"team": "nlp"}) as cluster:
        assert (cluster.provider, cluster.region, cluster.zone, cluster.hourly_cost) == (
            "static",
            "lab-1",
            "lab-1",
            0.0,
        )
        assert [node.instance_type for node in cluster.nodes] == ["8xh100", "8xh100"]
        assert [node.id for node in cluster.nodes] == [own.id(0), own.id(1)]
        assert [node.private_ip for node in cluster.nodes] == [host.address for host in own.hosts[:2]]
        for index in (0, 1):
            marker = own.marker(index)
            assert marker is not None
            assert {TAG_CLUSTER: "train-1", TAG_OWNER: "me@here", "team": "nlp"}.items() <= marker[1].items()
            folder = own.home(index) / ".multicompute"
            assert [path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())] == [0o700, 0o700]
        assert own.marker(2) is None
        states = {host.id: (host.state, host.cluster) for host in list_hosts(session)}
        assert states == {
            own.id(0): ("leased", "train-1"),
            own.id(1): ("leased", "train-1"),
            own.id(2): ("free", ""),
        }
    assert cluster.state is ClusterState.TERMINATED
    assert [own.marker(index) for index in range(3)] == [None] * 3
    assert not any((own.home(index) / ".multicompute").exists() for index in range(3))
    assert {host.state for host in list_hosts(session)} == {"free"}


def test_the_plan_ranks_own_machines_and_the_price_may_be_zero(session: Session) -> None:
    plan = Cluster.plan(gpus=16, type="h100", budget=100)
    (candidate,) = plan.candidates
    assert (candidate.provider, candidate.instance_type, candidate.hourly_cost) == ("static", "8xh100", 0.0)
    assert "lab-1" in plan.explain()


def test_a_machine_is_leased_to_one_cluster_at_a_time_also_between_processes(
    own: Machines, session: Session, inventory: Path
) -> None:
    # Each session has a connection of its own, as another process has.
    with ExitStack() as stack:
        sessions = [open_session(inventory) for _ in range(4)]
        for each in sessions:
            stack.callback(each.close)

        def try_one(number: int) -> str:
            line = sessions[number].catalog.listings("h100")[0].offers[0]
            wanted = launch_request(line, nodes=2, cluster=f"c{number}", token=f"token-{number}")
            try:
                return f"{len(sessions[number].provider('static').launch(wanted))} nodes"
            except errors.CapacityError as error:
                return error.code or ""

        with ThreadPoolExecutor(4) as pool:
            answers = sorted(pool.map(try_one, range(4)))
    assert answers == ["2 nodes", "TooFewHosts", "TooFewHosts", "TooFewHosts"]
    assert sum(own.marker(index) is not None for index in range(3)) == 2


def test_a_request_that_finds_too_few_machines_is_no_outage(own: Machines, session: Session) -> None:
    with request(8, name="first"):
        with pytest.raises(errors.CapacityError) as caught:
            request(24, name="too-large")
        assert f"2 of 3 machines can be leased: {own.id(0)} leased to first" in str(caught.value)
        assert session.ledger.outages(now=session.clock.now()) == []
        with request(16, name="second") as second:
            assert [node.id for node in second.nodes] == [own.id(1), own.id(2)]


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [
        (7, "has 7 accelerators, the inventory says 8"),
        ("none", "nvidia-smi: NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."),
    ],
)
def test_a_machine_that_fails_the_check_is_set_aside_and_another_one_taken(
    own: Machines, session: Session, gpus: int | str, reason: str
) -> None:
    own.set_gpus(0, gpus)
    with request(name="train-1") as cluster:
        assert [node.id for node in cluster.nodes] == [own.id(1), own.id(2)]
        (aside, *_) = list_hosts(session)
        assert (aside.id, aside.state, aside.reason) == (own.id(0), "set aside", reason)
        assert aside.until is not None
        assert own.marker(0) is None
        own.set_gpus(0, 8)
        (aside, *_) = list_hosts(session, check=True)
        assert (aside.state, aside.reason, aside.has_failed) == ("free", "", False)


def test_all_or_nothing_holds_when_a_machine_fails_and_no_other_is_free(own: Machines, session: Session) -> None:
    own.set_gpus(1, 0)
    with pytest.raises(errors.CapacityError, match="has 0 accelerators"):
        request(24, name="train-1")
    assert [own.marker(index) for index in range(3)] == [None] * 3
    assert [host.state for host in list_hosts(session)] == ["free", "set aside", "free"]


def test_a_machine_with_another_clusters_processes_is_set_aside(own: Machines, session: Session) -> None:
    with work_on(own, 0, "forgotten"):
        with request(8, name="train-1") as cluster:
            assert [node.id for node in cluster.nodes] != [own.id(0)]
        (aside, *_) = list_hosts(session)
        assert "a cluster that has not leased it run there: forgotten (process " in aside.reason


class work_on:
    """A process on a machine that carries the name of a cluster, in a session of its own, as the workers of torchrun."""

    def __init__(self, own: Machines, index: int, cluster: str) -> None:
        self._own, self._index = own, index
        mark = f"MULTICOMPUTE_CLUSTER={cluster} " if cluster else ""
        self._line = f"{mark}setsid sleep 600 >/dev/null 2>&1 </dev/null & echo $!"
        self.pid = ""

    def __enter__(self) -> Self:
        self.pid = run(self._own.hosts[self._index], self._line).strip()
        deadline = time.monotonic() + 10
        while not self.is_alive and time.monotonic() < deadline:
            time.sleep(0.1)
        return self

    def __exit__(self, *error: object) -> None:
        run(self._own.hosts[self._index], f"kill -s KILL {self.pid} 2>/dev/null")

    @property
    def is_alive(self) -> bool:
        return "sleep" in run(self._own.hosts[self._index], f"tr '\\0' ' ' </proc/{self.pid}/cmdline 2>/dev/null")


def test_a_teardown_ends_what_the_cluster_started_and_nothing_else(own: Machines, session: Session) -> None:
    with work_on(own, 0, "") as mine, request(name="train-1") as cluster, work_on(own, 0, "train-1") as theirs:
        (own.home(0) / "data").write_text("mine")
        cluster.terminate()
        assert not theirs.is_alive
        assert mine.is_alive
        assert (own.home(0) / "data").read_text() == "mine"
        assert not (own.home(0) / ".multicompute").exists()


def test_the_setup_script_runs_as_the_login_user_and_is_gone_with_its_processes(
    own: Machines, session: Session
) -> None:
    script = 'echo ready >"$PWD/../setup-ran"; sleep 600'
    with request(8, name="train-1", setup=script):
        (folder,) = (own.home(0) / ".multicompute").iterdir()
        deadline = time.monotonic() + 20
        while not (folder / "setup-ran").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (folder / "setup-ran").read_text() == "ready\n"
        (folder / "setup-ran").unlink()
    assert "sleep 600" not in " ".join(own.hosts[0].commands())
    assert not (own.home(0) / ".multicompute").exists()


def test_a_machine_ends_the_work_at_the_expiry_by_itself(own: Machines, session: Session) -> None:
    cluster = request(name="train-1")
    with work_on(own, 0, "train-1") as work:
        own.reach_expiry()
        assert not work.is_alive
    assert [own.marker(index) for index in range(3)] == [None] * 3
    assert cluster.refresh().state is ClusterState.TERMINATED
    assert {host.state for host in list_hosts(session)} == {"free"}


def test_without_a_ledger_the_markers_show_what_is_leased(own: Machines, session: Session, inventory: Path) -> None:
    request(name="train-1", tags={"team": "nlp"})
    lost = open_session(inventory, state=f"sqlite:///{inventory.parent}/new.db")
    with use_session(lost):
        report = reconcile(lost)
        assert [(orphan.name, len(orphan.resources)) for orphan in report.orphans] == [("train-1", 2)]
        # The markers are known from now on, so nothing else is leased there.
        assert [host.cluster for host in list_hosts(lost)] == ["train-1", "train-1", ""]
        report = reconcile(lost, adopt=["train-1"])
        (cluster,) = Cluster.list()
        assert (cluster.name, cluster.state, len(cluster.nodes)) == ("train-1", ClusterState.READY, 2)
        cluster.terminate()
    assert [own.marker(index) for index in range(3)] == [None] * 3
    lost.close()


def test_two_ledgers_do_not_lease_the_same_machine(own: Machines, session: Session, inventory: Path) -> None:
    with request(name="mine") as mine:
        other = open_session(inventory, state=f"sqlite:///{inventory.parent}/other.db")
        with use_session(other):
            with pytest.raises(errors.CapacityError, match="leased to mine"):
                request(name="theirs")
            with request(8, name="small") as small:
                assert {node.id for node in small.nodes}.isdisjoint(node.id for node in mine.nodes)
        other.close()
        assert own.marker(0) is not None


def test_an_unreachable_machine_keeps_its_lease_and_is_reported(own: Machines, session: Session) -> None:
    cluster = request(name="train-1")
    own.hosts[1].cut()
    assert cluster.refresh().state is ClusterState.DEGRADED
    assert {node.id: node.state for node in cluster.nodes} == {
        own.id(0): NodeState.RUNNING,
        own.id(1): NodeState.IMPAIRED,
    }
    cluster.terminate(wait=False)
    assert cluster.state is ClusterState.TERMINATING
    assert own.marker(0) is None
    assert any(f"{own.id(1)}: " in event.message and "hosts --forget" in event.message for event in cluster.events())
    assert [host.state for host in list_hosts(session)] == ["free", "leased", "free"]
    own.hosts[1].restore()
    reap(session)
    assert cluster.refresh().state is ClusterState.TERMINATED
    assert own.marker(1) is None


def test_a_machine_that_is_gone_for_good_can_be_forgotten(own: Machines, session: Session) -> None:
    cluster = request(name="train-1")
    own.hosts[1].cut()
    cluster.terminate(wait=False)
    forget_host(session, own.id(1))
    cluster.terminate()
    assert cluster.state is ClusterState.TERMINATED
    with pytest.raises(errors.InvalidRequestError, match=r"10\.9\.9\.9: neither the inventory nor the ledger"):
        forget_host(session, "10.9.9.9")


def test_a_lease_is_extended_on_the_machines(own: Machines, session: Session) -> None:
    with request(name="train-1") as cluster:
        before = own.marker(0)
        until = cluster.extend("2h")
        after = own.marker(0)
        assert before is not None and after is not None and before != after
        assert after[1]["multicompute-expires-at"] == str(int(until.timestamp()))


def test_commands_run_on_the_leased_machines(own: Machines, session: Session) -> None:
    with request(name="train-1") as cluster:
        results = cluster.run(
            ["sh", "-c", "echo $MULTICOMPUTE_RANK $MULTICOMPUTE_NODES; cat ~/.multicompute/*/marker | head -1"]
        )
        assert [(result.rank, result.returncode) for result in results] == [(0, 0), (1, 0)]
        assert [result.stdout.split()[:2] for result in results] == [["0", "2"], ["1", "2"]]
        # The key that each showed at its lease is pinned.
        ways = targets(session, session.ledger.cluster(cluster.id), [0, 1])
        assert [way.host.host_key for way in ways] == [host.host_key for host in own.hosts[:2]]


def test_a_changed_host_key_sets_the_machine_aside(own: Machines, session: Session, inventory: Path) -> None:
    request(8, name="first").terminate()
    book = session.ledger.host_book("static")
    book.write(replace(book.notes()[own.id(0)], host_key=own.hosts[2].host_key))
    with request(8, name="second") as cluster:
        assert [node.id for node in cluster.nodes] == [own.id(1)]
    (aside, *_) = list_hosts(session)
    assert "is not the pinned one" in aside.reason


def test_nothing_of_a_request_is_on_a_command_line(own: Machines, session: Session) -> None:
    with request(8, name="train-1", setup="sleep 600 # secret-4711", tags={"team": "tag-4711"}):
        lines = " ".join(own.hosts[0].commands())
        # The process that watches the end of the lease, and the setup script.
        assert "host.sh" in lines and "setup" in lines
        assert "4711" not in lines and "train-1" not in lines


@pytest.fixture(autouse=True)
def _no_cluster_left(session: Session, own: Machines) -> Iterator[None]:
    yield
    for host in own.hosts:
        host.restore()
    for cluster in Cluster.list():
        cluster.terminate()
