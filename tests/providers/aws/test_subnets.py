"""Which subnet a launch goes into, where a zone has several."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from multicompute import Cluster, errors
from multicompute.config import apply_environment
from multicompute.offer import Offer, Part
from multicompute.provider import Selector, Settings
from multicompute.testing import FakeClock, running
from multicompute.testing.provider_harness import launch_request
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from tests.conformance.test_aws import harness_of

HERE = Selector(region="us-east-1", cluster_id="id-first")
FULL = "InsufficientFreeAddressesInSubnet"


class Site:
    """A local AWS with three subnets in us-east-1a, of one VPC."""

    def __init__(self, cloud: AwsLocalCloud) -> None:
        self.cloud = cloud
        self.ec2: Any = boto3.client(
            "ec2",
            region_name="us-east-1",
            endpoint_url=cloud.endpoint_url,
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        self.vpc = self.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        gateway = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=self.vpc)
        tables = self.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [self.vpc]}])["RouteTables"]
        self.ec2.create_route(
            RouteTableId=tables[0]["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway
        )
        self.subnets = [self._subnet(number) for number in range(3)]

    def _subnet(self, number: int) -> str:
        block = f"10.9.{number}.0/24"
        made = self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=block, AvailabilityZone="us-east-1a")
        return str(made["Subnet"]["SubnetId"])

    def provider(self) -> AwsProvider:
        return AwsProvider(Settings({"regions": ["us-east-1"], "vpc": self.vpc}, self.cloud.environment))

    def used(self) -> list[str]:
        """Return the subnet of each instance."""
        found = self.ec2.describe_instances()["Reservations"]
        return [item["SubnetId"] for reservation in found for item in reservation["Instances"]]


@pytest.fixture
def site() -> Iterator[Site]:
    with running(AwsLocalCloud()) as cloud:
        yield Site(cloud)


@pytest.fixture
def h100(site: Site) -> Offer:
    return harness_of(site.cloud, FakeClock(), page_nodes=1).offer()


def test_the_subnet_with_the_most_free_addresses_is_used(site: Site, h100: Offer) -> None:
    for subnet, free in zip(site.subnets, (1, 90, 30), strict=True):
        site.cloud.set_free_addresses(subnet, free)
    provider = site.provider()
    provider.launch(launch_request(h100))
    assert set(site.used()) == {site.subnets[1]}
    # What was free when the process started is not what is free now.
    site.cloud.set_free_addresses(site.subnets[1], 5)
    provider.launch(launch_request(h100, token="attempt-2"))
    assert set(site.used()) == {site.subnets[1], site.subnets[2]}


def test_a_subnet_that_fills_up_meanwhile_is_followed_by_the_next(
    site: Site, h100: Offer, caplog: pytest.LogCaptureFixture
) -> None:
    site.cloud.faults.fail("RunInstances", FULL)
    with caplog.at_level(logging.WARNING):
        nodes = site.provider().launch(launch_request(h100))
    assert [node.id for node in nodes] == site.cloud.running_ids()
    assert "too few free addresses" in caplog.text


def test_a_zone_whose_subnets_are_all_full_has_no_capacity(site: Site, h100: Offer) -> None:
    for subnet in site.subnets:
        site.cloud.set_free_addresses(subnet, 1)
    with pytest.raises(errors.CapacityError) as caught:
        site.provider().launch(launch_request(h100))
    assert (caught.value.code, caught.value.scope) == (FULL, "zone")
    assert site.cloud.running_ids() == []


def test_a_repeated_launch_keeps_to_its_subnet_and_buys_nothing(site: Site, h100: Offer) -> None:
    provider, request = site.provider(), launch_request(h100)
    site.cloud.set_free_addresses(site.subnets[2], 100)
    site.cloud.faults.lose_answer("RunInstances")
    with pytest.raises(errors.TransientError):
        provider.launch(request)
    first = site.used()
    # Now another subnet has the most.
    site.cloud.set_free_addresses(first[0], 7)
    assert len(provider.launch(request)) == len(site.provider().launch(request)) == 2
    assert site.used() == first


def test_a_token_that_ec2_accepts_for_no_other_subnet_counts_as_a_lack_of_capacity(site: Site, h100: Offer) -> None:
    site.cloud.faults.fail("RunInstances", FULL)
    site.cloud.faults.fail("RunInstances", "IdempotentParameterMismatch", times=2)
    with pytest.raises(errors.CapacityError) as caught:
        site.provider().launch(launch_request(h100))
    assert caught.value.code == FULL
    assert site.cloud.running_ids() == []


def test_a_reservation_in_a_zone_without_a_subnet_is_refused_by_its_name(site: Site, h100: Offer) -> None:
    there = replace(h100, zone="us-east-1b")
    held = site.cloud.add_reservation(h100.instance_type, "us-east-1b", 2)
    request = replace(launch_request(there), parts=(Part(there, 2, reservation=held),))
    with pytest.raises(errors.CapacityError, match=f"reservation {held} is in a zone without a subnet"):
        site.provider().launch(request)


@pytest.mark.parametrize("reservations_only", [False, True])
def test_a_reservation_that_can_not_be_used_is_never_passed_over_silently(
    site: Site, tmp_path: Path, reservations_only: bool
) -> None:
    held = site.cloud.add_reservation("p5.48xlarge", "us-east-1b", 1)
    variables = {
        "MULTICOMPUTE_STATE": f"sqlite:///{tmp_path}/ledger.db",
        "MULTICOMPUTE_AWS__REGIONS": "us-east-1",
        "MULTICOMPUTE_AWS__VPC": site.vpc,
    }

    def request() -> Cluster:
        return Cluster.request(
            gpus=8,
            type="p5.48xlarge",
            clouds=["aws"],
            reservations=[held],
            reservations_only=reservations_only,
            name="one",
        )

    with apply_environment({**site.cloud.environment, **variables}):
        if reservations_only:
            with pytest.raises(errors.CapacityError, match=held):
                request()
            assert site.cloud.running_ids() == []
        else:
            request()
            assert len(site.cloud.running_ids()) == 1
        said = [event.message for event in Cluster.get("one").events() if event.kind == "reservation"]
        assert any(f"reservation {held} was not used" in message and "without a subnet" in message for message in said)
        Cluster.get("one").terminate()
