"""A real JAX on the CPUs of three hosts."""

import time

import pytest

from multicompute.errors import RunError
from multicompute.remote.launchers.jax import Jax, jax
from multicompute.remote.launchers.job import Job
from tests.remote.engines.conftest import Lines, running
from tests.remote.engines.cutting import cut_when
from tests.remote.hosts import Host

SCRIPT = """
import sys, time
import jax, jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from helper import NAME
devices = jax.devices()
sharding = NamedSharding(Mesh(devices, ("hosts",)), PartitionSpec("hosts"))
mine = jnp.array([jax.process_index() + 1.0])
numbers = jax.make_array_from_process_local_data(sharding, mine, (len(devices),))
total = jax.jit(jnp.sum, out_shardings=NamedSharding(sharding.mesh, PartitionSpec()))
print("sum", float(total(numbers)), "of", jax.process_count(), NAME, sys.argv[2:], __name__, flush=True)
if sys.argv[1] == "fail" and jax.process_index() == 2:
    raise ValueError("the loss is not a number")
if sys.argv[1] == "exit" and jax.process_index() == 1:
    sys.exit("no more data")
while sys.argv[1] != "once":
    total(numbers).block_until_ready()
    time.sleep(0.05)
"""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def _script(job: Job) -> None:
    job.nodes.run("mkdir -p code; cat >code/train.py", input=SCRIPT)
    job.nodes.run("echo 'NAME = \"helped\"' >code/helper.py")


def test_three_hosts_reduce_together(job: Job, python: str, lines: Lines, machines: list[Host]) -> None:
    results = jax(job, "code/train.py", ["once", "a b"], options=Jax(python=python))
    assert [result.returncode for result in results] == [0, 0, 0]
    assert lines.with_text("sum") == [(rank, "sum 6.0 of 3 helped ['a b'] __main__") for rank in range(3)]
    assert running(machines) == []


@pytest.mark.parametrize(("way", "rank", "line"), [("fail", 2, "ValueError: the loss"), ("exit", 1, "no more data")])
def test_a_rank_that_fails_ends_the_others_and_is_named(
    way: str, rank: int, line: str, job: Job, python: str, machines: list[Host]
) -> None:
    with pytest.raises(RunError) as caught:
        jax(job, "code/train.py", [way], options=Jax(python=python))
    assert caught.value.rank == rank
    assert line in str(caught.value)
    assert running(machines) == []


def test_a_host_that_is_cut_off_is_named_within_fifteen_seconds(
    job: Job, python: str, lines: Lines, machines: list[Host]
) -> None:
    with cut_when(machines[1], lambda: len(lines.with_text("sum")) == 3) as cut:
        with pytest.raises(RunError) as caught:
            jax(job, "code/train.py", ["forever"], options=Jax(python=python))
        assert cut.seconds() < 15 + 3
    assert caught.value.rank == 1
    assert "rank 1" in str(caught.value) and "no answer" in str(caught.value)
    assert running([machines[0], machines[2]]) == []
    machines[1].restore()
    deadline = time.monotonic() + 60
    while running([machines[1]]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
