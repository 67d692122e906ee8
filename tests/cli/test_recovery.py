"""`reconcile` and `reap` from the command line, on fake clouds."""

from collections.abc import Callable
from typing import Any

from multicompute import Cluster
from multicompute.provider import Selector
from multicompute.testing import FakeCloud, launch_request

Run = Callable[..., Any]
UP = ("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--no-progress", "--json")


def launch_unrecorded(cloud: FakeCloud) -> None:
    """Launch nodes with our tags that are in no ledger, as after its file was lost."""
    best = Cluster.plan(gpus=8, type="h100", clouds=["aws"]).best
    assert best is not None
    cloud.aws.launch(launch_request(best.parts[0].offer, cluster="lost-1", owner=cloud.session.config.owner))


def test_reconcile_without_findings_says_so(run: Run, fake_cloud: FakeCloud) -> None:
    done = run("reconcile")
    assert (done.status, done.out) == (0, "")
    assert "no resources left" in done.err


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
    launch_unrecorded(fake_cloud)
    before = fake_cloud.alive()
    done = run("reconcile", "--dry-run", "--json")
    assert done.status == 9
    assert [orphan["name"] for orphan in done.document["orphans"]] == ["lost-1"]
    assert fake_cloud.alive() == before
    shown = run("reconcile", "--dry-run")
    assert shown.status == 9
    assert "orphan" in shown.out
    assert "billable" in shown.out
    assert "nothing was changed" in shown.err
    _remove(fake_cloud)


def test_an_orphan_is_adopted_by_name(run: Run, fake_cloud: FakeCloud) -> None:
    launch_unrecorded(fake_cloud)
    fake_cloud.advance("5m")
    listed = run("reconcile")
    assert listed.status == 0
    assert "--adopt NAME" in listed.err
    assert run("ls", "--json").document == []
    preview = run("reconcile", "--adopt", "lost-1", "--dry-run", "--json")
    assert (preview.status, preview.document["adopted"], run("ls", "--json").document) == (9, ["lost-1"], [])
    done = run("reconcile", "--adopt", "lost-1")
    assert done.status == 0
    assert "adopted" in done.out and "live" in done.out
    (cluster,) = run("ls", "--json").document
    assert (cluster["name"], cluster["state"], cluster["expires_at"]) == ("lost-1", "READY", None)
    assert run("down", "lost-1", "--yes").status == 0
    assert fake_cloud.alive() == []


def test_terminate_without_names_deletes_all_orphans_and_waits(run: Run, fake_cloud: FakeCloud) -> None:
    launch_unrecorded(fake_cloud)
    done = run("reconcile", "--terminate", "--json")
    assert (done.status, done.document["terminated"], done.document["orphans"]) == (0, ["lost-1"], [])
    assert fake_cloud.alive() == []


def test_a_failed_termination_is_status_1(run: Run, fake_cloud: FakeCloud) -> None:
    launch_unrecorded(fake_cloud)
    fake_cloud.aws.faults.fail("terminate", "denied", times=1)
    done = run("reconcile", "--terminate", "lost-1", "--json")
    assert done.status == 1
    assert "not deleted completely" in done.document["failed"]["id-lost-1"]
    shown = run("reconcile", "--terminate", "id-lost-1")
    assert shown.status == 0
    assert fake_cloud.alive() == []


def test_a_name_that_is_no_orphan_is_refused_and_nothing_changes(run: Run, fake_cloud: FakeCloud) -> None:
    launch_unrecorded(fake_cloud)
    before = fake_cloud.alive()
    missing = run("reconcile", "--terminate", "lost-2")
    assert missing.status == 8
    assert "orphans are lost-1 (id-lost-1)" in missing.err
    both = run("reconcile", "--adopt", "lost-1", "--terminate", "lost-1")
    assert both.status == 2
    assert "can't be both adopted and terminated" in both.err
    assert fake_cloud.alive() == before
    assert run("reconcile", "--terminate").status == 0


def test_reap_terminates_clusters_whose_lease_has_ended(run: Run, fake_cloud: FakeCloud) -> None:
    assert run(*UP, "--name", "train-1", "--ttl", "1h").status == 0
    fake_cloud.advance("2h")
    assert run("reap", "--dry-run", "--json").document["terminated"] == ["train-1"]
    assert [cluster["state"] for cluster in run("ls", "--json").document] == ["READY"]
    done = run("reap")
    assert done.status == 0
    assert "train-1" in done.out
    assert fake_cloud.alive() == []


def test_a_reap_that_fails_is_status_1(run: Run, fake_cloud: FakeCloud) -> None:
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
