"""A cluster in one AWS account and the credentials of another, through the command line and the API, on one ledger."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.cli import main
from multicompute.config import apply_environment, load
from multicompute.engine.recovery.reap import reap
from multicompute.plugins import discover
from multicompute.provider import Settings
from multicompute.session import Session, use_session
from multicompute.testing import FakeClock, running
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from tests.providers.aws.scripted_aws import ScriptedAws

B = "210987654321"
UP = ("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--name", "train-1", "--no-progress")


class Site:
    """A local AWS with two accounts; the cluster is in the main one."""

    def __init__(self, cloud: AwsLocalCloud, folder: Path) -> None:
        self.cloud = cloud
        self._shared = {
            "MULTICOMPUTE_STATE": f"sqlite:///{folder}/ledger.db",
            "MULTICOMPUTE_CONFIG": os.devnull,
            "MULTICOMPUTE_AWS__REGIONS": "us-east-1",
        }
        self._others = cloud.add_account(B)

    @contextmanager
    def as_a(self) -> Iterator[None]:
        with apply_environment({**self.cloud.environment, **self._shared}):
            yield

    @contextmanager
    def as_b(self) -> Iterator[None]:
        with apply_environment({**self._others, **self._shared}):
            yield


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "none.toml").write_text("")
    with running(AwsLocalCloud()) as cloud:
        yield Site(cloud, tmp_path)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("ls", "--live"), 6),
        (("down", "train-1", "--yes"), 6),
        (("heal", "train-1"), 6),
        (("extend", "train-1", "1h"), 6),
        (("reconcile",), 6),
        (("reconcile", "--dry-run"), 6),
        (("supervise", "--once"), 6),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_command_with_another_account_names_both_and_changes_nothing(
    site: Site, command: tuple[str, ...], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with site.as_a():
        assert main(UP) == 0
        before = Cluster.get("train-1")
    machines = site.cloud.running_ids()
    with site.as_b():
        capsys.readouterr()
        found = main(command)
        out, err = capsys.readouterr()
        said = " ".join((out + err).split())
        assert f"AWS account {site.cloud.account}" in said and f"AWS account {B}" in said
        assert found == status
        after = Cluster.get("train-1")
        assert (after.state, after.expires_at) == (ClusterState.READY, before.expires_at)
    assert site.cloud.running_ids() == machines
    with site.as_a():
        assert main(("down", "train-1", "--yes")) == 0
    assert site.cloud.alive() == []


def test_a_reap_with_another_account_fails_for_an_expired_cluster_and_leaves_it(site: Site) -> None:
    clock = FakeClock()
    with site.as_a(), use_session(Session(config=load(), plugins=discover(), clock=clock)) as session:
        Cluster.request(gpus=8, type="h100", clouds=["aws"], name="train-1", ttl="1h")
        session.close()
    clock.advance("2h")
    machines = site.cloud.running_ids()
    with site.as_b(), use_session(Session(config=load(), plugins=discover(), clock=clock)) as session:
        report = reap(session)
        assert report.terminated == []
        assert f"AWS account {B}" in report.failed["train-1"]
        assert Cluster.get("train-1").state is ClusterState.READY
        session.close()
    assert site.cloud.running_ids() == machines


def test_two_identities_in_one_process_each_use_their_own_credentials(site: Site) -> None:
    with site.as_a():
        first = Cluster.request(gpus=8, type="h100", clouds=["aws"], name="train-1")
    with site.as_b():
        second = Cluster.request(gpus=8, type="h100", clouds=["aws"], name="train-2")
        # The handle was made with the other identity, which is no longer that of the environment.
        assert first.refresh().state is ClusterState.READY
        first.terminate()
    with site.as_a():
        assert second.refresh().state is ClusterState.READY
        with pytest.raises(errors.WrongAccountError):
            Cluster.get("train-2").terminate()
        assert site.cloud.running_ids() == [node.id for node in second.nodes]
        second.terminate()
    assert site.cloud.alive() == []


def test_a_profile_of_the_process_does_not_replace_the_credentials_of_a_provider(site: Site, tmp_path: Path) -> None:
    """botocore reads the process's environment, which may be another identity's when a client is made."""
    with site.as_a():
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_ACCESS")}
    files = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    (tmp_path / "config").write_text("")
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = MINE\naws_secret_access_key = x\n")
    mine = AwsProvider(Settings(environment={**environment, **files, "AWS_PROFILE": "", "AWS_DEFAULT_PROFILE": ""}))
    with site.as_b():
        assert mine.account.label == f"AWS account {site.cloud.account}"


@pytest.mark.parametrize(
    ("arn", "label"),
    [
        ("arn:aws:iam::123456789012:user/me", "AWS account 123456789012"),
        ("arn:aws-us-gov:sts::123456789012:assumed-role/r/s", "AWS account 123456789012 (partition aws-us-gov)"),
        ("arn:aws-cn:iam::123456789012:root", "AWS account 123456789012 (partition aws-cn)"),
    ],
)
def test_the_same_number_in_two_partitions_is_two_accounts(
    aws: ScriptedAws, provider: AwsProvider, arn: str, label: str
) -> None:
    aws.answers["GetCallerIdentity"] = (
        "<GetCallerIdentityResponse><GetCallerIdentityResult>"
        f"<Arn>{arn}</Arn><UserId>AIDA</UserId><Account>123456789012</Account>"
        "</GetCallerIdentityResult></GetCallerIdentityResponse>"
    )
    assert provider.account.label == label
    assert provider.account.ids == (f"{arn.split(':')[1]}:123456789012",)
    assert len(aws.sent("GetCallerIdentity")) == 1
