"""The AWS provider keeps every promise of the seam: the real SDK, over HTTP, against the local cloud."""

from collections.abc import Iterator
from datetime import date

import pytest

from multicompute.offer import InstanceType, Quote
from multicompute.provider import TAG_EXPIRES_AT, Settings
from multicompute.testing import FailureKind, FakeClock, LocalCloudHarness, ProviderConformance, Refusal, running
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from tests.aws_client import aws_client

TYPE = InstanceType("aws", "p5.48xlarge", "h100", 8, 80.0, vcpus=192, memory_gib=2048, fabric="efa", network_cards=32)
ZONES = {"us-east-1": ("us-east-1a", "us-east-1b"), "us-west-2": ("us-west-2a", "us-west-2b")}
REFUSALS = {
    FailureKind.CAPACITY: Refusal("InsufficientInstanceCapacity", 500, "We currently do not have sufficient capacity."),
    FailureKind.NOT_OFFERED: Refusal(
        "Unsupported",
        400,
        "Your requested instance type (p5.48xlarge) is not supported in your requested Availability Zone (us-east-1a).",
    ),
    FailureKind.QUOTA: Refusal(
        "VcpuLimitExceeded", 400, "You have requested more vCPU capacity than your current limit."
    ),
    FailureKind.THROTTLED: Refusal("RequestLimitExceeded", 503, "Request limit exceeded."),
    FailureKind.TRANSIENT: Refusal("InternalError", 500, "An internal error has occurred."),
    # Twice: after the first refusal the provider reads the credentials again, and repeats the call.
    FailureKind.AUTH: Refusal("AuthFailure", 401, "AWS was not able to validate the provided access credentials.", 2),
    FailureKind.DENIED: Refusal("UnauthorizedOperation", 403, "You are not authorized to perform this operation."),
    FailureKind.INVALID: Refusal("InvalidParameterValue", 400, "Invalid value for a parameter."),
    FailureKind.UNKNOWN: Refusal("SomethingNobodyHasHeardOf", 400, "It is what it is."),
}


def harness_of(cloud: AwsLocalCloud, clock: FakeClock, *, page_nodes: int) -> LocalCloudHarness:
    return LocalCloudHarness(
        cloud=cloud,
        provider=AwsProvider(Settings(values={"regions": tuple(ZONES)}, environment=cloud.environment), clock=clock),
        clock=clock,
        instance_type=TYPE,
        zones=ZONES,
        quote=Quote(55.04, date(2026, 7, 20), "test"),
        launch="RunInstances",
        refusals=REFUSALS,
        page_nodes=page_nodes,
        other_account=lambda: AwsProvider(
            Settings(values={"regions": tuple(ZONES)}, environment=cloud.add_account("210987654321")), clock=clock
        ),
        reach_expiry=lambda: run_timers(cloud),
    )


def run_timers(cloud: AwsLocalCloud) -> None:
    """Do what the timer on a real instance does at the expiry in its tag: it shuts down, and EC2 does what the launch asked for.

    No operating system runs on the local instances. The timer's script has tests of its own.
    """
    ec2 = aws_client("ec2", cloud.endpoint_url)
    for resource in cloud.alive():
        if resource.kind == "instance" and resource.tags.get(TAG_EXPIRES_AT, "never") != "never":
            attribute = "instanceInitiatedShutdownBehavior"
            found = ec2.describe_instance_attribute(InstanceId=resource.id, Attribute=attribute)
            if found["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate":
                cloud.terminate_node(resource.id, "Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
            else:
                cloud.stop_node(resource.id)


class TestAwsProvider(ProviderConformance):
    provider_name = "aws"

    @pytest.fixture
    def harness(self) -> Iterator[LocalCloudHarness]:
        clock = FakeClock()
        with running(AwsLocalCloud(clock=clock)) as cloud:
            # The largest page of EC2 has 1,000 instances.
            yield harness_of(cloud, clock, page_nodes=1001)


class TestAwsProviderOnMoto(ProviderConformance):
    """The same with the instances in moto, an independent reference that does not know this project."""

    provider_name = "aws"

    @pytest.fixture
    def harness(self) -> Iterator[LocalCloudHarness]:
        clock = FakeClock()
        with running(AwsLocalCloud(store="moto", clock=clock)) as cloud:
            # A page of moto has 100 instances, and moto needs seconds for what the own store does in one.
            yield harness_of(cloud, clock, page_nodes=120)
