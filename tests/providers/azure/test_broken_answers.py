"""The Azure adapter and answers that are cut short, or that deny the existence of what exists."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from multicompute import errors
from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest, Selector
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

Request = Callable[..., LaunchRequest]
HERE = Selector(region="eastus", cluster_id="id-1")
PUT = "virtualMachineScaleSets.createOrUpdate"
LIST = "virtualMachineScaleSets.list"
TAG = "tags.updateAtScope"
LATER = datetime(2027, 1, 1, tzinfo=UTC)


def _expiries(cloud: AzureLocalCloud) -> set[str | None]:
    return {item.tags.get("multicompute-expires-at") for item in cloud.alive() if item.kind == "virtualMachines"}


@pytest.mark.parametrize("breaking", ["truncate", "reset", "lose_answer"])
def test_a_listing_that_is_cut_short_is_transient(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, breaking: str
) -> None:
    provider.launch(request_of())
    getattr(cloud.faults, breaking)(LIST)
    with pytest.raises(errors.TransientError) as caught:
        provider.nodes(HERE)
    assert caught.value.region == "eastus"
    assert len(provider.nodes(HERE)) == 2


@pytest.mark.parametrize("breaking", ["reset", "lose_answer"])
def test_a_launch_whose_answer_is_cut_short_is_the_same_launch_when_repeated(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, breaking: str
) -> None:
    getattr(cloud.faults, breaking)(PUT)
    with pytest.raises(errors.TransientError):
        provider.launch(request_of())
    assert {node.id for node in provider.launch(request_of())} == set(cloud.running_ids())
    assert len(cloud.running_ids()) == 2


def test_a_not_found_that_is_cut_short_does_not_prove_that_something_is_gone(
    cloud: AzureLocalCloud, provider: AzureProvider
) -> None:
    cloud.faults.truncate("resourceGroups.get")
    with pytest.raises(errors.TransientError):
        provider.terminate(HERE)
    assert provider.terminate(HERE).is_done


def test_an_expiry_that_could_not_be_written_on_a_live_node_is_an_error_and_can_be_written_again(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    cloud.faults.fail(TAG, "ResourceNotFound", status=404)
    with pytest.raises(errors.TransientError, match="exists") as caught:
        provider.set_expiry(HERE, LATER)
    assert caught.value.code == "ResourceNotFound"
    provider.set_expiry(HERE, LATER)
    assert _expiries(cloud) == {str(int(LATER.timestamp()))}


def test_a_node_that_is_deleted_while_expiries_are_written_does_not_keep_the_others_from_theirs(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    launched = provider.launch(request_of(parts=(Part(replace(offer, purchase="spot"), 2),)))
    going = iter([launched[0].id])

    def preempt_once(call: object) -> None:
        for node_id in going:
            cloud.preempt(node_id)

    cloud.faults.hook(TAG, preempt_once)
    provider.set_expiry(HERE, LATER)
    assert cloud.running_ids() == [launched[1].id]
    assert _expiries(cloud) == {str(int(LATER.timestamp()))}
