"""A real torchrun with gloo on three hosts."""

import time

import pytest

from multicompute.errors import RunError
from multicompute.remote.launchers.job import Job
from multicompute.remote.launchers.torchrun import Torchrun, torchrun
from tests.remote.engines.conftest import Lines, running
from tests.remote.engines.cutting import cut_when
from tests.remote.hosts import Host

SCRIPT = """
import os, sys, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
number = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(number)
# In one piece: several processes of a host write to the same pipe.
line = f"sum {number.item()} of {dist.get_world_size()} on {os.environ['MULTICOMPUTE_RANK']} {sys.argv[2:]}"
os.write(1, f"{line}\\n".encode())
if sys.argv[1] == "fail" and dist.get_rank() == 2:
    raise ValueError("the loss is not a number")
while sys.argv[1] != "once":
    dist.all_reduce(number)
    time.sleep(0.05)
dist.destroy_process_group()
"""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def _script(job: Job) -> None:
    job.nodes.run("cat >train.py", input=SCRIPT)


def options(python: str, **changes: object) -> Torchrun:
    return Torchrun(python=python, nproc_per_node=1, **changes)  # type: ignore[arg-type]


def test_three_hosts_reduce_together(job: Job, python: str, lines: Lines, machines: list[Host]) -> None:
    results = torchrun(job, "train.py", ["once", "a b"], options=options(python))
    assert [result.returncode for result in results] == [0, 0, 0]
    assert lines.with_text("sum") == [(rank, f"sum 6.0 of 3 on {rank} ['a b']") for rank in range(3)]
    assert running(machines) == []


def test_several_processes_on_each_host(job: Job, python: str, lines: Lines) -> None:
    torchrun(job, "train.py", ["once"], options=Torchrun(python=python, nproc_per_node=2))
    assert len(lines.with_text("sum 21.0 of 6")) == 6


def test_the_command_on_the_path_is_found(job: Job, lines: Lines) -> None:
    torchrun(job, "train.py", ["once"], options=Torchrun(nproc_per_node=1))
    assert len(lines.with_text("sum 6.0 of 3")) == 3


def test_its_own_rendezvous_works_for_restarts(job: Job, python: str, lines: Lines) -> None:
    torchrun(job, "train.py", ["once"], options=options(python, max_restarts=1))
    assert len(lines.with_text("sum 6.0 of 3")) == 3


def test_a_rank_that_fails_ends_the_others_and_is_named(job: Job, python: str, machines: list[Host]) -> None:
    with pytest.raises(RunError) as caught:
        torchrun(job, "train.py", ["fail"], options=options(python))
    assert caught.value.rank == 2
    assert "ValueError: the loss is not a number" in str(caught.value)
    assert running(machines) == []


def test_a_host_that_is_cut_off_is_named_within_fifteen_seconds(
    job: Job, python: str, lines: Lines, machines: list[Host]
) -> None:
    with cut_when(machines[1], lambda: len(lines.with_text("sum")) == 3) as cut:
        with pytest.raises(RunError) as caught:
            torchrun(job, "train.py", ["forever"], options=options(python))
        assert cut.seconds() < 15 + 3
    assert caught.value.rank == 1
    assert "rank 1" in str(caught.value) and "no answer" in str(caught.value)
    assert running([machines[0], machines[2]]) == []
    machines[1].restore()
    deadline = time.monotonic() + 60
    while running([machines[1]]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
