"""What users, policies and other tools do to our machines and regions: on a local AWS that keeps state."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.config import apply_environment
from multicompute.node import NodeState
from multicompute.offer import Offer, Part
from multicompute.provider import TAG_ID, Selector, Settings
from multicompute.testing import FakeClock, running
from multicompute.testing.provider_harness import launch_request
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from tests.conformance.test_aws import harness_of
from tests.providers.aws.scripted_aws import ScriptedAws, described, refusal

HERE = Selector(region="us-east-1", cluster_id="id-first")


@pytest.fixture
def cloud() -> Iterator[AwsLocalCloud]:
    with running(AwsLocalCloud()) as cloud:
        yield cloud


@pytest.fixture
def local(cloud: AwsLocalCloud) -> AwsProvider:
    return AwsProvider(Settings({"regions": ["us-east-1", "us-west-2"]}, cloud.environment))


@pytest.fixture
def h100(cloud: AwsLocalCloud) -> Offer:
    return harness_of(cloud, FakeClock(), page_nodes=1).offer()


def end(provider: AwsProvider, selector: Selector = HERE) -> None:
    for _ in range(20):
        step = provider.terminate(selector)
        if step.is_done:
            return
    raise AssertionError(step)


# --- protection, locks and other users --------------------------------------------------------------------------------


def test_a_protected_instance_is_named_with_the_command_that_helps_and_the_others_are_terminated(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer
) -> None:
    nodes = local.launch(launch_request(h100, nodes=3))
    cloud.protect(nodes[1].id)
    step = local.terminate(HERE)
    assert cloud.running_ids() == [nodes[1].id]
    assert f"{nodes[1].id} has termination protection" in step.blocked_by
    assert "aws ec2 modify-instance-attribute --region us-east-1 --no-disable-api-termination" in step.blocked_by
    cloud.protect(nodes[1].id, is_protected=False)
    end(local)
    assert cloud.alive() == []


def test_an_instance_that_a_policy_does_not_let_us_terminate_is_named_and_the_others_are_terminated(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer
) -> None:
    nodes = local.launch(launch_request(h100, nodes=3))
    cloud.deny_termination(nodes[0].id)
    for _ in range(2):
        step = local.terminate(HERE)
        assert f"a policy denies to delete {nodes[0].id}" in step.blocked_by
        assert "explicit deny" in step.blocked_by and "3q2-7w" not in step.blocked_by
    assert cloud.running_ids() == [nodes[0].id]
    cloud.deny_termination(nodes[0].id, is_denied=False)
    end(local)


def test_a_group_that_another_machine_uses_is_named_with_that_machine(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer
) -> None:
    local.launch(launch_request(h100))
    ec2 = boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=cloud.endpoint_url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    (group,) = [item.id for item in local.resources(HERE) if item.kind == "security-group"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    theirs = ec2.create_network_interface(SubnetId=subnet, Groups=[group])["NetworkInterface"]["NetworkInterfaceId"]
    step = local.terminate(HERE)
    assert f"security-group {group} is in use by {theirs}" in step.blocked_by
    assert "detach or delete that" in step.blocked_by
    ec2.delete_network_interface(NetworkInterfaceId=theirs)
    end(local)
    assert cloud.alive() == []


def test_a_group_that_a_policy_does_not_let_us_delete_does_not_keep_the_rest(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer
) -> None:
    local.launch(replace(launch_request(h100), fabric=True))
    cloud.faults.fail("DeleteSecurityGroup", "UnauthorizedOperation", message="explicit deny", status=403, times=None)
    step = local.terminate(HERE)
    assert [item.kind for item in step.remaining] == ["security-group"]
    assert "a policy denies to delete security-group sg-" in step.blocked_by
    cloud.faults.clear()
    end(local)


# --- tags -------------------------------------------------------------------------------------------------------------


def test_every_part_of_an_attempt_is_found_by_its_client_token(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer
) -> None:
    there = replace(h100, zone="us-east-1b")
    request = replace(launch_request(h100), parts=(Part(h100, 1), Part(there, 2)))
    nodes = local.launch(request)
    local.launch(launch_request(h100, cluster="second", token="attempt-10"))
    for node in nodes:
        cloud.remove_tags(node.id)
    found = local.nodes(replace(HERE, tokens=("attempt-1",)))
    assert {node.id for node in found} == {node.id for node in nodes}
    assert {(node.token, node.is_tagged) for node in found} == {("attempt-1", False)}


def test_an_instance_whose_tags_name_another_owner_is_known_by_its_id_and_keeps_its_tags(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer
) -> None:
    request = launch_request(h100, nodes=1)
    (node,) = local.launch(request)
    cloud._locate(node.id)[2].tags[TAG_ID] = "someone-else"
    known = replace(HERE, known_ids=(node.id,))
    assert [found.is_tagged for found in local.nodes(known)] == [False]
    local.set_expiry(known, None, restore=request.tags)
    assert cloud._locate(node.id)[2].tags[TAG_ID] == "someone-else"


def test_groups_without_tags_are_deleted_by_their_names(cloud: AwsLocalCloud, local: AwsProvider, h100: Offer) -> None:
    local.launch(replace(launch_request(h100), fabric=True))
    ec2 = boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=cloud.endpoint_url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    ids = [group["GroupId"] for group in ec2.describe_security_groups()["SecurityGroups"] if "Tags" in group]
    ids += [group["GroupId"] for group in ec2.describe_placement_groups()["PlacementGroups"]]
    ec2.delete_tags(Resources=ids)
    end(local, replace(HERE, tokens=("attempt-1",)))
    assert cloud.alive() == []


def test_a_terminated_instance_without_tags_is_not_reported_as_untagged(
    aws: ScriptedAws, provider: AwsProvider
) -> None:
    """EC2 removes the tags of a terminated instance gradually."""
    item = (
        "<item><instanceId>i-00000001</instanceId><instanceType>p5.48xlarge</instanceType>"
        "<instanceState><name>terminated</name></instanceState>"
        "<placement><availabilityZone>us-east-1a</availabilityZone></placement></item>"
    )
    body = f"<R><reservationSet><item><instancesSet>{item}</instancesSet></item></reservationSet></R>"
    aws.answers["DescribeInstances"] = [described(), body]
    (node,) = provider.nodes(replace(HERE, known_ids=("i-00000001",)))
    assert (node.state, node.is_tagged) == (NodeState.GONE, True)


def test_hundreds_of_known_instances_are_looked_up_in_batches_and_only_those_that_are_not_listed(
    aws: ScriptedAws, provider: AwsProvider
) -> None:
    aws.answers["DescribeInstances"] = described()
    provider.nodes(replace(HERE, known_ids=tuple(f"i-{number:08x}" for number in range(450))))
    sizes = [len(call.under("Filter.1.Value.")) for call in aws.sent("DescribeInstances")]
    assert sizes == [1, 200, 200, 50]


# --- stopped ----------------------------------------------------------------------------------------------------------


def test_an_instance_that_finds_no_capacity_stays_stopped_and_the_others_are_started(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer
) -> None:
    there = replace(h100, zone="us-east-1b")
    request = replace(launch_request(h100), parts=(Part(h100, 1), Part(there, 1)))
    nodes = local.launch(request)
    for node in nodes:
        cloud.stop_node(node.id)
    cloud.set_capacity(h100.instance_type, "us-east-1a", 0)
    with pytest.raises(errors.CapacityError):
        local.launch(replace(request, restart=True))
    assert cloud.running_ids() == [nodes[1].id]
    cloud.set_capacity(h100.instance_type, "us-east-1a", 1)
    assert {node.id for node in local.launch(replace(request, restart=True))} == {node.id for node in nodes}
    assert len(cloud.running_ids()) == 2


def test_a_restart_of_an_instance_that_is_still_stopping_is_repeated(
    aws: ScriptedAws, provider: AwsProvider, h100: Offer
) -> None:
    item = (
        "<item><instanceId>i-00000001</instanceId><instanceType>p5.48xlarge</instanceType>"
        "<clientToken>attempt-1</clientToken><instanceState><name>stopping</name></instanceState>"
        "<placement><availabilityZone>us-east-1a</availabilityZone></placement></item>"
    )
    aws.answers["DescribeInstances"] = (
        f"<R><reservationSet><item><instancesSet>{item}</instancesSet></item></reservationSet></R>"
    )
    with pytest.raises(errors.TransientError, match="still stopping"):
        provider.launch(replace(launch_request(h100), restart=True))
    assert not aws.sent("StartInstances") and not aws.sent("RunInstances")


# --- regions ----------------------------------------------------------------------------------------------------------


def test_a_region_that_is_not_enabled_refuses_a_launch_as_a_region_and_not_as_the_account(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer
) -> None:
    cloud.set_region("us-east-1", "enabled")
    cloud.set_region("us-west-2", "disabled")
    there = replace(h100, region="us-west-2", zone="us-west-2a")
    with pytest.raises(errors.AccessDeniedError, match="has not enabled this region") as caught:
        local.launch(launch_request(there))
    assert (caught.value.scope, caught.value.region) == ("region", "us-west-2")
    assert "exclude" in (caught.value.hint or "")


def test_wrong_credentials_are_still_wrong_credentials(cloud: AwsLocalCloud, local: AwsProvider, h100: Offer) -> None:
    cloud.revoke_key(cloud.environment["AWS_ACCESS_KEY_ID"])
    with pytest.raises(errors.AuthError):
        local.launch(launch_request(h100))


@pytest.mark.parametrize("regions", [["us-east-1", "us-west-2"], []], ids=["configured", "all"])
def test_a_listing_and_a_teardown_of_all_regions_leave_out_those_that_are_not_enabled(
    cloud: AwsLocalCloud, h100: Offer, regions: list[str]
) -> None:
    cloud.set_region("us-west-2", "disabled")
    provider = AwsProvider(Settings({"regions": regions}, cloud.environment))
    nodes = provider.launch(launch_request(h100))
    everywhere = replace(HERE, region=None)
    assert {node.id for node in provider.nodes(everywhere)} == {node.id for node in nodes}
    assert {node.id for node in nodes} <= {item.id for item in provider.resources(Selector(owner="conformance"))}
    end(provider, everywhere)
    assert cloud.alive() == []


def test_a_listing_of_all_regions_says_that_a_policy_denies_one(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = local.launch(launch_request(h100))
    cloud.set_region("us-west-2", "denied")
    with caplog.at_level(logging.WARNING):
        assert {node.id for node in local.nodes(replace(HERE, region=None))} == {node.id for node in nodes}
    assert "us-west-2" in caplog.text and "service control policy" in caplog.text
    # What was launched before the policy may still be there: a teardown does not call the region empty.
    with pytest.raises(errors.AccessDeniedError, match="us-west-2"):
        local.terminate(replace(HERE, region=None))
    with pytest.raises(errors.AccessDeniedError):
        local.nodes(replace(HERE, region="us-west-2"))


@pytest.mark.parametrize("status", ["disabled", "denied"])
def test_a_cluster_fails_over_from_a_region_that_refuses_and_is_torn_down(
    cloud: AwsLocalCloud, tmp_path: Path, status: str
) -> None:
    cloud.set_region("us-west-2", status)  # type: ignore[arg-type]
    variables = {
        "MULTICOMPUTE_STATE": f"sqlite:///{tmp_path}/ledger.db",
        "MULTICOMPUTE_AWS__REGIONS": "us-east-1,us-west-2",
    }
    with apply_environment({**cloud.environment, **variables}):
        for region in ("us-west-2", "us-east-1"):
            cloud.set_capacity("p5.48xlarge", f"{region}a", None)
        cluster = Cluster.request(gpus=8, type="h100", clouds=["aws"], regions=["us-west-2", "us-east-1"], name="one")
        assert cluster.region == "us-east-1"
        assert cluster.terminate().state is ClusterState.TERMINATED
        with pytest.raises(errors.MulticomputeError):
            Cluster.request(gpus=8, type="h100", clouds=["aws"], regions=["us-west-2"], name="two")
        assert Cluster.get("two").state is ClusterState.FAILED
    assert cloud.alive() == []


def test_other_refusals_of_access_do_not_ask_for_regions(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["DescribeInstances"] = refusal("UnauthorizedOperation", "no", 403)
    with pytest.raises(errors.AccessDeniedError):
        provider.nodes(HERE)
    assert not aws.sent("DescribeRegions")
