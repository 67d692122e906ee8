"""A cluster whose machines are in another account than the credentials is left alone, in the clouds and in the ledger."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.recovery.reap import reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.engine.upkeep.refresh import refresh_all
from multicompute.monitor.supervise import supervise
from multicompute.provider import TAG_CLUSTER, TAG_ID, TAG_OWNER
from multicompute.session import Session, use_session
from multicompute.testing import FakeCloud, fake_cloud, launch_request
from multicompute.testing.fake.provider import FakeProvider
from multicompute.testing.fake.session import FakePlugin

OWNER, OTHER = "aws account main", "aws account other"


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws", "gcp") as cloud:
        yield cloud


@contextmanager
def other_account(cloud: FakeCloud) -> Iterator[Session]:
    """Use the same ledger with credentials of another AWS account, which has nothing of ours."""
    other = FakeProvider("aws", clock=cloud.clock, account="other")
    plugins = {**cloud.session.plugins}
    plugins["aws"] = FakePlugin("aws", tables=plugins["aws"].tables, provider=other)
    session = Session(config=cloud.session.config, plugins=plugins, clock=cloud.clock, random=cloud.session.random)
    try:
        with use_session(session):
            yield session
    finally:
        session.close()


def request(**arguments: object) -> Cluster:
    return Cluster.request(gpus=16, type="h100", name="train-1", **{"clouds": ["aws"], **arguments})  # type: ignore[arg-type]


OPERATIONS: dict[str, Callable[[Cluster], object]] = {
    "refresh": lambda cluster: cluster.refresh(),
    "terminate": lambda cluster: cluster.terminate(),
    "heal": lambda cluster: cluster.heal(),
    "extend": lambda cluster: cluster.extend("1h"),
    "wait_for": lambda cluster: cluster.wait_for("DEGRADED", timeout="1m"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_names_the_account_of_the_cluster_and_changes_nothing(cloud: FakeCloud, operation: str) -> None:
    request()
    alive, events = cloud.alive(), Cluster.get("train-1").events()
    with other_account(cloud):
        cluster = Cluster.get("train-1")
        with pytest.raises(errors.WrongAccountError, match=f"train-1 is in {OWNER}.*belong to {OTHER}"):
            OPERATIONS[operation](cluster)
        after = Cluster.get("train-1")
        assert (after.state, after.expires_at) == (ClusterState.READY, cluster.expires_at)
        assert after.events() == events
    assert cloud.alive() == alive
    assert Cluster.get("train-1").refresh().state is ClusterState.READY


def test_a_with_block_that_ends_with_other_credentials_leaves_the_cluster_and_raises(cloud: FakeCloud) -> None:
    cluster = request()
    with other_account(cloud), pytest.raises(errors.WrongAccountError), Cluster.get("train-1"):
        pass
    assert cluster.refresh().state is ClusterState.READY


def test_a_refresh_of_all_clusters_notes_those_of_other_accounts(cloud: FakeCloud) -> None:
    request()
    with other_account(cloud) as session:
        report = refresh_all(session)
        assert report.changed == []
        (note,) = report.coverage.problems()
        assert f"train-1 is in {OWNER}" in note
        assert Cluster.get("train-1").state is ClusterState.READY


@pytest.mark.parametrize("dry_run", [True, False])
def test_reconcile_skips_clusters_of_other_accounts_and_says_so(cloud: FakeCloud, dry_run: bool) -> None:
    request()
    with other_account(cloud) as session:
        report = reconcile(session, dry_run=dry_run)
        assert (report.terminated, report.in_doubt, report.orphans) == ([], [], [])
        assert list(report.skipped) == ["train-1"]
        assert f"train-1 is in {OWNER}" in report.skipped["train-1"]
    assert len(cloud.aws.running_ids()) == 2


def test_a_reap_does_not_record_an_expired_cluster_of_another_account_as_ended(cloud: FakeCloud) -> None:
    request(ttl="1h")
    cloud.aws.capabilities -= {"expiry"}
    with other_account(cloud) as session:
        cloud.advance("2h")
        report = reap(session)
        assert report.terminated == []
        assert f"train-1 is in {OWNER}" in report.failed["train-1"]
        assert Cluster.get("train-1").state is ClusterState.READY


def test_a_supervisor_counts_clusters_of_other_accounts_as_errors(cloud: FakeCloud) -> None:
    request()
    with other_account(cloud) as session:
        last = supervise(session, rounds=1)
        assert last is not None
        assert last.errors >= 1
        assert any(f"train-1 is in {OWNER}" in note for note in last.notes)
    assert len(cloud.aws.running_ids()) == 2


def test_the_part_of_a_cluster_in_the_own_accounts_is_torn_down_and_the_rest_is_said(cloud: FakeCloud) -> None:
    cluster = request()
    # A restored older copy of the ledger does not have the second attempt; a reconcile adds it.
    launched = launch_request(Cluster.plan(gpus=8, type="h100", clouds=["gcp"]).candidates[0].parts[0].offer, nodes=1)
    ours = {TAG_ID: cluster.id, TAG_CLUSTER: cluster.name, TAG_OWNER: cloud.session.config.owner}
    cloud.gcp.launch(
        replace(
            launched,
            cluster_id=cluster.id,
            cluster_name=cluster.name,
            owner=ours[TAG_OWNER],
            tags={**launched.tags, **ours},
        )
    )
    cloud.aws.preempt(cluster.nodes[1].id)
    cloud.advance("1m")
    assert reconcile(cloud.session).adopted == ["train-1"]
    with other_account(cloud):
        with pytest.raises(errors.WrongAccountError):
            Cluster.get("train-1").terminate()
        assert Cluster.get("train-1").state is ClusterState.TERMINATING
    assert cloud.aws.running_ids() and not cloud.gcp.running_ids()
    Cluster.get("train-1").terminate()
    assert cloud.alive() == []


def test_two_sessions_of_one_process_each_use_their_own_credentials(cloud: FakeCloud) -> None:
    mine = request()
    with other_account(cloud):
        theirs = Cluster.request(gpus=8, type="h100", name="train-2", clouds=["aws"])
        assert mine.refresh().state is ClusterState.READY
        assert theirs.refresh().state is ClusterState.READY
        with pytest.raises(errors.WrongAccountError):
            Cluster(cloud.session, cloud.session.ledger.find("train-2")).terminate()
        theirs.terminate()
    mine.terminate()
    assert cloud.alive() == []


def test_an_account_that_cannot_be_read_does_not_stop_a_request(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: object) -> object:
        raise errors.ProviderError("no answer", provider="aws")

    monkeypatch.setattr(FakeProvider, "account", property(unreadable), raising=False)
    cluster = request()
    assert cluster.state is ClusterState.READY
    assert any("the account could not be read" in event.message for event in cluster.events())
    cluster.terminate()


def test_a_cluster_of_an_older_ledger_without_accounts_is_torn_down(cloud: FakeCloud) -> None:
    request()
    ledger = cloud.session.ledger
    with ledger._database.transaction("test") as cursor:
        cursor.execute("UPDATE attempts SET account = NULL", ())
    cloud.advance(timedelta(minutes=5))
    Cluster.get("train-1").terminate()
    assert cloud.alive() == []
