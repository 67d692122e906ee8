"""One Airflow and one set of local clouds for all tests of a module, because both start slowly."""

from collections.abc import Iterator

import pytest

from multicompute.testing import LocalClouds, local_clouds
from tests.integrations.airflow.airflow_site import AirflowSite, airflow_site


@pytest.fixture(scope="module", name="cloud")
def _cloud() -> Iterator[LocalClouds]:
    with local_clouds("aws") as clouds:
        yield clouds


@pytest.fixture(scope="module", name="prepared")
def _prepared(cloud: LocalClouds, tmp_path_factory: pytest.TempPathFactory) -> AirflowSite:
    """An Airflow with a database and no running process."""
    site = AirflowSite(tmp_path_factory.mktemp("airflow-home") / "home")
    site.prepare()
    return site


@pytest.fixture(scope="module", name="running")
def _running(cloud: LocalClouds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowSite]:
    with airflow_site(tmp_path_factory.mktemp("airflow") / "home") as site:
        yield site


@pytest.fixture(name="airflow")
def _airflow(running: AirflowSite, cloud: LocalClouds) -> Iterator[AirflowSite]:
    """The running Airflow, with empty clouds whose nodes boot at once."""
    cloud.aws.set_delays()
    assert cloud.alive() == []
    yield running
    cloud.aws.set_delays()
