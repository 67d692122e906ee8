"""Fixtures: one local cloud over HTTP, one ledger in a file, and the processes that use both at once."""

from collections.abc import Iterator

import pytest

from multicompute import Cluster
from multicompute.config import apply_environment
from multicompute.testing import LocalClouds, local_clouds
from tests.resilience.races.crowd import Crowd


# Not for the session, else the local cloud would stay in the environment of every test that this process runs later.
@pytest.fixture(name="site", scope="module")
def _site() -> Iterator[LocalClouds]:
    with local_clouds("aws") as clouds, apply_environment({"MULTICOMPUTE_AWS__REGIONS": "us-east-1"}):
        yield clouds


@pytest.fixture(name="clouds")
def _clouds(site: LocalClouds) -> Iterator[LocalClouds]:
    """Return the cloud, which is empty at the beginning and at the end of each test."""
    site.aws.faults.clear()
    yield site
    site.aws.faults.clear()
    for cluster in Cluster.list():
        cluster.terminate()
    assert site.alive() == []


@pytest.fixture(name="crowd", scope="module")
def _crowd(site: LocalClouds) -> Iterator[Crowd]:
    """Return the processes that a test checks."""
    crowd = Crowd()
    yield crowd
    crowd.close()


@pytest.fixture(name="others", scope="module")
def _others(site: LocalClouds) -> Iterator[Crowd]:
    """Return the processes that interrupt the first ones."""
    crowd = Crowd()
    yield crowd
    crowd.close()
