"""Requests in a user's own moto: with `complete_moto` they work, and without it they work or fail before anything is bought."""

import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.server import ThreadedMotoServer

from multicompute import Cluster
from multicompute.cli import main
from multicompute.errors import InvalidRequestError
from multicompute.testing import complete_moto

REGION = "us-east-1"


@pytest.fixture(autouse=True)
def _ledger_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTICOMPUTE_STATE", f"sqlite:///{tmp_path / 'state.db'}")


@pytest.fixture
def moto_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A moto server of the user's own, which the environment points to."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # All servers of a process have the same accounts.
    urllib.request.urlopen(
        urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST"), timeout=10
    ).close()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    yield f"http://{host}:{port}"
    boto3.client("ec2", region_name=REGION).close()
    server.stop()


def states(region: str = REGION) -> list[str]:
    """Return the states of all instances, as a client of the user's sees them."""
    reservations = boto3.client("ec2", region_name=region).describe_instances()["Reservations"]
    return [item["State"]["Name"] for reservation in reservations for item in reservation["Instances"]]


def left(region: str = REGION) -> list[str]:
    """Return the groups of clusters that are left, as a client of the user's sees them."""
    ec2 = boto3.client("ec2", region_name=region)
    groups = [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]]
    return [name for name in groups if name.startswith("multicompute")]


def an_image() -> str:
    filters = [{"Name": "architecture", "Values": ["x86_64"]}]
    return str(boto3.client("ec2", region_name=REGION).describe_images(Filters=filters)["Images"][0]["ImageId"])  # type: ignore[arg-type]


def request_and_terminate() -> None:
    with Cluster.request(gpus=16, type="h100", clouds=["aws"], regions=[REGION]) as cluster:
        assert {node.instance_type for node in cluster.nodes} == {"p5.48xlarge"}
        ec2 = boto3.client("ec2", region_name=REGION)
        assert [each["Strategy"] for each in ec2.describe_placement_groups()["PlacementGroups"]] == ["cluster"]
        assert states() == ["running", "running"]
    assert states() == ["terminated", "terminated"]
    assert ec2.describe_placement_groups()["PlacementGroups"] == []
    assert left() == []


def test_a_gang_is_launched_with_a_placement_group_and_torn_down_in_mock_aws() -> None:
    with mock_aws(), complete_moto():
        request_and_terminate()


def test_a_gang_is_launched_and_torn_down_on_a_moto_server(moto_server: str) -> None:
    with complete_moto():
        request_and_terminate()


def test_spot_nodes_are_launched_as_such() -> None:
    with mock_aws(), complete_moto(), Cluster.request(gpus=8, type="h100", spot=True, clouds=["aws"]) as cluster:
        found = boto3.client("ec2", region_name=cluster.region).describe_instances()["Reservations"][0]["Instances"][0]
        assert found["InstanceLifecycle"] == "spot"


def test_a_lease_is_extended_listed_live_and_reconciled_with_nothing_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock_aws(), complete_moto():
        monkeypatch.setenv("MULTICOMPUTE_PROVIDERS__AWS__REGIONS", REGION)
        cluster = Cluster.request(gpus=8, type="h100", clouds=["aws"], ttl="2h", name="leased")
        before = cluster.expires_at
        cluster.extend("1h")
        assert cluster.expires_at is not None and before is not None and cluster.expires_at > before
        assert main(["ls", "--live"]) == 0
        assert "leased" in capsys.readouterr().out
        cluster.terminate()
        assert main(["reconcile"]) == 0, capsys.readouterr()
        assert left() == []


def test_a_node_that_a_client_of_the_user_s_terminates_is_seen_as_gone() -> None:
    with mock_aws(), complete_moto():
        cluster = Cluster.request(gpus=16, type="h100", clouds=["aws"], regions=[REGION])
        boto3.client("ec2", region_name=REGION).terminate_instances(InstanceIds=[cluster.nodes[0].id])
        cluster.refresh()
        assert len(cluster.nodes) == 1
        cluster.terminate()
        assert set(states()) == {"terminated"}


def test_moto_s_own_answers_to_other_clients_stay() -> None:
    with mock_aws(), complete_moto():
        ec2 = boto3.client("ec2", region_name=REGION)
        image = an_image()
        # EC2 would refuse it: there is no such type.
        ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="m1.invented")  # type: ignore[arg-type]
        with pytest.raises(ClientError, match="ParameterNotFound"):
            boto3.client("ssm", region_name=REGION).get_parameter(Name="/mine")
        assert states() == ["running"]


def test_each_mock_aws_begins_empty() -> None:
    for _ in range(2):
        with complete_moto(), mock_aws():
            assert states() == []
            ec2 = boto3.client("ec2", region_name=REGION)
            assert ec2.describe_placement_groups()["PlacementGroups"] == []
            ec2.create_placement_group(GroupName="mine", Strategy="cluster")


def test_threads_see_the_same_moto() -> None:
    found: list[str] = []

    def look() -> None:
        ec2 = boto3.client("ec2", region_name=REGION)
        found.extend(each["GroupName"] for each in ec2.describe_placement_groups()["PlacementGroups"])

    with mock_aws(), complete_moto():
        boto3.client("ec2", region_name=REGION).create_placement_group(GroupName="mine", Strategy="cluster")
        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["mine"] * 4


def test_the_last_of_several_blocks_undoes_everything() -> None:
    from moto.ec2.responses import EC2Response
    from moto.ssm.responses import SimpleSystemManagerResponse

    before = EC2Response._dispatch, SimpleSystemManagerResponse._dispatch
    with mock_aws():
        with complete_moto():
            with complete_moto():
                pass
            assert EC2Response._dispatch is not before[0]
            boto3.client("ec2", region_name=REGION).describe_placement_groups()
        assert (EC2Response._dispatch, SimpleSystemManagerResponse._dispatch) == before
        assert "_dispatch" not in vars(EC2Response)
        with pytest.raises(NotImplementedError):
            boto3.client("ec2", region_name=REGION).describe_placement_groups()


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("server", [False, True])
def test_without_it_a_request_fails_before_a_launch_and_names_the_line(
    nodes: int, server: bool, request: pytest.FixtureRequest
) -> None:
    mock = mock_aws()
    if server:
        request.getfixturevalue("moto_server")
    else:
        mock.start()
    try:
        for image in (None, an_image()):
            if nodes == 1 and image is not None:
                continue
            with pytest.raises(InvalidRequestError) as caught:
                Cluster.request(gpus=8 * nodes, type="h100", clouds=["aws"], regions=[REGION], image=image)
            shown = str(caught.value)
            assert "with mock_aws(), complete_moto():" in shown
            assert "from multicompute.testing import complete_moto" in shown
            assert len(shown.splitlines()) <= 3
            assert states() == [] and left() == []
        assert Cluster.list() == []
    finally:
        if not server:
            mock.stop()


def test_without_it_a_single_node_with_a_named_image_is_launched() -> None:
    with mock_aws():
        with Cluster.request(gpus=1, type="t4", clouds=["aws"], regions=[REGION], image=an_image()) as cluster:
            assert len(cluster.nodes) == 1
        assert states() == ["terminated"] and left() == []
