"""Instances in both stores: tokens, capacity, states, listings, and what is deleted with them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from multicompute.testing.clock import FakeClock
from multicompute_aws.local import AwsLocalCloud

Refused = Callable[..., tuple[str, int, str]]
Run = Callable[..., list[str]]
TAGS = [{"Key": "multicompute-id", "Value": "c-1"}]


def listed(ec2: Any, *filters: tuple[str, list[str]], **params: Any) -> list[dict[str, Any]]:
    if filters:
        params["Filters"] = [{"Name": name, "Values": values} for name, values in filters]
    pages = ec2.get_paginator("describe_instances").paginate(**params)
    return [item for page in pages for reservation in page["Reservations"] for item in reservation["Instances"]]


def states(ec2: Any, *ids: str) -> list[str]:
    return [item["State"]["Name"] for item in listed(ec2, InstanceIds=list(ids))]


def test_the_same_token_and_parameters_return_the_same_instances(ec2: Any, run: Run, cloud: AwsLocalCloud) -> None:
    first = run(3, ClientToken="t-1")
    assert run(3, ClientToken="t-1") == first
    assert cloud.running_ids() == first
    assert run(3, ClientToken="t-2") != first


def test_the_same_token_with_other_parameters_is_refused(ec2: Any, run: Run, image: str, refused: Refused) -> None:
    run(2, ClientToken="t-1")
    request = {"ImageId": image, "InstanceType": "g6.xlarge", "MaxCount": 3, "ClientToken": "t-1"}
    assert refused(ec2.run_instances, MinCount=3, **request)[:2] == ("IdempotentParameterMismatch", 400)


def test_a_token_whose_instances_are_gone_is_refused(ec2: Any, run: Run, image: str, refused: Refused) -> None:
    ec2.terminate_instances(InstanceIds=run(1, ClientToken="t-1"))
    request = {"ImageId": image, "InstanceType": "g6.xlarge", "MinCount": 1, "MaxCount": 1}
    assert refused(ec2.run_instances, ClientToken="t-1", **request)[0] == "IdempotentInstanceTerminated"


def test_a_token_sent_from_many_threads_at_once_launches_once(run: Run, cloud: AwsLocalCloud) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: run(2, ClientToken="t-1"), range(16)))
    assert all(answer == answers[0] for answer in answers)
    assert cloud.running_ids() == answers[0]


def test_a_refused_token_may_be_used_again(cloud: AwsLocalCloud, run: Run, refused: Refused) -> None:
    cloud.set_capacity("g6.xlarge", "us-east-1a", 1)
    where = {"Placement": {"AvailabilityZone": "us-east-1a"}, "ClientToken": "t-1"}
    assert refused(run, count=2, **where)[0] == "InsufficientInstanceCapacity"
    cloud.set_capacity("g6.xlarge", "us-east-1a", None)
    assert len(run(2, **where)) == 2


def test_too_little_capacity_is_a_500_that_names_the_zones_with_capacity(
    cloud: AwsLocalCloud, ec2: Any, image: str, refused: Refused, subnet_in: Callable[[str], str]
) -> None:
    cloud.set_capacity("p5.48xlarge", "us-east-1a", 1)
    cloud.set_capacity("p5.48xlarge", "us-east-1c", 1)
    code, status, message = refused(
        ec2.run_instances,
        ImageId=image,
        InstanceType="p5.48xlarge",
        MinCount=2,
        MaxCount=2,
        SubnetId=subnet_in("us-east-1a"),
    )
    assert (code, status) == ("InsufficientInstanceCapacity", 500)
    assert message.startswith(
        "We currently do not have sufficient p5.48xlarge capacity in the Availability Zone you requested (us-east-1a)."
    )
    assert "by not specifying an Availability Zone in your request or choosing us-east-1b" in message
    assert "us-east-1c" not in message
    assert cloud.alive() == []


def test_a_launch_gets_as_many_instances_between_minimum_and_maximum_as_there_are(
    cloud: AwsLocalCloud, run: Run
) -> None:
    cloud.set_capacity("g6.xlarge", "us-east-1a", 3)
    where = {"Placement": {"AvailabilityZone": "us-east-1a"}}
    assert len(run(1, MaxCount=5, **where)) == 3


def test_a_launch_without_a_zone_goes_where_there_is_capacity(cloud: AwsLocalCloud, ec2: Any, run: Run) -> None:
    cloud.set_capacity("g6.xlarge", "us-east-1a", 0)
    [item] = listed(ec2, InstanceIds=run(1))
    assert item["Placement"]["AvailabilityZone"] == "us-east-1b"


def test_capacity_is_free_again_after_termination(cloud: AwsLocalCloud, ec2: Any, run: Run, refused: Refused) -> None:
    cloud.set_capacity("g6.xlarge", "us-east-1a", 2)
    where = {"Placement": {"AvailabilityZone": "us-east-1a"}}
    ids = run(2, **where)
    assert refused(run, **where)[0] == "InsufficientInstanceCapacity"
    ec2.terminate_instances(InstanceIds=ids[:1])
    assert len(run(1, **where)) == 1


def test_an_instance_is_pending_in_the_response_then_runs_and_then_is_terminated(ec2: Any, image: str) -> None:
    [made] = ec2.run_instances(ImageId=image, InstanceType="g6.xlarge", MinCount=1, MaxCount=1)["Instances"]
    identifier = made["InstanceId"]
    assert made["State"] == {"Code": 0, "Name": "pending"}
    assert states(ec2, identifier) == ["running"]
    [change] = ec2.terminate_instances(InstanceIds=[identifier])["TerminatingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "shutting-down")
    [gone] = listed(ec2, InstanceIds=[identifier])
    assert gone["State"] == {"Code": 48, "Name": "terminated"}
    assert gone["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    ec2.terminate_instances(InstanceIds=[identifier])
    assert states(ec2, identifier) == ["terminated"]


def test_delays_pass_by_the_clock_that_was_given(client_of: Any, refused: Refused) -> None:
    clock = FakeClock()
    cloud = AwsLocalCloud(clock=clock)
    cloud.lag, cloud.boot_delay = timedelta(seconds=10), timedelta(seconds=60)
    cloud.shutdown_delay = timedelta(seconds=30)
    cloud.start()
    try:
        ec2 = client_of(cloud)("ec2")
        image = client_of(cloud)("ssm").get_parameter(
            Name="/aws/service/neuron/dlami/base/ubuntu-24.04/latest/image_id"
        )["Parameter"]["Value"]
        request = {"ImageId": image, "InstanceType": "trn1.2xlarge", "MinCount": 1, "MaxCount": 1}
        identifier = ec2.run_instances(**request)["Instances"][0]["InstanceId"]
        assert listed(ec2) == []
        assert refused(ec2.describe_instances, InstanceIds=[identifier])[0] == "InvalidInstanceID.NotFound"
        assert refused(ec2.terminate_instances, InstanceIds=[identifier])[0] == "InvalidInstanceID.NotFound"
        assert refused(ec2.create_tags, Resources=[identifier], Tags=TAGS)[0] == "InvalidInstanceID.NotFound"
        clock.advance("10s")
        assert states(ec2, identifier) == ["pending"]
        clock.advance("50s")
        assert states(ec2, identifier) == ["running"]
        ec2.terminate_instances(InstanceIds=[identifier])
        clock.advance("29s")
        assert states(ec2, identifier) == ["shutting-down"]
        assert "instance" in {resource.kind for resource in cloud.alive()}
        clock.advance("1s")
        assert states(ec2, identifier) == ["terminated"]
        clock.advance("2h")
        assert listed(ec2) == []
    finally:
        cloud.stop()


def test_one_unknown_id_fails_the_complete_batch(ec2: Any, run: Run, refused: Refused) -> None:
    ids = run(2)
    code, status, message = refused(ec2.terminate_instances, InstanceIds=[*ids, "i-0123456789abcdef0"])
    assert (code, status) == ("InvalidInstanceID.NotFound", 400)
    assert "i-0123456789abcdef0" in message
    assert states(ec2, *ids) == ["running", "running"]


def test_one_protected_instance_protects_the_complete_batch_from_termination(
    ec2: Any, run: Run, refused: Refused
) -> None:
    ids = [*run(1, DisableApiTermination=True), *run(1)]
    assert refused(ec2.terminate_instances, InstanceIds=ids)[0] == "OperationNotPermitted"
    assert states(ec2, *ids) == ["running", "running"]


def test_disks_and_interfaces_have_the_tags_of_the_launch_and_are_deleted_with_the_instance(
    cloud: AwsLocalCloud, ec2: Any, run: Run
) -> None:
    kinds = ("instance", "volume", "network-interface")
    ids = run(2, TagSpecifications=[{"ResourceType": kind, "Tags": TAGS} for kind in kinds])
    assert {(resource.kind, tuple(resource.tags.items())) for resource in cloud.alive()} == {
        (kind, (("multicompute-id", "c-1"),)) for kind in kinds
    }
    by_tag = [{"Name": "tag:multicompute-id", "Values": ["c-1"]}]
    assert len(ec2.describe_volumes(Filters=by_tag)["Volumes"]) == 2
    assert len(ec2.describe_network_interfaces(Filters=by_tag)["NetworkInterfaces"]) == 2
    ec2.terminate_instances(InstanceIds=ids)
    assert cloud.alive() == []
    assert ec2.describe_volumes(Filters=by_tag)["Volumes"] == []
    assert ec2.describe_network_interfaces(Filters=by_tag)["NetworkInterfaces"] == []


def test_a_volume_without_delete_on_termination_outlives_its_instance_and_is_billed(
    cloud: AwsLocalCloud, ec2: Any, run: Run
) -> None:
    disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 100, "DeleteOnTermination": False}}
    ec2.terminate_instances(InstanceIds=run(1, BlockDeviceMappings=[disk]))
    [left] = cloud.alive()
    assert (left.kind, left.billable) == ("volume", True)
    ec2.delete_volume(VolumeId=left.id)
    assert cloud.alive() == []


def test_filters_are_joined_and_have_wildcards(ec2: Any, run: Run) -> None:
    tagged = [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "nlp-1"}]}]
    ids = run(2, TagSpecifications=tagged, ClientToken="t-1")
    run(1, InstanceType="g6.2xlarge")
    found = listed(ec2, ("tag:team", ["nlp-*"]), ("instance-type", ["g6.xlarge", "p5.48xlarge"]))
    assert [item["InstanceId"] for item in found] == ids
    assert len(listed(ec2, ("client-token", ["t-1"]))) == 2
    assert listed(ec2, ("tag:team", ["nlp"])) == []
    ec2.terminate_instances(InstanceIds=ids[:1])
    running = listed(ec2, ("instance-state-name", ["running"]), ("tag-key", ["team"]))
    assert [item["InstanceId"] for item in running] == ids[1:]


def test_spot_instances_have_requests_and_can_be_preempted(
    cloud: AwsLocalCloud, ec2: Any, run: Run, refused: Refused
) -> None:
    spot = {"MarketType": "spot", "SpotOptions": {"MaxPrice": "1.5", "SpotInstanceType": "one-time"}}
    kinds = ("instance", "spot-instances-request")
    tags = [{"ResourceType": kind, "Tags": TAGS} for kind in kinds]
    ids = run(2, InstanceMarketOptions=spot, TagSpecifications=tags)
    [*on_demand] = run(1)
    assert [item["InstanceId"] for item in listed(ec2, ("instance-lifecycle", ["spot"]))] == ids
    by_tag = [{"Name": "tag:multicompute-id", "Values": ["c-1"]}]
    requests = ec2.describe_spot_instance_requests(Filters=by_tag)["SpotInstanceRequests"]
    assert sorted(item["InstanceId"] for item in requests) == sorted(ids)
    assert listed(ec2, InstanceIds=ids)[0]["SpotInstanceRequestId"] in {
        item["SpotInstanceRequestId"] for item in requests
    }
    cloud.preempt(ids[0])
    [gone] = listed(ec2, InstanceIds=ids[:1])
    assert gone["State"]["Name"] == "terminated"
    assert gone["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    with pytest.raises(ValueError, match="not a spot instance"):
        cloud.preempt(on_demand[0])
    ec2.terminate_instances(InstanceIds=ids)
    assert {item["State"] for item in ec2.describe_spot_instance_requests()["SpotInstanceRequests"]} == {"closed"}
    cancelled = ec2.cancel_spot_instance_requests(
        SpotInstanceRequestIds=[item["SpotInstanceRequestId"] for item in requests]
    )
    assert len(cancelled["CancelledSpotInstanceRequests"]) == 2


def test_an_instance_that_was_stopped_from_outside_is_stopped(cloud: AwsLocalCloud, ec2: Any, run: Run) -> None:
    ids = run(2)
    cloud.stop_node(ids[0])
    assert states(ec2, *ids) == ["stopped", "running"]
    cloud.terminate_node(ids[1], "Server.InternalError", "Server.InternalError: Internal error on launch")
    [ended] = listed(ec2, InstanceIds=ids[1:])
    assert ended["StateReason"]["Code"] == "Server.InternalError"
    assert cloud.running_ids() == []


def test_a_dry_run_says_that_it_would_work_and_does_nothing(
    cloud: AwsLocalCloud, ec2: Any, image: str, refused: Refused
) -> None:
    request = {"ImageId": image, "InstanceType": "p5.48xlarge", "MinCount": 1, "MaxCount": 1}
    assert refused(ec2.run_instances, DryRun=True, **request)[:2] == ("DryRunOperation", 412)
    assert cloud.alive() == []


def test_describe_instance_status_lists_running_instances(ec2: Any, run: Run) -> None:
    ids = run(2)
    ec2.terminate_instances(InstanceIds=ids[:1])
    running = ec2.describe_instance_status()["InstanceStatuses"]
    assert [item["InstanceId"] for item in running] == ids[1:]
    everything = ec2.describe_instance_status(InstanceIds=ids, IncludeAllInstances=True)["InstanceStatuses"]
    assert {item["InstanceState"]["Name"] for item in everything} == {"running", "terminated"}


def test_each_region_has_its_own_instances(client: Any, cloud: AwsLocalCloud, run: Run) -> None:
    ids = run(1)
    west = client("ec2", "us-west-2")
    assert listed(west) == []
    assert {resource.region for resource in cloud.alive()} == {"us-east-1"}
    assert cloud.running_ids() == ids
