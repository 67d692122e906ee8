"""Every TPU slice type of the catalog comes up complete on the local Google Cloud, each host a node, and leaves nothing."""

import os
from collections.abc import Iterator

import pytest

from multicompute import Cluster
from multicompute.session import open_session
from multicompute.testing import LocalClouds, local_clouds

# The largest slices have thousands of hosts, and each takes seconds: `make campaign` requests all, `make test` those of v4 only.
MOST_HOSTS = 10_000 if "CAMPAIGN_EXAMPLES" in os.environ else 128
COMPLETE = "tpu-v4"
GENERATIONS = ("tpu-v2", "tpu-v3", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu7x")


@pytest.fixture(name="clouds", scope="module")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("gcp") as clouds:
        yield clouds


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_slice_type_of_a_generation_comes_up_complete(clouds: LocalClouds, generation: str) -> None:
    listings = open_session().catalog.listings(generation)
    types = {line.instance.name: line.instance for line in listings if line.purchase == "on_demand"}
    assert types
    chosen = [each for each in types.values() if each.hosts <= MOST_HOSTS or generation == COMPLETE]
    assert len(chosen) >= min(5, len(types))
    for instance in chosen:
        with Cluster.request(type=instance.name, ttl="1h") as cluster:
            assert len(cluster.nodes) == instance.hosts
            assert [node.rank for node in cluster.nodes] == list(range(instance.hosts))
            assert cluster.gpus == pytest.approx(instance.accelerators)
        assert clouds.alive() == []


def test_several_slices_are_one_gang(clouds: LocalClouds) -> None:
    with Cluster.request(type="v5p-16", nodes=3, ttl="1h") as cluster:
        slices = {node.id.rpartition("/")[0] for node in cluster.nodes}
        assert len(slices) == 3
        assert len(cluster.nodes) == 3 * 2
        workers = [int(node.id.rpartition("/")[2]) for node in cluster.nodes]
        assert workers == [0, 1] * 3
    assert clouds.alive() == []


def test_a_slice_by_name_and_by_its_chips_are_the_same_request(clouds: LocalClouds) -> None:
    by_name, by_chips = Cluster.plan(type="v5p-128"), Cluster.plan(gpus=64, type="tpu-v5p")
    assert by_name.best is not None and by_chips.best is not None
    assert by_name.best.to_dict() == by_chips.best.to_dict()
