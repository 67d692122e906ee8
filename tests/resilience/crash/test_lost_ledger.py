"""A ledger that is lost or restored from an older copy hides no node, and foreign resources are not touched; on local clouds."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from multicompute import Cluster, ClusterState
from multicompute.config import apply_environment, state_file
from multicompute.engine.recovery.inventory import EVERY
from multicompute.engine.recovery.reap import reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.session import Session, open_session, use_session
from multicompute.testing import LocalClouds, local_clouds

H100: Mapping[str, Any] = {"gpus": 16, "type": "h100"}
KINDS: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    "aws": ("aws", {}, H100),
    "moto": ("aws", {"store": "moto"}, H100),
    "gcp": ("gcp", {}, H100),
    "slices": ("gcp", {}, {"type": "v5litepod-16", "gpus": 32}),
    "attached": ("gcp", {}, {"gpus": 2, "type": "t4", "spot": True}),
    "azure": ("azure", {}, H100),
    "azure spot": ("azure", {}, {**H100, "spot": True}),
    "aws spot": ("aws", {}, {**H100, "spot": True, "regions": ["us-east-1"]}),
}
"""Kind -> cloud, options of the local cloud, and arguments of the request."""


@contextmanager
def guarded(*names: str, **options: object) -> Iterator[LocalClouds]:
    """Start local clouds with foreign resources, and check that these and nothing else are left at the end."""
    regions = {"MULTICOMPUTE_AWS__REGIONS": "us-east-1"} if "aws" in names else {}
    with local_clouds(*names, **options) as clouds, apply_environment(regions):
        for name in names:
            clouds[name].seed_foreign()
        yield clouds
        assert clouds.alive() == []
        assert [name for name in names if not clouds[name].foreign_intact()] == []


@contextmanager
def ledger_replaced(by: Path | None = None) -> Iterator[Session]:
    """Delete the ledger, or replace it with an older copy, and open it as a new process does."""
    old = open_session()
    old.close()
    file = state_file(old.config.state)
    assert file is not None
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()
    if by is not None:
        file.write_bytes(by.read_bytes())
    session = Session(config=old.config, plugins=old.plugins)
    try:
        with use_session(session):
            yield session
    finally:
        session.close()


def copied_ledger(to: Path) -> Path:
    """Copy the ledger, as a backup does."""
    file = state_file(open_session().config.state)
    with closing(sqlite3.connect(str(file))) as source, closing(sqlite3.connect(to)) as copy:
        source.backup(copy)
    return to


def test_a_lost_ledger_hides_no_node() -> None:
    with guarded("aws", "gcp", "azure") as clouds:
        for name in clouds.names:
            Cluster.request(**H100, name=f"on-{name}", ttl="2h", clouds=[name])
        Cluster.request(type="v5litepod-16", nodes=1, name="slice", ttl=None, clouds=["gcp"])
        before = clouds.alive()
        with ledger_replaced() as session:
            report = reconcile(session, dry_run=True)
            assert sorted(orphan.name for orphan in report.orphans) == ["on-aws", "on-azure", "on-gcp", "slice"]
            assert report.is_leak and report.notes == []
            # Orphans that were not chosen and have not expired are left alone: another ledger may know them.
            assert len(reconcile(session).orphans) == 4
            assert reap(session).orphans == []
            assert clouds.alive() == before
            report = reconcile(session, adopt=["on-gcp", "slice"], terminate=["on-aws", "on-azure"])
            assert (sorted(report.adopted), sorted(report.terminated)) == (["on-gcp", "slice"], ["on-aws", "on-azure"])
            assert (report.orphans, report.failed, report.notes) == ([], {}, [])
            assert {item.provider for item in clouds.alive()} == {"gcp"}
            assert [cluster.state for cluster in Cluster.list()] == [ClusterState.READY] * 2
            for cluster in Cluster.list():
                cluster.terminate()


@pytest.mark.parametrize("kind", KINDS)
def test_a_cluster_is_adopted_as_it_was_and_not_bought_again(kind: str) -> None:
    cloud, options, arguments = KINDS[kind]
    with guarded(cloud, **options) as clouds:
        old = Cluster.request(**arguments, name="train", ttl="2h", tags={"team": "nlp"})
        later = old.extend("3h")
        nodes, hourly_cost = old.nodes, old.hourly_cost
        before = clouds.alive()
        with ledger_replaced() as session:
            report = reconcile(session, adopt=EVERY)
            assert (report.adopted, report.failed, report.notes) == (["train"], {}, [])
            new = Cluster.get("train")
            assert (new.id, new.state, new.provider, new.zone) == (old.id, ClusterState.READY, old.provider, old.zone)
            assert {node.id: node.private_ip for node in new.nodes} == {node.id: node.private_ip for node in nodes}
            assert [node.rank for node in new.nodes] == list(range(len(nodes)))
            assert new.gpus == sum(node.accelerators for node in nodes)
            assert new.hourly_cost == pytest.approx(hourly_cost)
            assert (new.expires_at, new.tags) == (later.replace(microsecond=0), {"team": "nlp"})
            assert Cluster.request(**arguments, name="train", ttl="2h", tags={"team": "nlp"}).id == old.id
            assert new.refresh().state is ClusterState.READY
            assert clouds.alive() == before
            assert reconcile(session).orphans == []
            assert new.extend("1h") > later
            assert new.terminate().state is ClusterState.TERMINATED


@pytest.mark.parametrize("kind", KINDS)
def test_an_orphan_is_terminated_with_its_dependent_resources(kind: str) -> None:
    cloud, options, arguments = KINDS[kind]
    with guarded(cloud, **options) as clouds:
        cluster = Cluster.request(**arguments, name="train", ttl="2h")
        with ledger_replaced() as session:
            report = reconcile(session, terminate=[cluster.id])
            assert (report.terminated, report.failed, report.orphans) == (["train"], {}, [])
            assert clouds.alive() == []


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_an_older_ledger_does_not_terminate_a_cluster_that_was_extended_since(tmp_path: Path, cloud: str) -> None:
    with guarded(cloud) as clouds:
        cluster = Cluster.request(**H100, name="train", ttl="1h")
        copy = copied_ledger(tmp_path / "copy.db")
        later = cluster.extend("6h")
        before = {item.id for item in clouds.alive()}
        with ledger_replaced(copy) as session:
            (note,) = reconcile(session).notes
            assert "by its tags" in note
            assert Cluster.get("train").expires_at == later.replace(microsecond=0)
            assert {item.id for item in clouds.alive()} == before
            Cluster.get("train").terminate()


def test_a_cloud_that_does_not_answer_is_noted_and_does_not_stop_the_others() -> None:
    with guarded("aws", "gcp") as clouds:
        for name in clouds.names:
            Cluster.request(**H100, name=f"on-{name}", ttl="2h", clouds=[name])
        with ledger_replaced() as session:
            clouds.aws.faults.fail("DescribeInstances", "UnauthorizedOperation", status=403, message="No.", times=None)
            report = reconcile(session, terminate=EVERY)
            assert report.terminated == ["on-gcp"]
            assert [where.partition(" ")[0] for where in report.coverage.not_asked] == ["aws"]
            assert {item.provider for item in clouds.alive()} == {"aws"}
            clouds.aws.faults.clear()
            assert reconcile(session, terminate=EVERY).terminated == ["on-aws"]
