"""A real Ray cluster on three hosts."""

import json
import time
import urllib.error
import urllib.request
from datetime import timedelta

import pytest

from multicompute.errors import RunError
from multicompute.remote.launchers.job import Job
from multicompute.remote.launchers.ray import Ray, ray
from tests.remote.engines.conftest import ENGINES, running
from tests.remote.hosts import Host

DRIVER = """
import os, socket, time
import ray
ray.init()
@ray.remote(num_cpus=0.5, scheduling_strategy="SPREAD")
def where():
    time.sleep(1)
    return socket.gethostname(), os.environ.get("MINE")
print("hosts", sorted(set(ray.get([where.remote() for _ in range(12)]))))
"""
pytestmark = pytest.mark.timeout(600)
OPTIONS = Ray(ray=str(ENGINES / "ray"), within=timedelta(minutes=4))


def test_a_task_runs_on_every_host_and_nothing_stays(job: Job, python: str, machines: list[Host]) -> None:
    with ray(job, options=OPTIONS) as cluster:
        assert cluster.address.startswith(f"{machines[0].address}:")
        submitted = cluster.submit([python, "-c", DRIVER], env={"MINE": "it's"})
        shown: list[str] = []
        written = submitted.wait(timeout=timedelta(minutes=4), on_output=shown.append)
        assert "".join(shown) == written
        assert submitted.status() == "SUCCEEDED"
        assert """hosts [('host0', "it's"), ('host1', "it's"), ('host2', "it's")]""" in written

        with pytest.raises(RunError, match=r"(?s)FAILED|failed.*boom"):
            cluster.submit("echo boom; exit 3").wait(timeout=timedelta(minutes=2))

        endless = cluster.submit("sleep 600")
        endless.stop()
        with pytest.raises(RunError, match="stopped"):
            endless.wait(timeout=timedelta(minutes=1))

        with urllib.request.urlopen(f"{cluster.dashboard_url}/api/version", timeout=30) as answer:
            assert "ray_version" in json.load(answer)
    assert running(machines) == []
    assert [result.stdout for result in job.nodes.run("ls -d /tmp/mc-* 2>/dev/null; true")] == ["", "", ""]


def test_a_host_that_is_cut_off_is_named_within_fifteen_seconds(job: Job, machines: list[Host]) -> None:
    with pytest.raises(RunError) as caught, ray(job, options=OPTIONS) as cluster:
        submitted = cluster.submit("sleep 600")
        time.sleep(3)
        machines[2].cut()
        start = time.monotonic()
        try:
            submitted.wait()
        finally:
            assert time.monotonic() - start < 15 + 5
    assert caught.value.rank == 2
    assert "rank 2" in str(caught.value) and "no answer" in str(caught.value)
    assert running(machines[:2]) == []
    machines[2].restore()
    deadline = time.monotonic() + 60
    while running([machines[2]]):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_with_a_token_nobody_else_may_submit(job: Job) -> None:
    from dataclasses import replace

    with ray(job, options=replace(OPTIONS, has_token=True)) as cluster:
        assert cluster.submit("echo mine").wait(timeout=timedelta(minutes=2)).endswith("mine\n")
        request = urllib.request.Request(
            f"{cluster.dashboard_url}/api/jobs/",
            data=b'{"entrypoint": "id"}',
            headers={"Content-Type": "application/json"},
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        assert caught.value.code in (401, 403)
        caught.value.close()


def test_a_ray_that_is_not_there_is_an_error_that_names_the_rank(job: Job) -> None:
    with pytest.raises(RunError, match="no-such-ray"), ray(job, options=Ray(ray="/no-such-ray")):
        pass
