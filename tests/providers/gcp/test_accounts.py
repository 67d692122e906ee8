"""A cluster in one Google Cloud project is safe from commands that run with another project, on the command line and in Python."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.cli import main
from multicompute.config import apply_environment
from multicompute.provider import Settings
from multicompute.testing import LocalClouds, local_clouds
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud

OTHER = "other-project"
UP = (
    "up",
    "--gpus",
    "2",
    "--type",
    "g2-standard-4",
    "--region",
    "gcp:us-central1",
    "--name",
    "train-1",
    "--no-progress",
)
As = Callable[[], AbstractContextManager[object]]
AUTH, INCOMPLETE = 6, 1


@pytest.fixture(name="clouds")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("gcp") as clouds:
        yield clouds
        assert clouds.alive() == []


@pytest.fixture(name="as_other")
def _as_other(clouds: LocalClouds) -> As:
    """Return a context in which this process uses another project, with the same ledger."""
    environment = clouds.gcp.add_account(OTHER)
    return lambda: apply_environment(environment)


def _status(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    status = main(arguments)
    return status, " ".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("ls", "--live"), AUTH),
        (("down", "train-1", "--yes"), AUTH),
        (("reconcile",), AUTH),
        (("reconcile", "--dry-run"), AUTH),
        (("reap",), 0),
        (("supervise", "--once"), AUTH),
        (("heal", "train-1"), AUTH),
        (("extend", "train-1", "1h"), AUTH),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_with_another_project_changes_nothing_and_names_both(
    clouds: LocalClouds,
    as_other: As,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
) -> None:
    assert _status(capsys, *UP)[0] == 0
    running, before = clouds.gcp.running_ids(), Cluster.get("train-1")
    with as_other():
        found, text = _status(capsys, *arguments)
        assert Cluster.get("train-1").state is ClusterState.READY
        assert Cluster.get("train-1").events() == before.events()
    if arguments != ("reap",):
        text = " ".join(text.split())
        assert "train-1 is in Google Cloud project multicompute-local (100000000001)" in text
        assert f"belong to Google Cloud project {OTHER}" in text
    assert found == status
    assert clouds.gcp.running_ids() == running
    assert _status(capsys, "down", "train-1", "--yes")[0] == 0


def test_two_projects_in_one_process_each_use_their_own_also_through_older_handles(
    clouds: LocalClouds, as_other: As
) -> None:
    mine = Cluster.request(gpus=1, type="g2-standard-4", regions=["gcp:us-central1"], name="mine")
    with as_other():
        theirs = Cluster.request(gpus=1, type="g2-standard-4", regions=["gcp:us-central1"], name="theirs")
        assert mine.refresh().state is ClusterState.READY
        with pytest.raises(errors.WrongAccountError):
            Cluster.get("mine").terminate()
    assert theirs.refresh().state is ClusterState.READY
    with pytest.raises(errors.WrongAccountError):
        Cluster.get("theirs").terminate()
    theirs.terminate()
    mine.terminate()
    assert (theirs.state, mine.state) == (ClusterState.TERMINATED, ClusterState.TERMINATED)


def test_a_project_that_is_named_by_its_number_is_the_same(cloud: GcpLocalCloud, provider: GcpProvider) -> None:
    values = {"endpoint_url": cloud.endpoint_url, "project": "100000000001"}
    by_number = GcpProvider(Settings(values, cloud.environment))
    assert by_number.account.is_same(provider.account)
    assert provider.account.ids == ("multicompute-local", "100000000001")
    assert by_number.account.label == provider.account.label


def test_without_the_permission_to_read_the_project_its_configured_name_is_used(
    cloud: GcpLocalCloud, provider: GcpProvider
) -> None:
    text = "Required 'compute.projects.get' permission for 'projects/multicompute-local'"
    cloud.faults.fail("projects.get", "forbidden", status=403, message=text)
    assert provider.account.ids == ("multicompute-local",)


def test_an_account_that_could_not_be_read_for_a_moment_is_asked_again(
    cloud: GcpLocalCloud, provider: GcpProvider
) -> None:
    cloud.faults.fail("projects.get", "backendError", status=503)
    with pytest.raises(errors.TransientError):
        _ = provider.account
    assert provider.account.ids == ("multicompute-local", "100000000001")
