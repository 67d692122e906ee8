"""Nodes that are READY can be reached and reach the internet; what can't be is refused before anything is bought."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multicompute import Cluster, errors
from multicompute.config import apply_environment
from multicompute.node import NodeState
from multicompute.offer import Offer
from multicompute.provider import LaunchRequest, Selector, Settings
from multicompute.testing import FakeClock, running
from multicompute.testing.provider_harness import launch_request
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from tests.aws_client import aws_client
from tests.conformance.test_aws import harness_of

HERE = Selector(region="us-east-1", cluster_id="id-first")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me"
QUOTA = "L-0263D0A3"


class Site:
    """A local AWS, and a VPC in which each kind of subnet can be added to us-east-1a."""

    def __init__(self, cloud: AwsLocalCloud, clock: FakeClock) -> None:
        self.cloud, self.clock = cloud, clock
        self.ec2: Any = aws_client("ec2", cloud.endpoint_url)
        self.vpc = self.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        self.gateway = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=self.gateway, VpcId=self.vpc)
        self._count = 0

    def subnet(self, target: str = "") -> str:
        """Add a subnet with a default route to an internet gateway or a NAT gateway, or with none."""
        self._count += 1
        block = f"10.9.{self._count}.0/24"
        made = self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=block, AvailabilityZone="us-east-1a")
        subnet = str(made["Subnet"]["SubnetId"])
        table = self.ec2.create_route_table(VpcId=self.vpc)["RouteTable"]["RouteTableId"]
        self.ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
        if target:
            where = {"NatGatewayId": target} if target.startswith("nat-") else {"GatewayId": target}
            self.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", **where)
        return subnet

    def nat(self) -> str:
        """Add a NAT gateway in a public subnet, and return its id."""
        address = self.ec2.allocate_address(Domain="vpc")["AllocationId"]
        made = self.ec2.create_nat_gateway(SubnetId=self.subnet(self.gateway), AllocationId=address)
        return str(made["NatGateway"]["NatGatewayId"])

    def provider(self, *subnets: str, **values: object) -> AwsProvider:
        named = {"subnets": list(subnets)} if subnets else {}
        settings = Settings({"regions": ["us-east-1"], **named, **values}, self.cloud.environment)
        return AwsProvider(settings, clock=self.clock)

    def subnets_used(self) -> set[str]:
        found = self.ec2.describe_instances()["Reservations"]
        return {item["SubnetId"] for reservation in found for item in reservation["Instances"]}

    def bought(self) -> int:
        return self.cloud.faults.count("RunInstances")


@pytest.fixture(params=["own", "moto"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    clock = FakeClock()
    with running(AwsLocalCloud(store=request.param, clock=clock)) as cloud:
        yield Site(cloud, clock)


@pytest.fixture
def h100(site: Site) -> Offer:
    return harness_of(site.cloud, site.clock, page_nodes=1).offer()


@pytest.fixture
def gang(h100: Offer) -> LaunchRequest:
    """Two nodes with 32 network cards each, to which a user logs in."""
    return replace(launch_request(h100), fabric=True, ssh_public_key=KEY)


def _tear_down(provider: AwsProvider) -> None:
    for _ in range(20):
        if provider.terminate(HERE).is_done:
            return
    raise AssertionError("the teardown does not finish")


def test_a_gang_with_several_network_cards_can_be_reached_and_leaves_no_address(
    site: Site, gang: LaunchRequest
) -> None:
    provider = site.provider()
    provider.launch(gang)
    nodes = provider.nodes(HERE)
    assert {node.state for node in nodes} == {NodeState.RUNNING}
    assert len({node.public_ip for node in nodes}) == 2
    assert all(site.cloud.reachable(node.id) and site.cloud.has_way_out(node.id) for node in nodes)
    addresses = [item for item in provider.resources(HERE) if item.kind == "elastic-ip"]
    assert len(addresses) == 2 and all(item.billable for item in addresses)
    assert {item.tags["multicompute-id"] for item in addresses} == {"id-first"}
    _tear_down(provider)
    assert site.cloud.alive() == []


def test_a_node_is_pending_until_it_has_its_address(site: Site, gang: LaunchRequest) -> None:
    """EC2 associates no address with an instance that does not run: terraform-provider-aws#19699."""
    site.cloud.set_delays(boot=60)
    provider = site.provider()
    provider.launch(gang)
    assert {node.state for node in provider.nodes(HERE)} == {NodeState.PENDING}
    site.clock.advance("61s")
    site.cloud.faults.fail("AssociateAddress", "IncorrectInstanceState")
    assert sorted(node.state for node in provider.nodes(HERE)) == [NodeState.PENDING, NodeState.RUNNING]
    assert {node.state for node in provider.nodes(HERE)} == {NodeState.RUNNING}


def test_a_listing_of_all_clusters_gives_no_node_an_address(site: Site, gang: LaunchRequest) -> None:
    provider = site.provider()
    provider.launch(gang)
    assert {node.state for node in provider.nodes(Selector(region="us-east-1"))} == {NodeState.PENDING}
    assert site.cloud.faults.count("AssociateAddress") == 0


def test_a_launch_that_ended_before_its_addresses_gets_them_from_another_process(
    site: Site, gang: LaunchRequest
) -> None:
    site.cloud.faults.fail("AllocateAddress", "InternalError", status=500, where={"dry_run": False})
    with pytest.raises(errors.TransientError):
        site.provider().launch(gang)
    other = site.provider()
    nodes = other.nodes(HERE)
    assert {node.state for node in nodes} == {NodeState.RUNNING} and all(node.public_ip for node in nodes)
    _tear_down(other)
    assert site.cloud.alive() == []


def test_a_gang_beyond_the_quota_of_addresses_is_refused_before_anything_is_bought(
    site: Site, gang: LaunchRequest
) -> None:
    site.cloud.set_quota(QUOTA, "us-east-1", 1)
    with pytest.raises(errors.InvalidRequestError, match="2 elastic IP addresses needed, 1 allowed") as caught:
        site.provider().launch(gang)
    assert (caught.value.code, caught.value.scope) == ("NoWayOut", "request")
    assert all(word in str(caught.value.hint) for word in ("NAT gateway", "private=True", QUOTA))
    assert len(str(caught.value)) <= 300
    assert site.bought() == 0 and not [item for item in site.cloud.alive() if item.kind == "elastic-ip"]


def test_without_the_right_to_addresses_only_gangs_that_need_them_are_refused(site: Site, gang: LaunchRequest) -> None:
    denial = "User: arn:aws:iam::1:user/me is not authorized to perform: ec2:AllocateAddress"
    site.cloud.faults.fail("AllocateAddress", "UnauthorizedOperation", message=denial, status=403, times=None)
    provider = site.provider()
    with pytest.raises(errors.InvalidRequestError, match="a policy denies ec2:AllocateAddress") as caught:
        provider.launch(gang)
    assert caught.value.scope == "request" and site.bought() == 0
    assert len(provider.launch(replace(gang, fabric=False, token="t-2"))) == 2


def test_a_gang_whose_addresses_are_refused_after_the_launch_is_taken_back(site: Site, gang: LaunchRequest) -> None:
    """The quota could not be read, or another launch took the last address."""
    site.cloud.faults.fail("GetServiceQuota", "AccessDeniedException", times=None)
    site.cloud.set_quota(QUOTA, "us-east-1", 1)
    provider = site.provider()
    with pytest.raises(errors.InvalidRequestError, match="no subnet here has a NAT gateway"):
        provider.launch(gang)
    assert [item.kind for item in site.cloud.alive() if item.kind in ("instance", "elastic-ip")] == []


def test_beyond_the_quota_a_subnet_with_a_nat_gateway_is_used_and_said_to_admit_nobody(
    site: Site, gang: LaunchRequest, caplog: pytest.LogCaptureFixture
) -> None:
    public, inner = site.subnet(site.gateway), site.subnet(site.nat())
    site.cloud.set_quota(QUOTA, "us-east-1", 1)
    provider = site.provider(public, inner)
    with caplog.at_level(logging.WARNING):
        provider.launch(gang)
    assert site.subnets_used() == {inner}
    nodes = provider.nodes(HERE)
    assert all(site.cloud.has_way_out(node.id) for node in nodes)
    assert {node.state for node in nodes} == {NodeState.RUNNING}
    assert "SSH works only from inside" in caplog.text


def test_without_a_key_a_nat_gateway_is_used_in_place_of_addresses(site: Site, gang: LaunchRequest) -> None:
    public, inner = site.subnet(site.gateway), site.subnet(site.nat())
    provider = site.provider(public, inner)
    provider.launch(replace(gang, ssh_public_key=None))
    assert site.subnets_used() == {inner}
    assert all(site.cloud.has_way_out(node.id) and not node.public_ip for node in provider.nodes(HERE))


@pytest.mark.parametrize("fabric", [False, True])
def test_an_isolated_subnet_is_passed_over_and_refused_where_it_is_the_only_one(
    site: Site, gang: LaunchRequest, fabric: bool
) -> None:
    isolated, public = site.subnet(), site.subnet(site.gateway)
    request = replace(gang, fabric=fabric)
    with pytest.raises(errors.InvalidRequestError, match="no subnet here has a route to the internet"):
        site.provider(isolated).launch(request)
    assert site.bought() == 0
    provider = site.provider(isolated, public)
    provider.launch(request)
    assert site.subnets_used() == {public}
    assert all(site.cloud.reachable(node.id) for node in provider.nodes(HERE))


def test_private_nodes_get_a_subnet_with_a_nat_gateway_where_there_is_one(
    site: Site, gang: LaunchRequest, caplog: pytest.LogCaptureFixture
) -> None:
    public, inner = site.subnet(site.gateway), site.subnet(site.nat())
    provider = site.provider(public, inner)
    with caplog.at_level(logging.WARNING):
        provider.launch(replace(gang, private=True))
    assert site.subnets_used() == {inner} and caplog.text == ""
    assert all(site.cloud.has_way_out(node.id) and not site.cloud.reachable(node.id) for node in provider.nodes(HERE))
    with caplog.at_level(logging.WARNING):
        site.provider(public).launch(replace(gang, private=True, token="t-2"))
    assert "no way out" in caplog.text


def test_without_the_permission_to_read_routes_the_settings_of_the_subnets_decide(
    site: Site, gang: LaunchRequest
) -> None:
    site.cloud.faults.fail("DescribeRouteTables", "UnauthorizedOperation", status=403)
    provider = site.provider()
    provider.launch(gang)
    assert all(site.cloud.reachable(node.id) for node in provider.nodes(HERE))


def test_configured_groups_that_do_not_admit_ssh_are_refused_where_a_key_is_given(
    site: Site, gang: LaunchRequest
) -> None:
    group = site.ec2.create_security_group(GroupName="mine", Description="mine")["GroupId"]
    provider = site.provider(security_groups=[group])
    single = replace(gang, fabric=False)
    with pytest.raises(errors.InvalidRequestError, match="allows SSH") as caught:
        provider.launch(single)
    assert caught.value.code == "NoSshRule" and site.bought() == 0
    site.ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="203.0.113.0/24"
    )
    provider.launch(single)
    assert all(site.cloud.reachable(node.id) for node in provider.nodes(HERE))


def test_the_addresses_of_replaced_nodes_do_not_stay_in_the_quota(site: Site, gang: LaunchRequest) -> None:
    site.cloud.set_quota(QUOTA, "us-east-1", 2)
    provider = site.provider()
    lost, kept = provider.nodes(HERE) if provider.launch(gang) else ()
    site.cloud.terminate_node(lost.id)
    again = replace(gang, token="t-2", parts=(replace(gang.parts[0], nodes=1),))
    again = replace(again, tags={**gang.tags, "multicompute-attempt": "t-2"})
    provider.launch(again)
    nodes = {node.id: node for node in provider.nodes(HERE)}
    assert nodes[kept.id].public_ip == kept.public_ip
    fresh = next(node for node in nodes.values() if node.token == "t-2")
    assert fresh.state is NodeState.RUNNING and fresh.public_ip
    assert len([item for item in site.cloud.alive() if item.kind == "elastic-ip"]) == 2


def test_64_h100_are_reachable_when_they_are_ready(tmp_path: Path) -> None:
    key = tmp_path / "key.pub"
    key.write_text(KEY)
    with running(AwsLocalCloud()) as cloud:
        variables = {"MULTICOMPUTE_STATE": f"sqlite:///{tmp_path}/ledger.db", "MULTICOMPUTE_AWS__REGIONS": "us-east-1"}
        with (
            apply_environment({**cloud.environment, **variables}),
            Cluster.request(gpus=64, type="h100", clouds=["aws"], regions=["us-east-1"], ssh_key=str(key)) as cluster,
        ):
            assert all(cloud.reachable(node.id) and node.public_ip for node in cluster.nodes)
            assert sum(item.kind == "elastic-ip" for item in cloud.alive()) == 8
        assert cloud.alive() == []
