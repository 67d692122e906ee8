"""In `fake_cloud` a user's code runs unchanged: with real offers, prices, engine and ledger, but without a cloud."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.plugins import discover
from multicompute.provider import Quota
from multicompute.session import open_session
from multicompute.testing import FakeClock, FakeCloud, FakePlugin, FakeProvider, fake_cloud


def test_every_installed_cloud_can_launch_what_it_really_sells() -> None:
    with fake_cloud() as cloud:
        # Own machines have no tables: their offers are those of an inventory.
        assert set(cloud.providers) == {name for name, plugin in discover().items() if plugin.tables is not None}
        for name in cloud.providers:
            with Cluster.request(gpus=8, type="h100", clouds=[name]) as cluster:
                assert cluster.provider == name
                assert {node.id for node in cluster.nodes} == set(cloud[name].running_ids())
        assert cloud.alive() == []


def test_prices_are_those_of_the_packaged_tables() -> None:
    with fake_cloud() as cloud:
        best = Cluster.plan(gpus=8, type="h100").candidates[0]
        with Cluster.request(gpus=8, type="h100") as cluster:
            assert cluster.hourly_cost == best.hourly_cost
        assert cloud.clusters_alive() == []


def test_plans_have_only_the_named_clouds() -> None:
    name = min(discover())
    with fake_cloud(name) as cloud:
        assert {candidate.provider for candidate in Cluster.plan(gpus=8, type="h100").candidates} == {name}
        assert getattr(cloud, name) is cloud[name]
        with pytest.raises(AttributeError, match=f"no fake cloud is called 'nimbus'; there are {name}"):
            cloud.nimbus  # noqa: B018 - reading it is what raises


def test_an_unknown_cloud_is_refused_with_the_names_of_the_known_ones() -> None:
    with pytest.raises(errors.ConfigError, match="no provider is called 'nimbus'"), fake_cloud("nimbus"):
        pass


def test_the_users_own_ledger_and_configuration_are_not_used(tmp_path: Path) -> None:
    before = dict(os.environ)
    with fake_cloud() as cloud:
        config = cloud.session.config
        assert open_session() is cloud.session
        assert not config.path.exists()
        ledger = Path(config.state.removeprefix("sqlite:///"))
        Cluster.request(gpus=8, type="h100").terminate()
        assert ledger.exists()
    assert not ledger.exists()
    assert dict(os.environ) == before
    assert open_session() is not cloud.session


def test_two_runs_of_one_test_are_the_same() -> None:
    def run() -> list[str]:
        with fake_cloud():
            cluster = Cluster.request(gpus=16, type="h100")
            messages = [event.message for event in cluster.events()]
            return [cluster.name, *(node.id for node in cluster.nodes), *messages]

    assert run() == run()


def test_a_request_finds_the_only_place_with_capacity() -> None:
    with fake_cloud() as cloud:
        *_, last = Cluster.plan(gpus=64, type="h100").candidates
        cloud.set_capacity("*", "*", 0)
        cloud[last.provider].set_capacity(last.instance_type, last.zone or last.region, 64)
        with Cluster.request(gpus=64, type="h100") as cluster:
            assert (cluster.provider, cluster.region) == (last.provider, last.region)
        assert cloud.alive() == []


def test_a_long_wait_for_capacity_takes_no_real_time() -> None:
    with fake_cloud() as cloud:
        best = Cluster.plan(gpus=64, type="h100").candidates[0]
        cloud.set_capacity("*", "*", 0)
        with pytest.raises(errors.MulticomputeError):
            Cluster.request(gpus=64, type="h100", regions=[best.region], keep_trying="50m")
        assert cloud.clock.now() - FakeClock().now() > timedelta(minutes=25)
        assert cloud.alive() == []


def test_a_cluster_past_its_ttl_is_terminated_by_the_clouds_alone() -> None:
    with fake_cloud() as cloud:
        cluster = Cluster.request(gpus=16, type="h100", ttl="2h")
        assert cloud[cluster.provider or ""].running_ids()
        cloud.advance("2h")
        assert cloud[cluster.provider or ""].running_ids() == []
        cluster.terminate()
        assert cloud.alive() == []


def test_a_preempted_node_degrades_its_cluster() -> None:
    with fake_cloud() as cloud, Cluster.request(gpus=16, type="h100", spot=True) as cluster:
        cloud[cluster.provider or ""].preempt(cluster.nodes[1].id)
        assert cluster.refresh().state is ClusterState.DEGRADED


def test_an_exceeded_quota_sends_the_request_to_another_place() -> None:
    with fake_cloud() as cloud:
        best = Cluster.plan(gpus=8, type="h100").candidates[0]
        quota = Quota("everything", best.region, "on_demand", ("*",), limit=0, used=0, unit="nodes")
        cloud[best.provider].set_quota(quota)
        with Cluster.request(gpus=8, type="h100") as cluster:
            assert (cluster.provider, cluster.region) != (best.provider, best.region)
        assert cloud.alive() == []


def test_machines_that_listings_are_slow_to_show_are_not_left_behind() -> None:
    with fake_cloud() as cloud:
        for provider in cloud.providers.values():
            provider.lag = timedelta(seconds=45)
        cluster = Cluster.request(gpus=16, type="h100", wait=False)
        cluster.terminate()
        assert cloud.alive() == []


def test_several_fakes_may_be_nested() -> None:
    with fake_cloud() as outer:
        with fake_cloud() as inner:
            Cluster.request(gpus=8, type="h100").terminate()
            assert sum(provider.faults.count("launch") for provider in inner.providers.values()) == 1
        assert open_session() is outer.session
        assert sum(provider.faults.count("launch") for provider in outer.providers.values()) == 0


def test_clusters_alive_returns_the_names_of_clusters_with_resources(fake_cloud: FakeCloud) -> None:
    with Cluster.request(gpus=8, type="h100", name="alpha"), Cluster.request(gpus=8, type="h100", name="beta"):
        assert fake_cloud.clusters_alive() == ["alpha", "beta"]
    assert fake_cloud.clusters_alive() == []


def test_a_fake_plug_in_opens_the_given_provider() -> None:
    provider = FakeProvider("nimbus")
    plugin = FakePlugin("nimbus", provider=provider)
    with fake_cloud() as cloud:
        settings = cloud.session.settings(min(discover()))
        assert plugin.configured(settings).ok
        assert plugin.open(settings) is provider
        assert plugin.local() is None
