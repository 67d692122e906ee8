"""Listing by tag, to the last page, and reading what EC2 returns."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute import errors
from multicompute.node import NodeState
from multicompute.provider import Selector, Settings
from multicompute_aws._provider import AwsProvider
from multicompute_aws._tags import tag_filters
from multicompute_aws._trim import without
from tests.providers.aws.scripted_aws import Request, ScriptedAws, described, instance_xml, refusal

HERE = Selector(region="us-east-1", cluster_id="id-1")


def test_nodes_are_listed_to_the_last_page_in_the_order_of_their_launch(
    aws: ScriptedAws, provider: AwsProvider
) -> None:
    pages = {
        None: described(instance_xml("i-00000002", index=1), more="second"),
        "second": described(instance_xml("i-00000001", index=0)),
    }
    aws.answers["DescribeInstances"] = lambda request: pages[request.params.get("NextToken")]
    assert [node.id for node in provider.nodes(HERE)] == ["i-00000001", "i-00000002"]
    assert [call.params["MaxResults"] for call in aws.sent("DescribeInstances")] == ["1000", "1000"]


def test_a_listing_is_one_call_filtered_by_tag(aws: ScriptedAws, provider: AwsProvider) -> None:
    provider.nodes(Selector(region="us-east-1", cluster_id="id-1", token="tok", owner="me", node_ids=("i-1",)))
    (call,) = aws.requests
    assert call.under("Filter.") == {
        "1.Name": "tag:multicompute-id",
        "1.Value.1": "id-1",
        "2.Name": "tag:multicompute-attempt",
        "2.Value.1": "tok",
        "3.Name": "tag:multicompute-owner",
        "3.Value.1": "me",
    }


def test_an_empty_selector_selects_everything_of_ours_and_nothing_else() -> None:
    assert tag_filters(Selector()) == [{"Name": "tag-key", "Values": ["multicompute-id"]}]


def test_a_wildcard_in_a_name_selects_that_name_only() -> None:
    assert tag_filters(Selector(owner="a*b?c\\")) == [{"Name": "tag:multicompute-owner", "Values": ["a\\*b\\?c\\\\"]}]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("pending", NodeState.PENDING),
        ("running", NodeState.RUNNING),
        ("shutting-down", NodeState.STOPPING),
        ("stopping", NodeState.STOPPING),
        ("stopped", NodeState.STOPPED),
        ("terminated", NodeState.GONE),
    ],
)
def test_every_instance_state_of_ec2_has_its_node_state(
    aws: ScriptedAws, provider: AwsProvider, state: str, expected: NodeState
) -> None:
    aws.answers["DescribeInstances"] = described(instance_xml(state=state, tags={"multicompute-attempt": "tok"}))
    (node,) = provider.nodes(HERE)
    assert (node.state, node.token, node.private_ip, node.public_ip) == (expected, "tok", "10.0.0.0", None)


@pytest.mark.parametrize(
    ("code", "message", "reason", "cause"),
    [
        ("", "", None, ""),
        (
            "Server.InsufficientInstanceCapacity",
            "Insufficient capacity",
            "Server.InsufficientInstanceCapacity: Insufficient capacity",
            "capacity",
        ),
        (
            "Server.SpotInstanceTermination",
            "Server.SpotInstanceTermination: Instance initiated",
            "Server.SpotInstanceTermination: Instance initiated",
            "preemption",
        ),
        ("Client.VolumeLimitExceeded", "too many", "Client.VolumeLimitExceeded: too many", "quota"),
        ("Client.InternalError", "key", "Client.InternalError: key", "request"),
        ("Client.UserInitiatedShutdown", "by hand", "Client.UserInitiatedShutdown: by hand", ""),
    ],
)
def test_the_reason_of_a_stopped_node_begins_with_the_code(
    aws: ScriptedAws, provider: AwsProvider, code: str, message: str, reason: str | None, cause: str
) -> None:
    aws.answers["DescribeInstances"] = described(instance_xml(state="terminated", reason=(code, message)))
    (node,) = provider.nodes(HERE)
    assert (node.reason, node.cause) == (reason, cause)


def test_without_a_region_every_enabled_region_is_listed(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["DescribeInstances"] = lambda request: described(instance_xml(f"i-{len(request.region):08x}"))
    nodes = provider.nodes(Selector(cluster_id="id-1"))
    assert sorted(node.region for node in nodes) == ["eu-west-1", "us-east-1"]
    provider.nodes(Selector(cluster_id="id-1"))
    assert len(aws.sent("DescribeRegions")) == 1


def test_only_configured_regions_are_listed(aws: ScriptedAws) -> None:
    provider = AwsProvider(Settings({"regions": ["eu-west-3"]}, aws.environment))
    provider.nodes(Selector())
    assert {call.region for call in aws.requests} == {"eu-west-3"}


def test_a_region_that_does_not_answer_does_not_count_as_empty(aws: ScriptedAws, provider: AwsProvider) -> None:
    def answer(request: Request) -> Any:
        return refusal("Unavailable", "later", 503) if request.region == "eu-west-1" else described()

    aws.answers["DescribeInstances"] = answer
    with pytest.raises(errors.TransientError):
        provider.nodes(Selector(cluster_id="id-1"))


def test_resources_are_everything_that_exists_and_groups_belong_to_the_cluster(
    aws: ScriptedAws, provider: AwsProvider
) -> None:
    aws.answers |= {
        "DescribeInstances": described(instance_xml("i-00000001", tags={"team": "nlp"})),
        "DescribeVolumes": "<R><volumeSet><item><volumeId>vol-1</volumeId></item></volumeSet></R>",
        "DescribeNetworkInterfaces": (
            "<R><networkInterfaceSet><item><networkInterfaceId>eni-1</networkInterfaceId>"
            "<tagSet><item><key>team</key><value>nlp</value></item></tagSet></item></networkInterfaceSet></R>"
        ),
        "DescribeSecurityGroups": "<R><securityGroupInfo><item><groupId>sg-1</groupId></item></securityGroupInfo></R>",
        "DescribePlacementGroups": "<R><placementGroupSet><item><groupName>pg</groupName></item></placementGroupSet></R>",
    }
    found = provider.resources(HERE)
    assert [(item.kind, item.id, item.billable) for item in found] == [
        ("instance", "i-00000001", True),
        ("volume", "vol-1", True),
        ("network-interface", "eni-1", False),
        ("security-group", "sg-1", False),
        ("placement-group", "pg", False),
    ]
    assert found[0].tags == found[2].tags == {"team": "nlp"}
    attempt = provider.resources(Selector(region="us-east-1", token="tok"))
    assert {item.kind for item in attempt} == {"instance", "volume", "network-interface"}


def test_a_node_with_32_interfaces_is_read_like_one_with_one(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["DescribeInstances"] = [
        described(instance_xml("i-00000001", interfaces=count, tags={"multicompute-attempt": "tok"}))
        for count in (1, 32)
    ]
    assert provider.nodes(HERE) == provider.nodes(HERE)


@given(st.lists(st.sampled_from(["<a>", "<b>x</b>", "<cut><i>1</i></cut>", "<cut/>", "text", "&lt;cut&gt;"])))
def test_removing_an_element_leaves_everything_else_as_it_was(pieces: list[str]) -> None:
    kept = [piece for piece in pieces if not piece.startswith("<cut>")]
    assert without("".join(pieces).encode(), b"cut") == "".join(kept).encode()


def test_an_element_that_is_not_closed_is_left_for_the_parser_to_refuse() -> None:
    assert without(b"<r><cut>1</cut>2<cut>3", b"cut") == b"<r>2<cut>3"


def test_the_expiry_is_written_on_the_nodes_that_the_tags_find(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["DescribeInstances"] = described(*(instance_xml(f"i-{index:08x}") for index in range(1500)))
    provider.set_expiry(HERE, None)
    first, second = aws.sent("CreateTags")
    assert (len(first.under("ResourceId.")), len(second.under("ResourceId."))) == (1000, 500)
    assert first.under("Tag.") == {"1.Key": "multicompute-expires-at", "1.Value": "never"}
