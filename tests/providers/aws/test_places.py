"""A refusal costs the place that it names: the region that refuses, the type that is not sold there, and never the rest of AWS."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.config import apply_environment
from multicompute.node import NodeState
from multicompute.offer import Offer
from multicompute.provider import Selector, Settings
from multicompute.testing import FakeClock, running
from multicompute.testing.provider_harness import launch_request
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from tests.aws_client import aws_client
from tests.conformance.test_aws import harness_of
from tests.providers.aws.scripted_aws import ScriptedAws, json_refusal, refusal

HOME, OTHER = "us-east-1", "us-west-2"
NOT_SUBSCRIBED = (
    "In order to use this AWS Marketplace product you need to accept terms and subscribe. To do so please visit"
    " https://aws.amazon.com/marketplace/pp?sku=4q59bftpyoueme916m1pjimec"
)
FREE_TIER = (
    "The specified instance type is not eligible for Free Tier. For a list of Free Tier instance types, run"
    " 'describe-instance-types' with the filter 'free-tier-eligible=true'."
)


@pytest.fixture(name="clock")
def _clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(name="cloud")
def _cloud(clock: FakeClock) -> Iterator[AwsLocalCloud]:
    with running(AwsLocalCloud(clock=clock)) as cloud:
        yield cloud


@pytest.fixture(name="local")
def _local(cloud: AwsLocalCloud, clock: FakeClock) -> AwsProvider:
    return AwsProvider(Settings({"regions": [HOME, OTHER]}, cloud.environment), clock=clock)


@pytest.fixture(name="h100")
def _h100(cloud: AwsLocalCloud, clock: FakeClock) -> Offer:
    return harness_of(cloud, clock, page_nodes=1).offer()


@pytest.fixture(name="session")
def _session(tmp_path: Path) -> Iterator[AwsLocalCloud]:
    """A local cloud in real time that requests of this process go to."""
    with running(AwsLocalCloud()) as cloud:
        variables = {
            "MULTICOMPUTE_STATE": f"sqlite:///{tmp_path}/ledger.db",
            "MULTICOMPUTE_AWS__REGIONS": f"{HOME},{OTHER}",
        }
        with apply_environment({**cloud.environment, **variables}):
            yield cloud


def there(offer: Offer) -> Offer:
    return replace(offer, region=OTHER, zone=f"{OTHER}a")


def refused(provider: AwsProvider, offer: Offer, **changes: Any) -> errors.MulticomputeError:
    with pytest.raises(errors.MulticomputeError) as caught:
        provider.launch(replace(launch_request(offer), **changes))
    return caught.value


def falls_over(cloud: AwsLocalCloud, **changes: Any) -> Cluster:
    """Request a p5.48xlarge in both regions, and tear it down again when it is checked where it runs."""
    cluster = Cluster.request(
        gpus=8, type="p5.48xlarge", clouds=["aws"], regions=[HOME, OTHER], spot=False, name="one", **changes
    )
    assert cluster.region == OTHER
    assert cluster.terminate().state is ClusterState.TERMINATED
    assert cloud.alive() == []
    return cluster


# --- regions ----------------------------------------------------------------------------------------------------------


def test_a_region_that_refuses_credentials_which_the_identity_service_accepts_costs_that_region(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer
) -> None:
    cloud.faults.fail("RunInstances", "AuthFailure", status=401, times=None, where={"region": OTHER})
    error = refused(local, there(h100))
    assert isinstance(error, errors.AccessDeniedError)
    assert (error.scope, error.region, error.code) == ("region", OTHER, "AuthFailure")
    # Credentials that are in order are not read again.
    assert cloud.faults.count("RunInstances") == 1
    assert local.launch(launch_request(h100, token="t-2"))


@pytest.mark.parametrize("code", ["AuthFailure", "InvalidClientTokenId", "SignatureDoesNotMatch"])
def test_credentials_that_the_home_region_refuses_are_the_accounts(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer, code: str
) -> None:
    cloud.faults.fail("RunInstances", code, status=401, times=None)
    error = refused(local, h100)
    assert isinstance(error, errors.AuthError) and error.scope == "account"


def test_credentials_that_the_identity_service_refuses_are_the_accounts_wherever_it_was_noticed(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer
) -> None:
    cloud.revoke_key(cloud.environment["AWS_ACCESS_KEY_ID"])
    error = refused(local, there(h100))
    assert isinstance(error, errors.AuthError) and error.scope == "account"


def test_another_service_may_be_the_first_to_meet_a_region_that_is_not_enabled(aws: ScriptedAws, h100: Offer) -> None:
    aws.answers |= {
        "GetParameter": json_refusal(
            "UnrecognizedClientException", "The security token included in the request is invalid."
        ),
        "DescribeRegions": "<R><regionInfo>"
        f"<item><regionName>{HOME}</regionName><optInStatus>opt-in-not-required</optInStatus></item>"
        f"<item><regionName>{OTHER}</regionName><optInStatus>not-opted-in</optInStatus></item></regionInfo></R>",
    }
    error = refused(AwsProvider(Settings({"regions": [HOME, OTHER]}, aws.environment)), there(h100))
    assert isinstance(error, errors.AccessDeniedError)
    assert (error.scope, error.code) == ("region", "OptInRequired")
    assert aws.sent("RunInstances") == []


@pytest.mark.parametrize("status", ["unverified", "disabled", "denied"])
def test_a_request_goes_on_in_the_next_region_where_one_can_not_be_used(session: AwsLocalCloud, status: Any) -> None:
    session.set_region(OTHER, status)
    cluster = Cluster.request(gpus=8, type="p5.48xlarge", clouds=["aws"], regions=[OTHER, HOME], spot=False, name="one")
    assert cluster.region == HOME
    assert cluster.terminate().state is ClusterState.TERMINATED
    assert session.alive() == []


def test_an_account_that_waits_for_verification_can_list_and_tear_down_in_the_region(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer
) -> None:
    local.launch(launch_request(there(h100)))
    cloud.set_region(OTHER, "unverified")
    error = refused(local, replace(there(h100), zone=f"{OTHER}b"), token="t-2")
    assert isinstance(error, errors.AccessDeniedError)
    assert (error.scope, error.code) == ("region", "PendingVerification")
    everywhere = Selector(cluster_id="id-first")
    assert len(local.nodes(everywhere)) == 2
    while not local.terminate(everywhere).is_done:
        pass
    assert cloud.alive() == []


def test_a_listing_names_the_region_that_refuses_and_lists_the_others(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer, caplog: pytest.LogCaptureFixture
) -> None:
    launched = {node.id for node in local.launch(launch_request(h100))}
    everywhere = Selector(cluster_id="id-first")
    cloud.faults.fail("DescribeInstances", "AuthFailure", status=401, times=None, where={"region": OTHER})
    with caplog.at_level(logging.WARNING):
        assert {node.id for node in local.nodes(everywhere)} == launched
        assert launched <= {item.id for item in local.resources(everywhere)}
    assert OTHER in caplog.text and "left out" in caplog.text
    # The other region is torn down all the same, and the refusal is not taken for an empty region.
    with pytest.raises(errors.AccessDeniedError, match=OTHER):
        while True:
            local.terminate(everywhere)
    assert cloud.running_ids() == []


def test_a_role_that_spot_needs_is_missing_for_spot_only(cloud: AwsLocalCloud, local: AwsProvider, h100: Offer) -> None:
    cloud.faults.fail("RunInstances", "AuthFailure.ServiceLinkedRoleCreationNotPermitted", status=403)
    error = refused(local, replace(h100, purchase="spot"))
    assert isinstance(error, errors.AccessDeniedError) and error.scope == "request"


# --- instance types ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fabric", [False, True], ids=["by RunInstances", "by DescribeInstanceTypes"])
def test_a_type_that_a_region_does_not_sell_is_no_bad_request(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer, fabric: bool
) -> None:
    cloud.withdraw("p5.48xlarge", HOME)
    error = refused(local, h100, fabric=fabric)
    assert isinstance(error, errors.CapacityError) and not error.is_offered
    assert (error.code, error.scope) == (("InvalidInstanceType", "region") if fabric else ("Unsupported", "zone"))
    assert local.launch(launch_request(there(h100), token="t-2"))


def test_a_request_goes_on_where_the_type_is_sold(session: AwsLocalCloud) -> None:
    session.withdraw("p5.48xlarge", HOME)
    falls_over(session)


@pytest.mark.parametrize(
    ("code", "message", "kind", "scope", "hint"),
    [
        ("InvalidParameterCombination", FREE_TIER, errors.QuotaError, "account", "paid plan"),
        ("OptInRequired", NOT_SUBSCRIBED, errors.InvalidRequestError, "region", "accept the terms"),
        (
            "OptInRequired",
            "You are not subscribed to this service.",
            errors.AccessDeniedError,
            "region",
            "enable-region",
        ),
        ("RequestResourceCountExceeded", "no", errors.InvalidRequestError, "request", ""),
        ("InvalidParameterValue", "Invalid value 'p9.x' for InstanceType.", errors.CapacityError, "region", ""),
        ("UnknownParameter", "The parameter X is not recognized", errors.InvalidRequestError, "account", ""),
        ("AuthFailure", "Not authorized for images: [ami-1]", errors.InvalidRequestError, "region", ""),
    ],
)
def test_the_message_decides_what_a_code_of_several_meanings_costs(
    aws: ScriptedAws,
    provider: AwsProvider,
    h100: Offer,
    code: str,
    message: str,
    kind: type[errors.MulticomputeError],
    scope: str,
    hint: str,
) -> None:
    aws.answers["RunInstances"] = refusal(code, message)
    error = refused(provider, h100)
    assert (type(error), error.scope) == (kind, scope)
    assert hint in (error.hint or "")
    assert "(" not in (error.hint or "")[:1]


def test_a_request_launches_at_once_in_the_zones_that_sell_the_type_to_this_account(session: AwsLocalCloud) -> None:
    """The packaged tables name the zones of another account, in which this one can't buy the type."""
    session.draw_zone_names(1)
    zones = {
        item["Location"]
        for item in aws_client("ec2", session.endpoint_url).describe_instance_type_offerings(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["p5en.48xlarge"]}]
        )["InstanceTypeOfferings"]
    }
    cluster = Cluster.request(gpus=8, type="p5en.48xlarge", clouds=["aws"], regions=[HOME], spot=False, name="one")
    assert {node.zone for node in cluster.nodes} <= zones
    assert session.faults.count("RunInstances") == 1
    cluster.terminate()


# --- keys of volumes --------------------------------------------------------------------------------------------------


def test_a_key_that_can_not_be_used_is_no_lack_of_capacity(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer
) -> None:
    cloud.refuse_default_key(HOME)
    local.launch(launch_request(h100))
    (node, *_) = local.nodes(Selector(region=HOME, cluster_id="id-first"))
    assert (node.state, node.cause) == (NodeState.GONE, "request")
    assert "KMS key" in (node.reason or "") and "default key of EBS encryption" in (node.reason or "")


def test_a_request_goes_on_in_a_region_whose_default_key_can_be_used(session: AwsLocalCloud) -> None:
    session.refuse_default_key(HOME)
    cluster = falls_over(session)
    assert any("KMS key" in event.message for event in cluster.events())


# --- groups that are not visible yet ----------------------------------------------------------------------------------


def test_a_group_that_is_not_visible_yet_is_worth_repeating_the_launch(
    cloud: AwsLocalCloud, local: AwsProvider, clock: FakeClock, h100: Offer
) -> None:
    cloud.group_lag = timedelta(seconds=30)
    codes = []
    for _ in range(10):
        try:
            nodes = local.launch(replace(launch_request(h100), fabric=True))
        except errors.TransientError as error:
            codes.append(error.code)
            clock.advance("10s")
        else:
            break
    assert [node.id for node in nodes] == cloud.running_ids()
    assert codes[0] == "InvalidGroup.NotFound" and set(codes) <= {
        "InvalidGroup.NotFound",
        "InvalidGroup.Duplicate",
        "InvalidPlacementGroup.Unknown",
    }
    assert sorted(item.kind for item in cloud.alive() if item.kind.endswith("-group")) == [
        "placement-group",
        "security-group",
    ]


def test_a_placement_group_that_is_not_visible_yet_is_worth_repeating_with_configured_security_groups_too(
    cloud: AwsLocalCloud, clock: FakeClock, h100: Offer
) -> None:
    ec2 = aws_client("ec2", cloud.endpoint_url)
    group = ec2.create_security_group(GroupName="mine", Description="mine")["GroupId"]
    settings = {"regions": [HOME], "security_groups": [group]}
    provider = AwsProvider(Settings(settings, cloud.environment), clock=clock)
    cloud.group_lag = timedelta(seconds=30)
    request = replace(launch_request(h100), fabric=True, ssh_public_key=None)
    with pytest.raises(errors.TransientError) as caught:
        provider.launch(request)
    assert caught.value.code == "InvalidPlacementGroup.Unknown"
    clock.advance("31s")
    assert len(provider.launch(request)) == 2


def test_a_request_gets_its_nodes_although_groups_are_late(session: AwsLocalCloud) -> None:
    session.group_lag = timedelta(seconds=0.5)
    cluster = Cluster.request(gpus=8, type="p5.48xlarge", clouds=["aws"], regions=[HOME], spot=False, name="one")
    assert len(session.running_ids()) == 1
    assert cluster.terminate().state is ClusterState.TERMINATED
    assert session.alive() == []


# --- doctor -----------------------------------------------------------------------------------------------------------


def findings(provider: AwsProvider) -> dict[str, tuple[bool, str]]:
    return {check.name: (check.ok, check.detail) for check in provider.check()}


def test_the_doctor_passes_an_account_without_a_default_vpc_whose_vpc_is_configured(cloud: AwsLocalCloud) -> None:
    cloud.delete_default_vpcs()
    ec2 = aws_client("ec2", cloud.endpoint_url, region=OTHER)
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.0.0/24", AvailabilityZone=f"{OTHER}a")["Subnet"]["SubnetId"]
    for values in ({"vpc": vpc}, {"subnets": [subnet]}):
        found = findings(AwsProvider(Settings(values, cloud.environment)))
        assert all(ok for ok, _ in found.values()), found
        assert found["subnets"][1] == f"1 subnet of {vpc} in {OTHER}"


def test_the_doctor_reports_a_missing_default_vpc_as_such_and_not_as_missing_permissions(
    cloud: AwsLocalCloud, local: AwsProvider
) -> None:
    cloud.delete_default_vpcs()
    checks = {check.name: check for check in local.check()}
    assert [name for name, check in checks.items() if not check.ok] == ["subnets"]
    assert "create-default-vpc" in checks["subnets"].hint


def test_the_doctor_reports_a_configured_vpc_that_does_not_exist(cloud: AwsLocalCloud) -> None:
    found = findings(AwsProvider(Settings({"vpc": "vpc-00000000000000000"}, cloud.environment)))
    assert found["subnets"] == (False, "no region has the configured VPC or subnets")


def test_the_doctor_counts_the_regions_that_the_account_has_enabled(cloud: AwsLocalCloud, local: AwsProvider) -> None:
    cloud.set_region(OTHER, "disabled")
    everywhere = AwsProvider(Settings({}, cloud.environment))
    ok, detail = findings(everywhere)["regions"]
    enabled, _, known = detail.split()[:3]
    assert ok and 0 < int(enabled) < int(known)
    cloud.faults.fail("DescribeRegions", "UnauthorizedOperation", status=403, times=None)
    assert findings(AwsProvider(Settings({}, cloud.environment)))["regions"][0] is False
    # Where the settings name the regions, the list is not needed.
    assert findings(local)["regions"][0] is True
