"""A teardown deletes instances first and groups last, repeats safely, and is done only when EC2 lists nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from multicompute import errors
from multicompute.provider import Selector
from multicompute_aws._provider import AwsProvider
from tests.providers.aws.scripted_aws import Request, ScriptedAws, described, instance_xml, refusal

HERE = Selector(region="us-east-1", cluster_id="id-1")
GROUP = "<R><securityGroupInfo><item><groupId>sg-1</groupId></item></securityGroupInfo></R>"
NO_GROUP = "<R><securityGroupInfo/></R>"
PLACEMENT = "<R><placementGroupSet><item><groupName>pg</groupName></item></placementGroupSet></R>"
SPOT_REQUEST = (
    "<R><spotInstanceRequestSet><item><spotInstanceRequestId>sir-1</spotInstanceRequestId></item>"
    "</spotInstanceRequestSet></R>"
)
NO_PLACEMENT = "<R><placementGroupSet/></R>"


def _states(*states: str) -> str:
    return described(*(instance_xml(f"i-{index:08x}", state=state) for index, state in enumerate(states)))


def test_instances_are_terminated_first_and_dependent_resources_wait(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["DescribeInstances"] = [_states("running", "stopped"), _states("shutting-down", "shutting-down")]
    step = provider.terminate(HERE)
    assert not step.is_done and "2 instances" in step.waiting_for
    assert aws.actions == ["DescribeInstances", "TerminateInstances", "DescribeInstances"]


def test_an_instance_that_is_shutting_down_is_not_terminated_again(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["DescribeInstances"] = _states("shutting-down")
    assert not provider.terminate(HERE).is_done
    assert aws.actions == ["DescribeInstances"]


def test_groups_are_deleted_when_no_instance_is_left_and_listed_again_after_the_last_delete(
    aws: ScriptedAws, provider: AwsProvider
) -> None:
    aws.answers |= {
        "DescribeSecurityGroups": [GROUP, NO_GROUP],
        "DescribePlacementGroups": [PLACEMENT, NO_PLACEMENT],
        "DeleteSecurityGroup": "<R/>",
        "DeletePlacementGroup": "<R/>",
    }
    assert provider.terminate(HERE).is_done
    assert aws.sent("DeleteSecurityGroup")[0].params["GroupId"] == "sg-1"
    assert aws.sent("DeletePlacementGroup")[0].params["GroupName"] == "pg"
    assert aws.actions[-1] == "DescribePlacementGroups"


@pytest.mark.parametrize("code", ["DependencyViolation", "InvalidGroup.InUse"])
def test_a_group_that_is_in_use_remains_with_that_reason(aws: ScriptedAws, provider: AwsProvider, code: str) -> None:
    aws.answers |= {"DescribeSecurityGroups": GROUP, "DeleteSecurityGroup": refusal(code)}
    step = provider.terminate(HERE)
    assert [(item.kind, item.id) for item in step.remaining] == [("security-group", "sg-1")]
    assert step.waiting_for == "security-group sg-1 is still in use"


def test_a_group_that_is_already_gone_counts_as_deleted(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers |= {
        "DescribeSecurityGroups": [GROUP, NO_GROUP],
        "DeleteSecurityGroup": refusal("InvalidGroup.NotFound"),
        "DescribePlacementGroups": [PLACEMENT, NO_PLACEMENT],
        "DeletePlacementGroup": refusal("InvalidPlacementGroup.Unknown"),
    }
    assert provider.terminate(HERE).is_done


def test_the_teardown_of_an_attempt_leaves_the_groups_of_its_cluster(aws: ScriptedAws, provider: AwsProvider) -> None:
    assert provider.terminate(Selector(region="us-east-1", cluster_id="id-1", token="tok")).is_done
    assert not [action for action in aws.actions if action.endswith("Groups")]


def test_volumes_and_interfaces_that_outlive_their_instance_are_deleted(
    aws: ScriptedAws, provider: AwsProvider
) -> None:
    aws.answers |= {
        "DescribeVolumes": [
            "<R><volumeSet><item><volumeId>vol-1</volumeId></item></volumeSet></R>",
            "<R><volumeSet/></R>",
        ],
        "DescribeNetworkInterfaces": [
            "<R><networkInterfaceSet><item><networkInterfaceId>eni-1</networkInterfaceId></item></networkInterfaceSet></R>",
            "<R><networkInterfaceSet/></R>",
        ],
        "DescribeSpotInstanceRequests": [
            SPOT_REQUEST,
            "<R><spotInstanceRequestSet/></R>",
        ],
        "DeleteVolume": "<R/>",
        "DeleteNetworkInterface": "<R/>",
        "CancelSpotInstanceRequests": "<R/>",
    }
    assert provider.terminate(HERE).is_done
    assert aws.sent("DeleteVolume")[0].params["VolumeId"] == "vol-1"
    assert aws.sent("DeleteNetworkInterface")[0].params["NetworkInterfaceId"] == "eni-1"
    assert aws.sent("CancelSpotInstanceRequests")[0].params["SpotInstanceRequestId.1"] == "sir-1"


def _refuse_those(unknown: set[str], *, named: bool) -> Callable[[Request], Any]:
    def answer(request: Request) -> Any:
        bad = unknown & set(request.under("InstanceId.").values())
        if not bad:
            return "<R/>"
        message = f"The instance IDs '{', '.join(sorted(bad))}' do not exist" if named else "no"
        return refusal("InvalidInstanceID.NotFound", message)

    return answer


@pytest.mark.parametrize("named", [True, False])
def test_one_unknown_id_does_not_save_the_others(aws: ScriptedAws, provider: AwsProvider, named: bool) -> None:
    aws.answers["DescribeInstances"] = [_states(*["running"] * 9), _states("running")]
    aws.answers["TerminateInstances"] = _refuse_those({"i-00000003"}, named=named)
    step = provider.terminate(HERE)
    terminated = {
        item
        for call in aws.sent("TerminateInstances")
        if "i-00000003" not in call.under("InstanceId.").values()
        for item in call.under("InstanceId.").values()
    }
    assert len(terminated) == 8
    assert "InvalidInstanceID.NotFound" in step.waiting_for and not step.is_done
    assert len(aws.sent("TerminateInstances")) <= 10


def test_many_instances_are_terminated_in_batches(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["DescribeInstances"] = [_states(*["running"] * 2500), described()]
    assert provider.terminate(HERE).is_done
    sizes = [len(call.under("InstanceId.")) for call in aws.sent("TerminateInstances")]
    assert sorted(sizes) == [500, 1000, 1000]


def test_an_instance_that_is_known_but_not_listed_is_terminated_and_does_not_count_as_gone(
    aws: ScriptedAws, provider: AwsProvider
) -> None:
    known = Selector(region="us-east-1", cluster_id="id-1", node_ids=("i-00000000", "i-0000000f"))
    aws.answers["DescribeInstances"] = _states("terminated")
    step = provider.terminate(known)
    assert aws.sent("TerminateInstances")[0].under("InstanceId.") == {"1": "i-0000000f"}
    assert [item.id for item in step.remaining] == ["i-0000000f"]


def test_a_missing_permission_is_an_error_and_not_a_remaining_resource(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["DescribeInstances"] = _states("running")
    aws.answers["TerminateInstances"] = refusal("UnauthorizedOperation", "no", 403)
    with pytest.raises(errors.AccessDeniedError, match="TerminateInstances"):
        provider.terminate(HERE)


def test_a_teardown_that_would_select_every_users_resources_is_refused(provider: AwsProvider) -> None:
    with pytest.raises(errors.InvalidRequestError, match="neither a cluster nor an attempt"):
        provider.terminate(Selector(region="us-east-1", owner="me"))
