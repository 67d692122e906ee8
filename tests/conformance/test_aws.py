"""The AWS provider keeps every promise of the seam: the real SDK, over HTTP, against the local cloud."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

import boto3
import pytest

from multicompute.clock import SystemClock
from multicompute.node import Metric, Node
from multicompute.offer import InstanceType, Offer, Purchase, Quote
from multicompute.provider import TAG_EXPIRES_AT, Provider, Resource, Settings
from multicompute.testing import FailureKind, ProviderConformance
from multicompute_aws import plugin
from multicompute_aws.local import AwsLocalCloud

TYPE = InstanceType("aws", "p5.48xlarge", "h100", 8, 80.0, vcpus=192, memory_gib=2048, fabric="efa", network_cards=32)
REGIONS = ("us-east-1", "us-west-2")
KEYS = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
# As EC2 words them: code, HTTP status, message.
REFUSALS = {
    FailureKind.CAPACITY: ("InsufficientInstanceCapacity", 500, "We currently do not have sufficient capacity."),
    FailureKind.NOT_OFFERED: (
        "Unsupported",
        400,
        "Your requested instance type (p5.48xlarge) is not supported in your requested Availability Zone (us-east-1a).",
    ),
    FailureKind.QUOTA: ("VcpuLimitExceeded", 400, "You have requested more vCPU capacity than your current limit."),
    FailureKind.THROTTLED: ("RequestLimitExceeded", 503, "Request limit exceeded."),
    FailureKind.TRANSIENT: ("InternalError", 500, "An internal error has occurred."),
    FailureKind.AUTH: ("AuthFailure", 401, "AWS was not able to validate the provided access credentials."),
    FailureKind.DENIED: ("UnauthorizedOperation", 403, "You are not authorized to perform this operation."),
    FailureKind.INVALID: ("InvalidParameterValue", 400, "Invalid value for a parameter."),
    FailureKind.UNKNOWN: ("SomethingNobodyHasHeardOf", 400, "It is what it is."),
}


class AwsWorld:
    # EC2's largest page has 1,000.
    page_nodes = 1001

    def __init__(self, cloud: AwsLocalCloud) -> None:
        self.cloud = cloud
        self.clock = SystemClock()
        self.provider: Provider = plugin.open(Settings(values={"regions": REGIONS}, environment=cloud.environment))

    def offer(self, purchase: Purchase = "on_demand", *, zone: int = 0, region: int = 0) -> Offer:
        quote = Quote(55.04, date(2026, 7, 20), "test")
        return Offer(TYPE, REGIONS[region], f"{REGIONS[region]}{'ab'[zone]}", purchase, quote)

    def alive(self) -> Sequence[Resource]:
        return self.cloud.alive()

    def limit_capacity(self, offer: Offer, nodes: int) -> None:
        self.cloud.set_capacity(offer.instance_type, offer.zone, nodes)

    def refuse_launch(self, kind: FailureKind) -> None:
        code, status, message = REFUSALS[kind]
        self.cloud.faults.fail("RunInstances", code, status=status, message=message)

    def lose_launch_answer(self) -> None:
        self.cloud.faults.lose_answer("RunInstances")

    def delay_listing(self) -> None:
        self.cloud.lag = timedelta(milliseconds=300)

    def add_foreign(self) -> None:
        self.cloud.seed_foreign()

    def foreign_intact(self) -> bool:
        return self.cloud.foreign_intact()

    def reach_expiry(self) -> None:
        # No system runs in the local instances, so this does what the timer of a real one does when the time in its tag has
        # come: it shuts down, and EC2 then does what the launch has asked for. The timer's script has tests of its own.
        ec2 = boto3.client("ec2", region_name=REGIONS[0], endpoint_url=self.cloud.endpoint_url, **KEYS)
        for resource in self.cloud.alive():
            if resource.kind == "instance" and resource.tags.get(TAG_EXPIRES_AT, "never") != "never":
                attribute = "instanceInitiatedShutdownBehavior"
                answer = ec2.describe_instance_attribute(InstanceId=resource.id, Attribute=attribute)
                if answer["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate":
                    self.cloud.terminate_node(
                        resource.id, "Client.InstanceInitiatedShutdown", "Instance initiated shutdown"
                    )
                else:
                    self.cloud.stop_node(resource.id)

    def preempt(self, node_id: str) -> None:
        self.cloud.preempt(node_id)

    def measure(self, node: Node, load: Mapping[Metric, float]) -> None:
        self.cloud.measure(node.id, load)

    def impair(self, node: Node) -> None:
        self.cloud.impair(node.id)

    def reserve(self, offer: Offer, nodes: int) -> str:
        return self.cloud.add_reservation(offer.instance_type, offer.zone, nodes)


class TestAwsProvider(ProviderConformance):
    provider_name = "aws"

    @pytest.fixture
    def world(self) -> Iterator[AwsWorld]:
        cloud = AwsLocalCloud()
        cloud.start()
        try:
            yield AwsWorld(cloud)
        finally:
            cloud.stop()


class MotoWorld(AwsWorld):
    # Moto pages by 100, and takes seconds for what the local cloud's own store does in one.
    page_nodes = 120


class TestAwsProviderOnMoto(ProviderConformance):
    """The same with the instances in moto, which knows nothing of this project: an independent judge."""

    provider_name = "aws"

    @pytest.fixture
    def world(self) -> Iterator[AwsWorld]:
        cloud = AwsLocalCloud(store="moto")
        cloud.start()
        try:
            yield MotoWorld(cloud)
        finally:
            cloud.stop()
