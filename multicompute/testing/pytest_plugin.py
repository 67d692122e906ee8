"""The pytest plug-in: clouds as fixtures, and a test that leaves a cluster behind does not pass.

It is loaded in every pytest run on a machine that has multicompute, so it imports nothing of it before a fixture is used.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from multicompute.testing.fake_session import FakeCloud
    from multicompute.testing.local import LocalClouds

# So that a failure in the suite that a provider's author subclasses shows its values, as in a test of their own.
pytest.register_assert_rewrite("multicompute.testing.conformance")


@pytest.fixture(name="fake_cloud")
def _fake_cloud() -> "Iterator[FakeCloud]":
    """Every installed cloud, in memory and in virtual time: nothing waits, and nothing real is touched.

    Everything in the process that uses multicompute works on it while the test runs. If a cluster is left behind when
    the test and its other fixtures are through, the test fails and names it.
    """
    from multicompute.testing.fake_session import fake_cloud

    with fake_cloud() as cloud:
        yield cloud
        _expect_nothing_alive(cloud.clusters_alive())


@pytest.fixture(name="local_clouds")
def _local_clouds() -> "Iterator[LocalClouds]":
    """Every cloud that has a local one, on 127.0.0.1: the same SDKs and calls as in production, and nothing real.

    The environment variables point to them, so child processes reach them too. If a cluster is left behind when the test
    and its other fixtures are through, the test fails and names it.
    """
    from multicompute.provider import TAG_CLUSTER
    from multicompute.testing.local import local_clouds

    with local_clouds() as clouds:
        yield clouds
        _expect_nothing_alive(sorted({item.tags[TAG_CLUSTER] for item in clouds.alive() if TAG_CLUSTER in item.tags}))


def _expect_nothing_alive(names: list[str]) -> None:
    if names:
        pytest.fail(
            f"the test left clusters behind that would go on costing money: {', '.join(names)}; "
            "leave each by `with`, or call its terminate()",
            pytrace=False,
        )
