"""The pytest plug-in: fixtures for clouds and clusters; a test that leaves a cluster behind fails.

Every pytest run in an environment with multicompute loads it, so it imports no other module before a fixture is used.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from multicompute.testing.fake.session import FakeCloud
    from multicompute.testing.fixtures import ClusterFactory
    from multicompute.testing.local.clouds import LocalClouds

# A failed assert in the conformance suite then shows its values, like one in a test module.
pytest.register_assert_rewrite("multicompute.testing.conformance")


@pytest.fixture(name="fake_cloud")
def _fake_cloud(request: pytest.FixtureRequest) -> "Iterator[FakeCloud]":
    """Replace every installed cloud by a fake one in virtual time.

    Everything in the process that uses multicompute uses the fake clouds while the test runs. If a cluster is left after the test
    and its other fixtures, the test fails with its name, and the cluster is terminated.
    """
    from multicompute.testing.fake.session import fake_cloud
    from multicompute.testing.fixtures import left_in_fake_clouds

    _expect_one_kind(request)
    with fake_cloud() as cloud:
        yield cloud
        _expect_nothing_left(left_in_fake_clouds(cloud))


@pytest.fixture(name="local_clouds")
def _local_clouds(request: pytest.FixtureRequest) -> "Iterator[LocalClouds]":
    """Run every local cloud on 127.0.0.1, for the same SDKs and calls as in production.

    The environment variables point to them, so child processes use them too. If a cluster is left after the test and its other
    fixtures, the test fails with its name; the cluster is deleted with its cloud.
    """
    from multicompute.testing.fixtures import left_in_local_clouds
    from multicompute.testing.local.clouds import local_clouds

    _expect_one_kind(request)
    with local_clouds() as clouds:
        yield clouds
        _expect_nothing_left(left_in_local_clouds(clouds))


@pytest.fixture(name="complete_moto")
def _complete_moto() -> Iterator[None]:
    """Add to the test's own moto what launches need: to `mock_aws`, as decorator, `with` or fixture, and to moto's servers.

    The test gets an empty ledger and an empty configuration. Request with `clouds=["aws"]`: other clouds are not replaced.
    """
    from multicompute.testing.moto import complete_moto

    with complete_moto():
        yield


@pytest.fixture(name="cluster_factory")
def _cluster_factory(request: pytest.FixtureRequest) -> "Iterator[ClusterFactory]":
    """Return a function like `Cluster.request` whose clusters are terminated after the test.

    `cluster_factory(gpus=8, type="h100", ...)` requests a cluster in the fake clouds of the fixture `fake_cloud`, or in the local
    clouds of a test that uses `local_clouds`.
    """
    from multicompute.testing.fixtures import ClusterFactory

    request.getfixturevalue("local_clouds" if "local_clouds" in request.fixturenames else "fake_cloud")
    factory = ClusterFactory()
    yield factory
    if troubles := factory.terminate():
        pytest.fail("\n  ".join(["clusters of cluster_factory could not be terminated:", *troubles]), pytrace=False)


def _expect_one_kind(request: pytest.FixtureRequest) -> None:
    if {"fake_cloud", "local_clouds"} <= set(request.fixturenames):
        pytest.fail("a test uses fake_cloud and local_clouds: use only one of them", pytrace=False)


def _expect_nothing_left(lines: list[str]) -> None:
    if lines:
        pytest.fail(
            "\n  ".join(["the test left clusters behind, which would cost money:", *lines])
            + "\nUse `with`, call terminate(), or request the cluster with the fixture cluster_factory.",
            pytrace=False,
        )
