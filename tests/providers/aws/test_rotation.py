"""Credentials that change under a running process: the files really change, and the local cloud rejects the old key."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.config import apply_environment
from multicompute.monitor.supervise import supervise
from multicompute.node import NodeState
from multicompute.provider import Selector, Settings
from multicompute.session import open_session
from multicompute.testing import FakeClock, running
from multicompute.testing.provider_harness import launch_request
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from multicompute_aws.local.keys import KeyFault
from tests.conformance.test_aws import harness_of

HERE = Selector(region="us-east-1", cluster_id="id-first")


class Rotated:
    """A local AWS, and the shared credentials file of a user."""

    def __init__(self, cloud: AwsLocalCloud, folder: Path) -> None:
        self.cloud = cloud
        self._file = folder / "credentials"
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        (folder / "config").write_text("")
        self.environment = {name: value for name, value in cloud.environment.items() if name not in keys}
        self.environment |= {
            "AWS_SHARED_CREDENTIALS_FILE": str(self._file),
            "AWS_CONFIG_FILE": str(folder / "config"),
            "MULTICOMPUTE_STATE": f"sqlite:///{folder}/ledger.db",
            "MULTICOMPUTE_AWS__REGIONS": "us-east-1",
        }
        self.write("AKIAFIRST")

    def write(self, key_id: str) -> None:
        self._file.write_text(f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = local\n")

    def rotate(self, old: str = "AKIAFIRST", new: str = "AKIASECOND", *, fault: KeyFault = "unknown") -> None:
        self.write(new)
        self.cloud.revoke_key(old, fault=fault)

    def provider(self) -> AwsProvider:
        return AwsProvider(Settings({"regions": ["us-east-1", "us-west-2"]}, self.environment))


@pytest.fixture
def rotated(tmp_path: Path) -> Iterator[Rotated]:
    with running(AwsLocalCloud()) as cloud:
        yield Rotated(cloud, tmp_path)


@pytest.mark.parametrize("fault", ["unknown", "expired"])
def test_every_method_goes_on_with_the_new_key(rotated: Rotated, fault: KeyFault) -> None:
    offer = harness_of(rotated.cloud, FakeClock(), page_nodes=1).offer()
    key = 0

    def rotate() -> None:
        nonlocal key
        key += 1
        rotated.write(f"AKIA{key}")
        rotated.cloud.revoke_key("AKIAFIRST" if key == 1 else f"AKIA{key - 1}", fault=fault)

    provider = rotated.provider()
    assert provider.nodes(HERE) == ()
    rotate()
    nodes = provider.launch(launch_request(offer))
    rotate()
    assert [node.id for node in provider.nodes(HERE)] == [node.id for node in nodes]
    rotate()
    assert provider.resources(HERE)
    rotate()
    provider.set_expiry(HERE, None)
    rotate()
    assert provider.account.label == f"AWS account {rotated.cloud.account}"
    rotate()
    assert not provider.terminate(HERE).blocked_by
    rotate()
    assert provider.terminate(HERE).is_done
    assert rotated.cloud.alive() == []


def test_credentials_that_stay_rejected_are_an_error_after_one_renewal(rotated: Rotated) -> None:
    provider = rotated.provider()
    provider.nodes(HERE)
    rotated.cloud.revoke_key("AKIAFIRST")
    before = rotated.cloud.faults.count("DescribeInstances")
    with pytest.raises(errors.AuthError, match="AuthFailure"):
        provider.nodes(Selector(region="us-east-1", cluster_id="id-first"))
    assert rotated.cloud.faults.count("DescribeInstances") == before + 2


def test_many_threads_with_a_rotated_key_go_on(rotated: Rotated) -> None:
    provider = rotated.provider()
    provider.launch(launch_request(harness_of(rotated.cloud, FakeClock(), page_nodes=1).offer()))
    rotated.rotate()
    with ThreadPoolExecutor(8) as pool:
        answers = [task.result() for task in [pool.submit(provider.nodes, HERE) for _ in range(16)]]
    assert {len(nodes) for nodes in answers} == {2}


def test_credentials_that_are_replaced_by_another_accounts_are_not_used(rotated: Rotated) -> None:
    """A teardown that is repeated in another account would find nothing, and record the cluster as gone."""
    rotated.cloud.add_account("210987654321")
    provider = rotated.provider()
    assert provider.account
    provider.launch(launch_request(harness_of(rotated.cloud, FakeClock(), page_nodes=1).offer()))
    rotated.rotate(new="AKIA0000210987654321")
    for _ in range(2):
        with pytest.raises(errors.WrongAccountError, match="210987654321"):
            provider.terminate(HERE)
    assert len(rotated.cloud.running_ids()) == 2
    rotated.write("AKIATHIRD")
    assert {node.state for node in provider.nodes(HERE)} == {NodeState.RUNNING}


def test_a_with_block_that_outlives_its_token_terminates_the_cluster(rotated: Rotated) -> None:
    with apply_environment(rotated.environment):
        with Cluster.request(gpus=8, type="h100", clouds=["aws"], name="train-1") as cluster:
            rotated.rotate(fault="expired")
        assert cluster.refresh().state is ClusterState.TERMINATED
    assert rotated.cloud.alive() == []


def test_a_supervisor_survives_a_rotation(rotated: Rotated) -> None:
    with apply_environment(rotated.environment):
        cluster = Cluster.request(gpus=8, type="h100", clouds=["aws"], name="train-1")
        session = open_session()
        first = supervise(session, rounds=1)
        rotated.rotate()
        second = supervise(session, rounds=1)
        assert first is not None and second is not None
        assert (first.errors, second.errors) == (0, 0)
        assert cluster.refresh().state is ClusterState.READY
        cluster.terminate()
    assert rotated.cloud.alive() == []
