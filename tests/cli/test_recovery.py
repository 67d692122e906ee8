"""`reconcile` and `reap` from the command line, on clouds in memory."""

from collections.abc import Callable
from typing import Any

from multicompute import Cluster
from multicompute.provider import Selector
from multicompute.testing import FakeCloud, launch_request

Run = Callable[..., Any]
UP = ("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--no-progress", "--json")


def stray(cloud: FakeCloud) -> None:
    """Machines with our tags that are in no ledger, as when the file was lost."""
    best = Cluster.plan(gpus=8, type="h100", clouds=["aws"]).best
    assert best is not None
    cloud.aws.launch(launch_request(best.parts[0].offer, cluster="lost-1", owner=cloud.session.config.owner))


def test_reconcile_where_all_is_well_says_so(run: Run, fake_cloud: FakeCloud) -> None:
    done = run("reconcile")
    assert (done.status, done.out) == (0, "")
    assert "nothing of ours is left" in done.err


def test_reconcile_is_the_document_of_the_contract(run: Run, fake_cloud: FakeCloud) -> None:
    assert run(*UP, "--name", "train-1").status == 0
    done = run("reconcile", "--dry-run", "--json")
    assert done.status == 0
    assert done.document["clusters"] == ["train-1"]
    assert {key: done.document[key] for key in ("adopted", "terminated", "orphans", "in_doubt")} == {
        "adopted": [],
        "terminated": [],
        "orphans": [],
        "in_doubt": [],
    }
    assert run("down", "train-1", "--yes").status == 0


def test_a_leak_is_status_9_of_a_dry_run_and_is_left_alone(run: Run, fake_cloud: FakeCloud) -> None:
    stray(fake_cloud)
    before = fake_cloud.alive()
    done = run("reconcile", "--dry-run", "--json")
    assert done.status == 9
    assert [orphan["name"] for orphan in done.document["orphans"]] == ["lost-1"]
    assert fake_cloud.alive() == before
    shown = run("reconcile", "--dry-run")
    assert shown.status == 9
    assert "orphan" in shown.out
    assert "costs money" in shown.out
    assert "nothing was done" in shown.err
    _remove(fake_cloud)


def test_reap_ends_what_has_outlived_its_ttl(run: Run, fake_cloud: FakeCloud) -> None:
    assert run(*UP, "--name", "train-1", "--ttl", "1h").status == 0
    fake_cloud.advance("2h")
    assert run("reap", "--dry-run", "--json").document["terminated"] == ["train-1"]
    assert [cluster["state"] for cluster in run("ls", "--json").document] == ["READY"]
    done = run("reap")
    assert done.status == 0
    assert "train-1" in done.out
    assert fake_cloud.alive() == []


def test_reap_that_does_not_get_through_is_a_failure(run: Run, fake_cloud: FakeCloud) -> None:
    assert run(*UP, "--name", "train-1", "--ttl", "1h").status == 0
    fake_cloud.advance("2h")
    fake_cloud.aws.faults.fail("terminate", "denied", times=1)
    done = run("reap")
    assert done.status == 1
    assert "train-1" in done.out
    assert run("reap").status == 0
    assert fake_cloud.alive() == []


def _remove(cloud: FakeCloud) -> None:
    while not cloud.aws.terminate(Selector(cluster_id="id-lost-1")).is_done:
        cloud.advance("1m")
