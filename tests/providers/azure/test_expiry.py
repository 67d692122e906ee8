"""A new expiry is reported as set only if Azure has written it: an update of tags is a long-running operation."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from multicompute import errors
from multicompute.provider import TAG_EXPIRES_AT, LaunchRequest, Selector, expiry_tag
from multicompute.testing import FakeClock
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

Request = Callable[..., LaunchRequest]
CLUSTER = Selector(region="eastus", cluster_id="id-1")
LATER = datetime(2027, 1, 1, tzinfo=UTC)


def expiries(cloud: AzureLocalCloud) -> set[str | None]:
    cloud._state.catch_up()
    kinds = ("Microsoft.Compute/virtualMachines", "Microsoft.Compute/virtualMachineScaleSets")
    return {item.tags.get(TAG_EXPIRES_AT) for item in cloud._state.items(*kinds)}


def test_a_new_expiry_that_takes_time_is_waited_for(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    cloud.operation_delay = timedelta(seconds=5)
    provider.set_expiry(CLUSTER, LATER)
    assert expiries(cloud) == {expiry_tag(LATER)}


def test_a_write_of_tags_that_is_accepted_and_then_fails_is_no_success(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    cloud.operation_delay = timedelta(seconds=5)
    cloud.faults.fail("tags.updateAtScope.operation", "InternalServerError", status=500, message="no")
    with pytest.raises(errors.TransientError, match=r"tags\.updateAtScope"):
        provider.set_expiry(CLUSTER, LATER)
    provider.set_expiry(CLUSTER, LATER)
    assert expiries(cloud) == {expiry_tag(LATER)}


def test_a_write_of_tags_that_does_not_finish_is_no_success(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, clock: FakeClock
) -> None:
    provider.launch(request_of())
    cloud.operation_delay = timedelta(hours=1)
    started = clock.now()
    with pytest.raises(errors.TransientError, match="still being written"):
        provider.set_expiry(CLUSTER, LATER)
    assert clock.now() - started < timedelta(minutes=2)


def test_a_machine_that_is_deleted_while_its_tags_are_written_is_no_failure(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    first, _ = provider.launch(request_of())
    cloud.operation_delay = timedelta(seconds=5)
    where = {"name": first.id}
    cloud.faults.fail("tags.updateAtScope.operation", "ResourceNotFound", status=404, message="gone", where=where)
    cloud.faults.hook(
        "operations.get", lambda _: cloud.terminate_node(first.id) if first.id in running(cloud) else None
    )
    provider.set_expiry(CLUSTER, LATER)
    assert expiries(cloud) == {expiry_tag(LATER)}


def running(cloud: AzureLocalCloud) -> list[str]:
    return cloud.running_ids()
