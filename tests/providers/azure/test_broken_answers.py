"""What Azure's adapter makes of answers that come in pieces, or say that something is not there which is."""

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


def _ends(cloud: AzureLocalCloud) -> set[str | None]:
    return {item.tags.get("multicompute-expires-at") for item in cloud.alive() if item.kind == "virtualMachines"}


@pytest.mark.parametrize("breaking", ["truncate", "reset", "lose_answer"])
def test_a_listing_that_breaks_off_is_worth_asking_for_again(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, breaking: str
) -> None:
    provider.launch(request_of())
    getattr(cloud.faults, breaking)(LIST)
    with pytest.raises(errors.TransientError) as caught:
        provider.nodes(HERE)
    assert caught.value.region == "eastus"
    assert len(provider.nodes(HERE)) == 2


@pytest.mark.parametrize("breaking", ["reset", "lose_answer"])
def test_a_launch_whose_answer_breaks_off_is_the_same_launch_when_repeated(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, breaking: str
) -> None:
    getattr(cloud.faults, breaking)(PUT)
    with pytest.raises(errors.TransientError):
        provider.launch(request_of())
    assert {node.id for node in provider.launch(request_of())} == set(cloud.running_ids())
    assert len(cloud.running_ids()) == 2


def test_half_of_a_not_found_is_no_proof_of_gone(cloud: AzureLocalCloud, provider: AzureProvider) -> None:
    cloud.faults.truncate("resourceGroups.get")
    with pytest.raises(errors.TransientError):
        provider.terminate(HERE)
    assert provider.terminate(HERE).is_done


def test_an_end_of_life_that_a_living_node_did_not_take_is_told_and_taken_the_next_time(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    cloud.faults.fail(TAG, "ResourceNotFound", status=404)
    with pytest.raises(errors.TransientError, match="exists") as caught:
        provider.set_expiry(HERE, LATER)
    assert caught.value.code == "ResourceNotFound"
    provider.set_expiry(HERE, LATER)
    assert _ends(cloud) == {str(int(LATER.timestamp()))}


def test_a_node_that_goes_while_its_end_of_life_is_written_does_not_keep_the_others_from_theirs(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    launched = provider.launch(request_of(parts=(Part(replace(offer, purchase="spot"), 2),)))
    going = iter([launched[0].id])
    cloud.faults.hook(TAG, lambda call: [cloud.preempt(node_id) for node_id in going])
    provider.set_expiry(HERE, LATER)
    assert cloud.running_ids() == [launched[1].id]
    assert _ends(cloud) == {str(int(LATER.timestamp()))}
