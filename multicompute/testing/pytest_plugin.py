"""The pytest plug-in: clouds and clusters as fixtures, and a test that leaves a cluster behind does not pass.

It is loaded in every pytest run on a machine that has multicompute, so it imports nothing of it before a fixture is used.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from multicompute.testing.fake_session import FakeCloud
    from multicompute.testing.fixtures import ClusterFactory
    from multicompute.testing.local import LocalClouds

# So that a failure in the suite that a provider's author subclasses shows its values, as in a test of their own.
pytest.register_assert_rewrite("multicompute.testing.conformance")


@pytest.fixture(name="fake_cloud")
def _fake_cloud(request: pytest.FixtureRequest) -> "Iterator[FakeCloud]":
    """Every installed cloud, in memory and in virtual time: nothing waits, and nothing real is touched.

    Everything in the process that uses multicompute works on it while the test runs. If a cluster is left behind when
    the test and its other fixtures are through, the test fails, names it, and ends it.
    """
    from multicompute.testing.fake_session import fake_cloud
    from multicompute.testing.fixtures import left_in_fake_clouds

    _expect_one_kind(request)
    with fake_cloud() as cloud:
        yield cloud
        _expect_nothing_left(left_in_fake_clouds(cloud))


@pytest.fixture(name="local_clouds")
def _local_clouds(request: pytest.FixtureRequest) -> "Iterator[LocalClouds]":
    """Every cloud that has a local one, on 127.0.0.1: the same SDKs and calls as in production, and nothing real.

    The environment variables point to them, so child processes reach them too. If a cluster is left behind when the test
    and its other fixtures are through, the test fails and names it; it ends with its cloud.
    """
    from multicompute.testing.fixtures import left_in_local_clouds
    from multicompute.testing.local import local_clouds

    _expect_one_kind(request)
    with local_clouds() as clouds:
        yield clouds
        _expect_nothing_left(left_in_local_clouds(clouds))


@pytest.fixture(name="cluster_factory")
def _cluster_factory(request: pytest.FixtureRequest) -> "Iterator[ClusterFactory]":
    """`cluster_factory(gpus=8, type="h100", ...)` requests a cluster that is ended after the test.

    It is made in memory, by the fixture `fake_cloud`; in a test that uses `local_clouds`, there.
    """
    from multicompute.testing.fixtures import ClusterFactory

    request.getfixturevalue("local_clouds" if "local_clouds" in request.fixturenames else "fake_cloud")
    factory = ClusterFactory()
    yield factory
    if troubles := factory.terminate():
        pytest.fail("\n  ".join(["clusters of cluster_factory could not be ended:", *troubles]), pytrace=False)


def _expect_one_kind(request: pytest.FixtureRequest) -> None:
    if {"fake_cloud", "local_clouds"} <= set(request.fixturenames):
        pytest.fail("fake_cloud and local_clouds in one test: which of them is meant? Use one of them", pytrace=False)


def _expect_nothing_left(lines: list[str]) -> None:
    if lines:
        pytest.fail(
            "\n  ".join(["the test left clusters behind that would go on costing money:", *lines])
            + "\nleave each by `with`, call its terminate(), or make it with cluster_factory, which ends what it made",
            pytrace=False,
        )
