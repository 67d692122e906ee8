"""Orphans are listed, adopted and terminated, and foreign resources are not; on clouds in memory whose ledger was lost."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.recovery.inventory import EVERY
from multicompute.engine.recovery.reap import reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.ledger import AttemptRecord, AttemptState
from multicompute.offer import InstanceType, Offer, Quote
from multicompute.provider import TAG_ID
from multicompute.session import Session, use_session
from multicompute.testing import FakeCloud, fake_cloud, launch_request


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws", "gcp", "azure") as cloud:
        for provider in cloud.providers.values():
            provider.add_foreign()
        yield cloud
        assert all(provider.foreign_intact() for provider in cloud.providers.values())


@contextmanager
def other_ledger(cloud: FakeCloud, folder: Path, name: str = "new.db") -> Iterator[Session]:
    """Use the same clouds with another ledger, which is empty unless the file exists."""
    config = cloud.session.config.model_copy(update={"state": f"sqlite:///{folder / name}"})
    session = Session(config=config, plugins=cloud.session.plugins, clock=cloud.clock, random=cloud.session.random)
    try:
        with use_session(session):
            yield session
    finally:
        session.close()


def test_orphans_of_all_clouds_are_listed_and_left_alone(cloud: FakeCloud, tmp_path: Path) -> None:
    for name in ("aws", "gcp", "azure"):
        Cluster.request(gpus=8, type="h100", clouds=[name], name=f"on-{name}", ttl="2h")
    before = cloud.alive()
    with other_ledger(cloud, tmp_path) as session:
        report = reconcile(session)
        assert [(each.provider, each.name) for each in report.orphans] == [
            ("aws", "on-aws"),
            ("gcp", "on-gcp"),
            ("azure", "on-azure"),
        ]
        assert all(each.to_dict()["billable"] for each in report.orphans)
        assert (report.adopted, report.terminated, report.failed, report.notes) == ([], [], {}, [])
        assert Cluster.list() == []
        assert cloud.alive() == before
        assert sorted(reconcile(session, terminate=EVERY).terminated) == ["on-aws", "on-azure", "on-gcp"]
        assert cloud.alive() == []


def test_an_adopted_cluster_has_what_it_had_before(cloud: FakeCloud, tmp_path: Path) -> None:
    old = Cluster.request(gpus=16, type="h100", name="train", ttl="5h", clouds=["aws"], tags={"team": "nlp"})
    with other_ledger(cloud, tmp_path) as session:
        report = reconcile(session, adopt=["train"])
        assert (report.adopted, report.orphans, report.failed, report.clusters) == (["train"], [], {}, ["train"])
        new = Cluster.get("train")
        assert (new.id, new.state, new.provider, new.region, new.zone) == (
            old.id,
            ClusterState.READY,
            old.provider,
            old.region,
            old.zone,
        )
        assert [(node.id, node.rank) for node in new.nodes] == [(node.id, node.rank) for node in old.nodes]
        assert (new.gpus, new.tags, new.hourly_cost) == (16, {"team": "nlp"}, old.hourly_cost)
        assert new.spec.type == tuple({node.instance_type for node in old.nodes})
        assert new.expires_at is not None and old.expires_at is not None
        assert int(new.expires_at.timestamp()) == int(old.expires_at.timestamp())
        (event,) = new.events()
        assert event.kind == "adopted" and "found by its tags" in event.message
        assert new.refresh().state is ClusterState.READY
        assert reconcile(session).orphans == []
        new.extend("1h")
        new.terminate()
        assert cloud.alive() == []


def test_the_same_request_again_returns_the_adopted_cluster(cloud: FakeCloud, tmp_path: Path) -> None:
    # Nodes have eight accelerators, so there is a surplus of four.
    arguments: dict[str, Any] = {
        "gpus": 12,
        "allow_surplus": True,
        "type": "h100",
        "vcpus": 192,
        "budget": 900.0,
        "tags": {"team": "nlp"},
        "clouds": ["aws"],
    }
    old = Cluster.request(**arguments, name="train")
    with other_ledger(cloud, tmp_path) as session:
        reconcile(session, adopt=EVERY)
        bought = len(cloud.alive())
        again = Cluster.request(**arguments, name="train")
        assert (again.id, len(cloud.alive())) == (old.id, bought)
        by_type = Cluster.request(nodes=2, type=old.head.instance_type, name="train", regions=[str(old.region)])
        assert by_type.id == old.id
        again.terminate()


@pytest.mark.parametrize(
    "other",
    [
        {"gpus": 24, "type": "h100"},
        {"gpus": 8, "type": "h100"},
        {"gpus": 16, "type": "a100"},
        {"gpus": 16, "type": "h100", "clouds": ["gcp"]},
        {"gpus": 16, "type": "h100", "regions": ["eu"]},
        {"gpus": 16, "type": "h100", "nodes": 4},
    ],
    ids=["more", "fewer", "another type", "another cloud", "another continent", "more nodes"],
)
def test_a_request_that_the_adopted_cluster_does_not_fit_is_refused(
    cloud: FakeCloud, tmp_path: Path, other: dict[str, Any]
) -> None:
    Cluster.request(gpus=16, type="h100", name="train", clouds=["aws"], regions=["us"])
    with other_ledger(cloud, tmp_path) as session:
        reconcile(session, adopt=EVERY)
        before = len(cloud.alive())
        with pytest.raises(errors.ClusterExists, match="was adopted and has 2 x p5"):
            Cluster.request(**other, name="train")
        assert len(cloud.alive()) == before
        Cluster.get("train").terminate()


def test_a_cluster_that_boots_or_has_lost_a_node_is_adopted_as_degraded(cloud: FakeCloud, tmp_path: Path) -> None:
    halved = Cluster.request(gpus=16, type="h100", name="halved", clouds=["gcp"])
    Cluster.request(gpus=8, type="h100", name="booting", wait=False, clouds=["aws"])
    cloud.gcp.preempt(halved.nodes[0].id)
    with other_ledger(cloud, tmp_path) as session:
        reconcile(session, adopt=EVERY)
        assert Cluster.get("booting").state is ClusterState.DEGRADED
        assert Cluster.get("halved").state is ClusterState.DEGRADED
        assert [node.id for node in Cluster.get("halved").nodes] == [halved.nodes[1].id]
        cloud.advance("1m")
        reconcile(session)
        assert Cluster.get("booting").state is ClusterState.READY
        assert Cluster.get("halved").state is ClusterState.DEGRADED
        for cluster in Cluster.list():
            cluster.terminate()
        assert cloud.alive() == []


def test_two_clusters_of_one_name_are_chosen_by_id(cloud: FakeCloud, tmp_path: Path) -> None:
    first = Cluster.request(gpus=8, type="h100", name="twin", clouds=["aws"])
    with other_ledger(cloud, tmp_path, "second.db"):
        second = Cluster.request(gpus=8, type="h100", name="twin", clouds=["gcp"])
    with other_ledger(cloud, tmp_path) as session:
        before = cloud.alive()
        with pytest.raises(errors.SpecError, match="2 orphans have this name"):
            reconcile(session, terminate=["twin"])
        assert cloud.alive() == before
        dry = reconcile(session, adopt=["twin"], dry_run=True)
        assert (dry.adopted, len(dry.failed), Cluster.list()) == (["twin"], 1, [])
        report = reconcile(session, adopt=["twin"])
        assert report.adopted == ["twin"]
        ((refused, why),) = report.failed.items()
        assert {refused, Cluster.get("twin").id} == {first.id, second.id}
        assert "another live cluster has this name" in why and f"--terminate {refused}" in why
        assert [orphan.cluster_id for orphan in report.orphans] == [refused]
        assert reconcile(session, terminate=[refused]).terminated == ["twin"]
        Cluster.get("twin").terminate()
        assert cloud.alive() == []


def test_a_name_that_is_no_orphan_is_refused_with_the_orphans_there_are(cloud: FakeCloud, tmp_path: Path) -> None:
    Cluster.request(gpus=8, type="h100", name="train", clouds=["aws"])
    with other_ledger(cloud, tmp_path) as session:
        before = cloud.alive()
        wrong: tuple[dict[str, Any], ...] = (
            {"adopt": ["trian"]},
            {"terminate": ["trian"]},
            {"terminate": ["c-of-another"]},
        )
        for option in wrong:
            with pytest.raises(errors.ClusterNotFound, match=r"no orphan of this name or id; orphans are train \(c-"):
                reconcile(session, **option)
        with pytest.raises(errors.SpecError, match="train: can't be both adopted and terminated"):
            reconcile(session, adopt=["train"], terminate=EVERY)
        assert (cloud.alive(), Cluster.list()) == (before, [])
        reconcile(session, terminate=["train"])
    assert cloud.alive() == []


def test_a_dry_run_reports_what_would_be_done(cloud: FakeCloud, tmp_path: Path) -> None:
    Cluster.request(gpus=8, type="h100", name="keep", clouds=["aws"])
    Cluster.request(gpus=8, type="h100", name="drop", clouds=["gcp"])
    with other_ledger(cloud, tmp_path) as session:
        before = cloud.alive()
        report = reconcile(session, adopt=["keep"], terminate=["drop"], dry_run=True)
        assert (report.adopted, report.terminated, report.orphans, report.is_leak) == (["keep"], ["drop"], [], True)
        assert (cloud.alive(), Cluster.list()) == (before, [])
        reconcile(session, terminate=EVERY)


def test_what_is_left_of_a_cluster_without_nodes_can_only_be_terminated(cloud: FakeCloud, tmp_path: Path) -> None:
    best = Cluster.plan(gpus=8, type="h100", clouds=["aws"]).best
    assert best is not None
    cloud.aws.set_capacity("*", "*", 0)
    with pytest.raises(errors.CapacityError):
        cloud.aws.launch(launch_request(best.parts[0].offer, cluster="stub", owner=cloud.session.config.owner))
    assert [item.kind for item in cloud.alive()] == ["group"]
    with other_ledger(cloud, tmp_path) as session:
        report = reconcile(session, adopt=["stub"])
        assert "it has no node that runs, only group" in report.failed["id-stub"]
        assert reconcile(session, terminate=["stub"]).terminated == ["stub"]
    assert cloud.alive() == []


def test_dependent_resources_in_other_regions_are_adopted_and_terminated_with_their_cluster(
    cloud: FakeCloud, tmp_path: Path
) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="train", clouds=["aws"], regions=["us-east-1"])
    far = Cluster.plan(gpus=8, type="h100", clouds=["aws"], regions=["us-west-2"]).best
    assert far is not None
    cloud.aws.set_capacity("*", "us-west-2", 0)
    request = launch_request(far.parts[0].offer, cluster="train", owner=cloud.session.config.owner, token="t-far")
    tags = {**request.tags, TAG_ID: cluster.id}
    with pytest.raises(errors.CapacityError):
        cloud.aws.launch(replace(request, cluster_id=cluster.id, tags=tags))
    assert {item.region for item in cloud.alive()} == {"us-east-1", "us-west-2"}
    with other_ledger(cloud, tmp_path) as session:
        assert reconcile(session, adopt=["train"]).adopted == ["train"]
        assert {item.region for item in cloud.alive()} == {"us-east-1", "us-west-2"}
        Cluster.get("train").terminate()
    assert cloud.alive() == []


def test_a_cloud_that_can_t_be_asked_is_noted_and_the_others_are_done(cloud: FakeCloud, tmp_path: Path) -> None:
    Cluster.request(gpus=8, type="h100", name="on-aws", clouds=["aws"])
    Cluster.request(gpus=8, type="h100", name="on-gcp", clouds=["gcp"])
    with other_ledger(cloud, tmp_path) as session:
        cloud.gcp.faults.fail("resources", "denied", times=1)
        report = reconcile(session, terminate=EVERY)
        assert report.terminated == ["on-aws"]
        assert report.coverage.not_asked["gcp"].startswith("could not be listed")
        assert {item.provider for item in cloud.alive()} == {"gcp"}
        assert reconcile(session, terminate=EVERY).terminated == ["on-gcp"]
    assert cloud.alive() == []


def test_a_termination_that_fails_is_reported_and_can_be_repeated(cloud: FakeCloud, tmp_path: Path) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="train", clouds=["aws"])
    with other_ledger(cloud, tmp_path) as session:
        cloud.aws.faults.fail("terminate", "denied", times=1)
        report = reconcile(session, terminate=["train"])
        assert report.terminated == []
        assert "not deleted completely" in report.failed[cluster.id]
        assert [orphan.name for orphan in report.orphans] == ["train"]
        cloud.aws.faults.fail("terminate", "throttled", times=2)
        assert reconcile(session, terminate=["train"]).terminated == ["train"]
    assert cloud.alive() == []


def test_a_termination_waits_for_nodes_that_listings_do_not_show_yet(cloud: FakeCloud, tmp_path: Path) -> None:
    best = Cluster.plan(gpus=8, type="h100", clouds=["aws"]).best
    assert best is not None
    offer, owner = best.parts[0].offer, cloud.session.config.owner
    cloud.aws.launch(launch_request(offer, cluster="late", owner=owner))
    cloud.aws.lag = cloud.aws.consistency_window * 0.9
    cloud.aws.launch(launch_request(offer, cluster="late", token="attempt-2", owner=owner))
    with other_ledger(cloud, tmp_path) as session:
        assert reconcile(session, terminate=["late"]).terminated == ["late"]
    assert cloud.alive() == []


def test_an_orphan_that_another_process_works_on_is_left_alone(cloud: FakeCloud, tmp_path: Path) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="train", clouds=["aws"])
    with other_ledger(cloud, tmp_path) as session:
        before = cloud.alive()
        now = cloud.clock.now()
        session.ledger.take_lease(cluster.id, "elsewhere", now=now, length=cloud.aws.attempt_timeout)
        every: tuple[dict[str, Any], ...] = ({"adopt": EVERY}, {"terminate": EVERY})
        for options in every:
            assert "another process works on it" in reconcile(session, **options).failed[cluster.id]
        assert (cloud.alive(), Cluster.list()) == (before, [])
    cluster.terminate()


def test_an_older_ledger_is_told_by_the_tags_that_the_cluster_was_extended(cloud: FakeCloud, tmp_path: Path) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="train", ttl="1h", clouds=["aws"])
    copy_ledger(cloud, tmp_path / "older.db")
    later = cluster.extend("6h")
    cloud.advance("2h")
    with other_ledger(cloud, tmp_path, "older.db") as session:
        # By this ledger the cluster has expired; by its tags it has not.
        dry = reap(session, dry_run=True)
        assert dry.terminated == [] and "by its tags" in dry.notes[0]
        assert reap(session).terminated == []
        assert Cluster.get("train").expires_at == later.replace(microsecond=0)
        assert Cluster.get("train").state is ClusterState.READY
    cluster.terminate()


def test_an_expiry_is_not_taken_from_tags_while_a_node_may_be_missing_from_listings(
    cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster.request(gpus=16, type="h100", name="train", ttl="1h", clouds=["aws"])
    before, hidden = cluster.expires_at, cluster.nodes[1].id
    copy_ledger(cloud, tmp_path / "older.db")
    later = cluster.extend("6h")
    resources = cloud.aws.resources
    with other_ledger(cloud, tmp_path, "older.db") as session:
        with monkeypatch.context() as patch:
            patch.setattr(
                cloud.aws, "resources", lambda selector: tuple(r for r in resources(selector) if r.id != hidden)
            )
            assert reconcile(session).notes == []
            assert Cluster.get("train").expires_at == before
        cloud.advance(cloud.aws.consistency_window)
        assert "by its tags" in reconcile(session).notes[0]
        assert Cluster.get("train").expires_at == later.replace(microsecond=0)
    cluster.terminate()


def test_a_reap_continues_if_a_later_expiry_can_not_be_written(cloud: FakeCloud, tmp_path: Path) -> None:
    train, other = (
        Cluster.request(gpus=8, type="h100", name=name, ttl="1h", clouds=["aws"]) for name in ("train", "other")
    )
    copy_ledger(cloud, tmp_path / "older.db")
    train.extend("6h")
    cloud.advance("2h")
    with other_ledger(cloud, tmp_path, "older.db") as session:
        cloud.aws.faults.fail("set_expiry", "denied", times=1)
        report = reap(session)
        assert report.terminated == [other.name]
        assert report.notes[0].startswith("train: ")
        assert Cluster.get("train").state is ClusterState.READY
    train.terminate()


def test_a_reap_takes_the_expiry_from_the_tags_under_the_lease_only(cloud: FakeCloud, tmp_path: Path) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="train", ttl="1h", clouds=["aws"])
    copy_ledger(cloud, tmp_path / "older.db")
    later = cluster.extend("6h")
    cloud.advance("2h")
    length = timedelta(minutes=2)
    with other_ledger(cloud, tmp_path, "older.db") as session:
        holders: list[str] = []

        def record_holder(call: object) -> None:
            holders.append(session.ledger.take_lease(cluster.id, "other", now=cloud.clock.now(), length=length))

        session.ledger.take_lease(cluster.id, "other", now=cloud.clock.now(), length=length)
        report = reap(session)
        assert (report.terminated, report.notes) == ([], ["train: another process works on it"])
        assert Cluster.get("train").expires_at != later.replace(microsecond=0)
        cloud.advance(length)
        cloud.aws.faults.hook("set_expiry", record_holder)
        assert reap(session).terminated == []
        assert Cluster.get("train").expires_at == later.replace(microsecond=0)
        assert len(holders) == 1 and holders != ["other"]
    cluster.terminate()


def test_reconcile_takes_the_expiry_from_the_tags(cloud: FakeCloud, tmp_path: Path) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="train", ttl="1h", clouds=["aws"])
    copy_ledger(cloud, tmp_path / "older.db")
    later = cluster.extend("6h")
    with other_ledger(cloud, tmp_path, "older.db") as session:
        assert "by its tags" in reconcile(session, dry_run=True).notes[0]
        assert "by its tags" in reconcile(session).notes[0]
        assert Cluster.get("train").expires_at == later.replace(microsecond=0)
        assert reconcile(session).notes == []
    cluster.terminate()


@pytest.mark.parametrize("has_attempt", [False, True], ids=["before the attempt", "while it launched"])
def test_a_cluster_that_came_up_after_the_copy_of_the_ledger_is_taken_back(
    cloud: FakeCloud, tmp_path: Path, has_attempt: bool
) -> None:
    # The ledger is restored from a copy that was made while the cluster was being requested.
    cluster = Cluster.request(gpus=16, type="h100", name="train", ttl="5h", clouds=["aws"])
    with other_ledger(cloud, tmp_path) as session:
        record = cloud.session.ledger.cluster(cluster.id)
        (attempt,) = cloud.session.ledger.attempts(cluster.id)
        early = replace(record, state=ClusterState.REQUESTED, provider=None, region=None, zone=None)
        known: list[AttemptRecord] = []
        if has_attempt:
            early, known = replace(record, state=ClusterState.PROVISIONING), [replace(attempt, state=AttemptState.OPEN)]
        session.ledger.adopt(early, known, [])
        before = cloud.alive()
        assert reconcile(session, dry_run=True).adopted == ["train"]
        assert Cluster.get("train").state is early.state
        assert reconcile(session).adopted == ["train"]
        again = Cluster.get("train")
        assert (again.state, again.provider, again.zone) == (ClusterState.READY, "aws", cluster.zone)
        assert [node.id for node in again.nodes] == [node.id for node in cluster.nodes]
        assert cloud.alive() == before
        assert Cluster.request(gpus=16, type="h100", name="train", ttl="5h", clouds=["aws"]).id == cluster.id
        again.terminate()
        assert cloud.alive() == []


def test_a_cluster_that_was_healed_after_the_copy_of_the_ledger_is_taken_back(cloud: FakeCloud, tmp_path: Path) -> None:
    cluster = Cluster.request(gpus=16, type="h100", name="train", clouds=["aws"])
    copy_ledger(cloud, tmp_path / "older.db")
    cloud.aws.preempt(cluster.nodes[0].id)
    cluster.heal()
    healed = {node.id: node.rank for node in cluster.nodes}
    before = cloud.alive()
    with other_ledger(cloud, tmp_path, "older.db") as session:
        assert reconcile(session).adopted == ["train"]
        again = Cluster.get("train")
        assert again.state is ClusterState.READY
        assert {node.id: node.rank for node in again.nodes} == healed
        again.heal()
        assert cloud.alive() == before
        assert (reconcile(session).adopted, reconcile(session).is_leak) == ([], False)
        again.terminate()
        assert cloud.alive() == []


def test_attached_accelerators_and_spot_purchases_are_adopted_as_such(cloud: FakeCloud, tmp_path: Path) -> None:
    requests: dict[str, dict[str, Any]] = {
        "small": {"gpus": 2, "type": "t4"},
        "cheap": {"gpus": 16, "type": "h100", "spot": True},
    }
    costs = {}
    for name, arguments in requests.items():
        cluster = Cluster.request(**arguments, name=name, clouds=["gcp"])
        costs[name] = cluster.hourly_cost
    with other_ledger(cloud, tmp_path) as session:
        assert sorted(reconcile(session, adopt=EVERY).adopted) == ["cheap", "small"]
        assert {cluster.name: cluster.hourly_cost for cluster in Cluster.list()} == costs
        for name, arguments in requests.items():
            assert Cluster.request(**arguments, name=name, clouds=["gcp"]).gpus == arguments["gpus"]
        with pytest.raises(errors.ClusterExists):
            Cluster.request(gpus=2, type="v100", name="small", clouds=["gcp"])
        for cluster in Cluster.list():
            cluster.terminate()
    assert cloud.alive() == []


def test_nodes_that_are_in_no_offer_table_can_only_be_terminated(cloud: FakeCloud, tmp_path: Path) -> None:
    offer = Offer(InstanceType("aws", "new.large"), "us-east-1", "us-east-1a", "on_demand", Quote(1.0, date.min, "x"))
    cloud.aws.launch(launch_request(offer, cluster="new", owner=cloud.session.config.owner))
    with other_ledger(cloud, tmp_path) as session:
        assert "new.large is in no offer table" in reconcile(session, adopt=["new"]).failed["id-new"]
        assert reconcile(session, terminate=["new"]).terminated == ["new"]
    assert cloud.alive() == []


def test_a_cluster_in_two_clouds_is_adopted_as_one(cloud: FakeCloud, tmp_path: Path) -> None:
    owner = cloud.session.config.owner
    for name in ("aws", "azure"):
        best = Cluster.plan(gpus=8, type="h100", clouds=[name]).best
        assert best is not None
        request = launch_request(best.parts[0].offer, nodes=1, cluster="wide", token=f"t-{name}", owner=owner)
        cloud[name].launch(request)
    cloud.advance("1m")
    with other_ledger(cloud, tmp_path) as session:
        report = reconcile(session, adopt=["wide"])
        assert (report.adopted, report.failed) == (["wide"], {})
        wide = Cluster.get("wide")
        assert (wide.state, wide.gpus, wide.spec.placement) == (ClusterState.READY, 16, "any")
        assert {node.provider for node in wide.nodes} == {"aws", "azure"}
        wide.terminate()
    assert cloud.alive() == []


def copy_ledger(cloud: FakeCloud, to: Path) -> None:
    """Copy the ledger, as a backup does."""
    source = sqlite3.connect(cloud.session.config.state.removeprefix("sqlite:///"))
    copy = sqlite3.connect(to)
    source.backup(copy)
    source.close()
    copy.close()


def test_an_attempt_that_the_ledger_of_a_ready_cluster_does_not_have_is_recorded_once(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", clouds=["aws"], name="train-1")
    record = cloud.session.ledger.find("train-1")
    extra = launch_request(cluster.plan.candidates[0].parts[0].offer, nodes=1, cluster="train-1", owner=record.owner)
    tags = {**extra.tags, TAG_ID: record.id}
    cloud.aws.launch(replace(extra, cluster_id=record.id, tags=tags))
    cloud.advance("2m")
    assert reconcile(cloud.session).adopted == ["train-1"]
    assert [(node.rank, node.id) for node in Cluster.get("train-1").nodes] == list(enumerate(cloud.aws.running_ids()))
    assert Cluster.get("train-1").hourly_cost == pytest.approx(2 * 55.04)
    assert reconcile(cloud.session).adopted == []
    Cluster.get("train-1").terminate()
    assert cloud.alive() == []
