"""Fixtures for tests of the local AWS: a cloud, and the real SDK connected to it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from multicompute_aws.local import AwsLocalCloud
from tests.aws_client import aws_client

IMAGE_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"


@pytest.fixture(params=["own", "moto"])
def cloud(request: pytest.FixtureRequest) -> Iterator[AwsLocalCloud]:
    """A local AWS, once with instances in its own store and once with instances in moto."""
    cloud = AwsLocalCloud(store=request.param)
    cloud.start()
    yield cloud
    cloud.stop()


@pytest.fixture
def own_cloud() -> Iterator[AwsLocalCloud]:
    """A local AWS with its own store, for what moto lacks."""
    cloud = AwsLocalCloud()
    cloud.start()
    yield cloud
    cloud.stop()


Client = Callable[..., Any]


@pytest.fixture
def client_of() -> Iterator[Callable[[AwsLocalCloud], Client]]:
    """Create clients that do not retry: client_of(cloud)("ec2", region="eu-west-1")."""
    made: list[Any] = []
    no_retry = Config(retries={"mode": "standard", "total_max_attempts": 1})

    def of(cloud: AwsLocalCloud) -> Client:
        def make(service: str, region: str = "us-east-1") -> Any:
            client = aws_client(service, cloud.endpoint_url, region=region, config=no_retry)
            made.append(client)
            return client

        return make

    yield of
    for client in made:
        client.close()


@pytest.fixture
def client(cloud: AwsLocalCloud, client_of: Callable[[AwsLocalCloud], Client]) -> Client:
    return client_of(cloud)


@pytest.fixture
def ec2(client: Client) -> Any:
    return client("ec2")


@pytest.fixture
def own_ec2(own_cloud: AwsLocalCloud, client_of: Callable[[AwsLocalCloud], Client]) -> Any:
    return client_of(own_cloud)("ec2")


def _image(make: Client, region: str = "us-east-1") -> str:
    value: str = make("ssm", region).get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
    return value


@pytest.fixture
def image(client: Client) -> str:
    """The image id of the deep learning base image in us-east-1."""
    return _image(client)


@pytest.fixture
def run(ec2: Any, image: str) -> Callable[..., list[str]]:
    """Run instances, and return their ids."""
    return _runner(ec2, image)


@pytest.fixture
def own_image(own_cloud: AwsLocalCloud, client_of: Callable[[AwsLocalCloud], Client]) -> str:
    return _image(client_of(own_cloud))


@pytest.fixture
def own_run(own_ec2: Any, own_image: str) -> Any:
    return _runner(own_ec2, own_image)


def _runner(ec2: Any, image: str) -> Callable[..., list[str]]:
    def run(count: int = 1, **changes: Any) -> list[str]:
        request = {"ImageId": image, "InstanceType": "g6.xlarge", "MinCount": count, "MaxCount": count, **changes}
        return [instance["InstanceId"] for instance in ec2.run_instances(**request)["Instances"]]

    return run


@pytest.fixture
def refused() -> Callable[..., tuple[str, int, str]]:
    """Call, and return the code, HTTP status and message of the refusal."""

    def refusal(call: Callable[..., Any], **params: Any) -> tuple[str, int, str]:
        with pytest.raises(ClientError) as caught:
            call(**params)
        answer = caught.value.response
        return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]

    return refusal


@pytest.fixture
def subnet_in(ec2: Any) -> Callable[[str], str]:
    """The default subnet of a zone of us-east-1."""

    def find(zone: str) -> str:
        filters = [{"Name": "availability-zone", "Values": [zone]}]
        found: str = ec2.describe_subnets(Filters=filters)["Subnets"][0]["SubnetId"]
        return found

    return find
