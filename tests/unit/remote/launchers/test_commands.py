"""The commands that start the engines."""

import base64
import itertools
import re
from random import Random
from types import MappingProxyType
from typing import Any

import pytest

from multicompute.errors import SpecError
from multicompute.remote.launchers import jax, mpirun, ray, torchrun
from multicompute.remote.launchers.fabric import Facts
from multicompute.remote.launchers.job import Job
from multicompute.remote.launchers.layout import Layout, Member
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.target import SshHost, Target

LAYOUT = Layout("demo", (Member(0, "10.0.0.1", 8), Member(1, "10.0.0.2", 8)))
CPUS = Layout("demo", (Member(0, "10.0.0.1"), Member(1, "10.0.0.2")))


def job(layout: Layout = LAYOUT, **found: object) -> Job:
    targets = [Target(member.rank, SshHost(member.address)) for member in layout.members]
    facts = {member.rank: Facts(**found) for member in layout.members}  # type: ignore[arg-type]
    return Job(RemoteNodes(targets, random=Random(1)), layout, facts=facts, env={"MINE": "1"})


def torch(layout: Layout = LAYOUT, **options: object) -> list[str]:
    chosen = torchrun.Torchrun(python="/venv/bin/python", **options)  # type: ignore[arg-type]
    return torchrun.command(layout, 1, "train.py", ["--lr", "0.1"], port=23456, run_id="id", options=chosen)


def test_torchrun_meets_statically_at_the_head() -> None:
    assert torch() == [
        *("/venv/bin/python", "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "8"),
        *("--node-rank", "1", "--master-addr", "10.0.0.1", "--master-port", "23456", "train.py", "--lr", "0.1"),
    ]


def test_torchrun_with_restarts_meets_through_its_own_rendezvous() -> None:
    words = torch(max_restarts=3)
    assert "--node-rank" not in words
    pairs = dict(itertools.pairwise(words))
    assert pairs["--rdzv-backend"] == "c10d"
    assert pairs["--rdzv-endpoint"] == "10.0.0.1:23456"
    assert pairs["--rdzv-id"] == "id"
    assert pairs["--local-addr"] == "10.0.0.2"
    assert pairs["--max-restarts"] == "3"


@pytest.mark.parametrize(
    ("layout", "asked", "given"), [(LAYOUT, "auto", "8"), (CPUS, "auto", "auto"), (LAYOUT, 2, "2")]
)
def test_torchrun_starts_one_process_for_each_accelerator(layout: Layout, asked: object, given: str) -> None:
    words = torch(layout, nproc_per_node=asked)
    assert words[words.index("--nproc-per-node") + 1] == given


def test_torchrun_without_an_interpreter_is_looked_for_on_the_node() -> None:
    words = torchrun.command(LAYOUT, 0, "t.py", [], port=1, run_id="", options=torchrun.Torchrun())
    assert words[:2] == ["sh", "-c"]
    assert "command -v torchrun" in words[2]


def test_jax_gets_coordinator_count_and_rank() -> None:
    words = jax.command(job(), 1, "train.py", ["--lr", "0.1"], port=2345, options=jax.Jax(python="python3.12"))
    assert words == ["python3.12", "-c", jax.SHIM, "10.0.0.1:2345", "2", "1", "train.py", "--lr", "0.1"]


def test_jax_on_a_tpu_gets_no_argument() -> None:
    words = jax.command(job(is_tpu=True), 1, "train.py", [], port=2345, options=jax.Jax())
    assert words[3] == ""
    assert jax.variables(LAYOUT, 1, Facts(is_tpu=True), ports=(1, 2)) == {}


def test_jax_on_several_tpu_slices_gets_what_joins_them() -> None:
    layout = Layout("demo", (Member(0, "a", 4, 0), Member(1, "b", 4, 1)))
    assert jax.variables(layout, 1, Facts(is_tpu=True), ports=(1, 2)) == {
        "MEGASCALE_COORDINATOR_ADDRESS": "a",
        "MEGASCALE_NUM_SLICES": "2",
        "MEGASCALE_SLICE_ID": "1",
    }


def test_jax_on_trainium_gets_what_neuron_reads() -> None:
    layout = Layout("demo", (Member(0, "10.0.0.1", 16), Member(1, "10.0.0.2", 16)))
    assert jax.variables(layout, 1, Facts(neuron=16, product="trn2.48xlarge"), ports=(1, 2)) == {
        "JAX_COORDINATOR_ADDRESS": "10.0.0.1:1",
        "NEURON_RT_ROOT_COMM_ID": "10.0.0.1:2",
        "NEURON_PJRT_PROCESSES_NUM_DEVICES": "64,64",
        "NEURON_PJRT_PROCESS_INDEX": "1",
    }
    # How many cores a machine of another name has is not known.
    assert jax.variables(layout, 1, Facts(neuron=16), ports=(1, 2)) == {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1"}


def test_a_script_that_initializes_jax_itself_is_left_alone() -> None:
    assert jax.command(job(), 1, "t.py", ["a"], port=1, options=jax.Jax(initialize=False)) == ["python3", "t.py", "a"]


@pytest.mark.parametrize(("is_new", "tags"), [(False, ["--tag-output"]), (True, ["--output", "tag"])])
def test_mpirun_is_given_hosts_slots_and_the_user_s_variables(is_new: bool, tags: list[str]) -> None:
    words = mpirun.mpirun_command(
        "/opt/mpirun",
        ["./a.out", "x"],
        folder="/tmp/mc",
        slots=[8, 8],
        options=mpirun.Mpirun(options=("--bind-to", "none")),
        is_version_5=is_new,
        names=["MINE"],
    )
    assert words == [
        *("/opt/mpirun", "--hostfile", "/tmp/mc/hosts", "-np", "16", *tags),
        *("-x", "MINE", "--bind-to", "none", "./a.out", "x"),
    ]


def relay(**found: Any) -> mpirun._Relay:
    return mpirun._Relay(job(**found), "./a.out", [], mpirun.Mpirun(), [8, 8])


def test_mpirun_starts_when_its_agent_is_in_place() -> None:
    started = relay(mpirun="/usr/bin/mpirun")
    first = started.task()
    assert first.is_service and first.rank == 0 and re.fullmatch("/tmp/mc-[0-9a-f]{10}", first.scratch)
    assert started.listen(first, "stdout", b"Welcome!\nmulticompute-ready /tmp/mc-1 mpirun (Open ") == []
    (task,) = started.listen(first, "stdout", b"MPI) 4.1.4\n")
    assert task.command[0] == "/usr/bin/mpirun" and "--tag-output" in task.command
    assert task.rank == 0 and not task.is_service
    assert task.env["OMPI_MCA_plm_rsh_agent"] == "sh /tmp/mc-1/agent"
    assert task.env["OMPI_MCA_btl_tcp_if_include"] == "10.0.0.0/30"
    assert task.env["MULTICOMPUTE_RANK"] == "0"


def test_a_daemon_is_started_on_the_node_that_mpirun_asks_for() -> None:
    started = relay()
    first = started.task()
    line = b"10.0.0.2 " + base64.b64encode(b"orted -mca ess env") + b"\n"
    (daemon,) = started.listen(first, "stdout", line)
    assert (daemon.rank, daemon.command, daemon.is_service) == (1, "orted -mca ess env", True)
    assert daemon.env["MULTICOMPUTE_RANK"] == "1"


@pytest.mark.parametrize("line", [b"10.9.9.9 b3J0ZWQ=\n", b"10.0.0.2 not base64!\n", b"noise\n", b"\n"])
def test_what_the_agent_did_not_ask_for_starts_nothing(line: bytes) -> None:
    started = relay()
    assert started.listen(started.task(), "stdout", line) == []


def test_what_a_daemon_prints_starts_nothing() -> None:
    started = relay()
    line = b"10.0.0.2 " + base64.b64encode(b"rm -rf /") + b"\n"
    (daemon,) = started.listen(started.task(), "stdout", line)
    assert started.listen(daemon, "stdout", line) == []
    assert started.listen(started.task(), "stderr", line) == []


def test_mpirun_has_a_slot_for_each_accelerator_or_cpu() -> None:
    assert mpirun._slots(job(cpus=4), mpirun.Mpirun()) == [8, 8]
    assert mpirun._slots(job(CPUS, cpus=4), mpirun.Mpirun()) == [4, 4]
    assert mpirun._slots(job(CPUS, cpus=4), mpirun.Mpirun(slots=2)) == [2, 2]


def ray_command(rank: int) -> list[str]:
    options = ray.Ray(options=("--num-cpus", "4"))
    return ray.command(job(), rank, port=1, dashboard=2, client=3, scratch="/tmp/mc-1", options=options)


def test_ray_on_the_head_keeps_its_dashboard_to_the_node() -> None:
    words = ray_command(0)
    pairs = dict(itertools.pairwise(words))
    assert pairs["--dashboard-host"] == "127.0.0.1"
    assert pairs["--node-ip-address"] == "10.0.0.1"
    assert pairs["--temp-dir"] == "/tmp/mc-1/ray"
    assert {"--head", "--block", "--disable-usage-stats"} <= set(words)


def test_ray_on_the_others_joins_the_head_under_their_own_address() -> None:
    words = ray_command(1)
    pairs = dict(itertools.pairwise(words))
    assert pairs["--address"] == "10.0.0.1:1"
    assert pairs["--node-ip-address"] == "10.0.0.2"
    assert "--block" in words and "--head" not in words


def test_no_script_is_an_error_before_anything_is_started() -> None:
    for start in (torchrun.torchrun, jax.jax, mpirun.mpirun):
        with pytest.raises(SpecError, match="name the"):
            start(Job(job().nodes, LAYOUT, facts=MappingProxyType({})), "")
