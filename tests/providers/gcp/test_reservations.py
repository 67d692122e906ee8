"""Reservations: dense ones, those of other projects, blocks, those of TPU chips, and those that can't be used."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from multicompute import errors
from multicompute.offer import InstanceType, Offer, Part
from multicompute.provider import LaunchRequest
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer
from multicompute_gcp._errors import refusal
from multicompute_gcp._network import Network
from multicompute_gcp._placement import check_domain, needs_policy
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp._reservations import HeldReservation, queue_reservation
from multicompute_gcp.local import GcpLocalCloud
from multicompute_gcp.local.records import ReservationTerms

Request = Callable[..., LaunchRequest]
PLACE = Place("gcp", "us-central1", "us-central1-a", "a3-highgpu-8g")


def _reserved(offer: Offer, name: str, nodes: int = 2) -> tuple[Part, ...]:
    return (Part(replace(offer, purchase="reserved"), nodes, reservation=name),)


def _instances(cloud: GcpLocalCloud) -> list[Mapping[str, Any]]:
    """Return the instances as the cloud has them."""
    return [one.body for one in cloud._state.instances()]


# --- dense reservations -----------------------------------------------------------------------------------------------


def test_the_instances_of_a_dense_reservation_are_bound_to_it_and_have_no_time_limit_of_their_own(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    terms = ReservationTerms(is_dense=True)
    name = cloud.add_reservation(offer.instance_type, offer.zone, 2, terms=terms)
    expires_at = provider._clock.now() + timedelta(hours=1)
    nodes = provider.launch(request_of(parts=_reserved(offer, name), expires_at=expires_at))
    assert len(nodes) == 2
    for instance in _instances(cloud):
        assert instance["scheduling"]["provisioningModel"] == "RESERVATION_BOUND"
        assert instance["scheduling"]["instanceTerminationAction"] == "DELETE"
        assert "maxRunDuration" not in instance["scheduling"]


def test_instances_of_other_reservations_are_not_bound(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    provider.launch(request_of(parts=_reserved(offer, cloud.add_reservation(offer.instance_type, offer.zone, 2))))
    assert {one["scheduling"]["provisioningModel"] for one in _instances(cloud)} == {"STANDARD"}


def test_a_dense_reservation_that_is_not_bound_to_is_no_lack_of_capacity() -> None:
    message = (
        "Invalid value for field 'resource.scheduling.provisioningModel': 'STANDARD'. Instances consuming DENSE"
        " reservations must use provisioningModel RESERVATION_BOUND."
    )
    error = refusal(VendorAnswer("invalid", message, 400), "instances.bulkInsert", PLACE)
    assert (type(error), error.scope) == (errors.InvalidRequestError, "request")


# --- other projects and blocks ----------------------------------------------------------------------------------------

PATHS = ("projects/owner/reservations/shared", "projects/owner/zones/us-central1-a/reservations/shared")


@pytest.mark.parametrize("path", PATHS)
def test_a_reservation_of_another_project_is_found_in_that_project_and_used(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer, path: str
) -> None:
    cloud.add_reservation(offer.instance_type, offer.zone, 3, name="shared", terms=ReservationTerms(owner="owner"))
    # One of the same name in the own project is another one.
    cloud.add_reservation("g2-standard-4", offer.zone, 1, name="shared")
    (held,) = provider.quotas(offer.region, reservations=[path]).reservations
    assert (held.id, held.zone, held.instance_type, held.available) == (path, offer.zone, offer.instance_type, 3)
    assert provider.quotas("europe-west4", reservations=[path]).reservations == ()
    provider.launch(request_of(parts=_reserved(offer, path)))
    (held,) = provider.quotas(offer.region, reservations=[path]).reservations
    assert held.available == 1


@pytest.mark.parametrize("is_dense", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_a_shared_reservation_that_can_not_be_read_is_used_and_bound_to_if_google_says_so(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer, path: str, *, is_dense: bool
) -> None:
    terms = ReservationTerms(owner="owner", is_readable=False, is_dense=is_dense)
    cloud.add_reservation(offer.instance_type, offer.zone, 2, name="shared", terms=terms)
    quotas = provider.quotas(offer.region, reservations=[path])
    assert quotas.reservations == ()
    assert any(path in note and "could not be read" in note for note in quotas.notes)
    assert len(provider.launch(request_of(parts=_reserved(offer, path)))) == 2
    model = "RESERVATION_BOUND" if is_dense else "STANDARD"
    assert {one["scheduling"]["provisioningModel"] for one in _instances(cloud)} == {model}


def test_a_block_has_its_own_machines_and_no_more_of_them_are_launched_than_it_has(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    terms = ReservationTerms(is_dense=True, blocks={"block-1": 2, "block-2": 4})
    name = cloud.add_reservation(offer.instance_type, offer.zone, 6, terms=terms)
    paths = [f"projects/{cloud.project}/reservations/{name}/reservationBlocks/block-{number}" for number in (1, 2)]
    held = provider.quotas(offer.region, reservations=paths).reservations
    assert [one.available for one in held] == [2, 4]
    provider.launch(request_of(parts=_reserved(offer, paths[0])))
    assert [one.available for one in provider.quotas(offer.region, reservations=paths).reservations] == [0, 4]
    with pytest.raises(errors.CapacityError):
        provider.launch(request_of(parts=_reserved(offer, paths[0]), token="tok2"))


def test_a_reservation_of_another_zone_is_not_tried(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    path = "projects/owner/zones/us-central1-c/reservations/shared"
    with pytest.raises(errors.CapacityError, match="has no reservation") as caught:
        provider.launch(request_of(parts=_reserved(offer, path)))
    assert caught.value.scope == "request"
    assert cloud.faults.count("instances.bulkInsert") == 0


# --- properties that must match ---------------------------------------------------------------------------------------


def test_instances_have_the_local_ssds_and_the_cpu_platform_of_their_reservation(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    terms = ReservationTerms(local_ssds=2, cpu_platform="Intel Sapphire Rapids")
    name = cloud.add_reservation(offer.instance_type, offer.zone, 1, terms=terms)
    provider.launch(request_of(parts=_reserved(offer, name, 1)))
    (instance,) = _instances(cloud)
    assert [disk["type"] for disk in instance["disks"]] == ["PERSISTENT", "SCRATCH", "SCRATCH"]
    assert instance["minCpuPlatform"] == "Intel Sapphire Rapids"


def test_a_reservation_that_any_instance_uses_is_refused_before_the_launch_with_the_remedy(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    name = cloud.add_reservation(offer.instance_type, offer.zone, 2, terms=ReservationTerms(is_specific=False))
    with pytest.raises(errors.InvalidRequestError, match="can't be named") as caught:
        provider.launch(request_of(parts=_reserved(offer, name)))
    assert "--require-specific-reservation" in (caught.value.hint or "")
    assert cloud.faults.count("instances.bulkInsert") == 0


def test_a_shared_reservation_with_other_properties_is_no_lack_of_capacity(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    terms = ReservationTerms(owner="owner", is_readable=False, local_ssds=1)
    path = cloud.add_reservation(offer.instance_type, offer.zone, 2, terms=terms)
    with pytest.raises(errors.InvalidRequestError, match="No available resources in specified reservations") as caught:
        provider.launch(request_of(parts=_reserved(offer, path)))
    assert "local SSDs" in (caught.value.hint or "")
    assert caught.value.scope == "request"
    assert cloud.alive() == []


# --- TPUs -------------------------------------------------------------------------------------------------------------


def test_a_reservation_of_tpu_chips_has_room_for_each_slice_type_that_fits(
    cloud: GcpLocalCloud, provider: GcpProvider
) -> None:
    name = cloud.add_reservation("v6e-8", "us-east5-a", 2)
    held = {one.instance_type: one for one in provider.quotas("us-east5", reservations=[name]).reservations}
    assert {kind: one.available for kind, one in held.items()} == {"v6e-1": 16, "v6e-4": 4, "v6e-8": 2, "v6e-16": 1}
    assert held["v6e-8"].zone == "us-east5-a"


@pytest.mark.parametrize(
    ("named", "sent"),
    [
        ("mine", "projects/own/locations/us-east5-a/reservations/mine"),
        ("-", "projects/own/locations/us-east5-a/reservations/-"),
        ("projects/owner/reservations/r", "projects/owner/locations/us-east5-a/reservations/r"),
        ("projects/owner/locations/us-east5-a/reservations/-", "projects/owner/locations/us-east5-a/reservations/-"),
        ("projects/owner/zones/us-east5-a/reservations/r", "projects/owner/locations/us-east5-a/reservations/r"),
        ("folders/7/locations/us-east5-a/reservations/-", "folders/7/locations/us-east5-a/reservations/-"),
    ],
)
def test_a_queued_resource_names_a_reservation_with_its_owner_and_zone(named: str, sent: str) -> None:
    place = Place("gcp", "us-east5", "us-east5-a", "v6e-8")
    assert queue_reservation(named, place, project="own") == sent


def test_slices_are_launched_into_the_reservation_of_another_project(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    slice_type = InstanceType("gcp", "v6e-8", "tpu-v6e", 8)
    offer = replace(offer, instance=slice_type, region="us-east5", zone="us-east5-a")
    nodes = provider.launch(request_of(parts=_reserved(offer, "projects/owner/reservations/r", 1)))
    assert len(nodes) == 1
    with pytest.raises(errors.CapacityError, match="has no reservation"):
        queue_reservation("projects/owner/zones/us-east5-b/reservations/r", Place.of(offer), project="own")


# --- A4X --------------------------------------------------------------------------------------------------------------


def test_the_placement_policy_of_a4x_has_the_topology_of_its_nvlink_domain(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    place = Place("gcp", "us-central1", "us-central1-a", "a4x-highgpu-4g")
    name = Network(provider._clients, provider._clock).placement_policy(request_of(), place)
    policy = cloud._state.store("resourcePolicy", "regions/us-central1").find(name)
    assert policy is not None
    assert policy.body["groupPlacementPolicy"] == {"collocation": "COLLOCATED", "gpuTopology": "1x72"}
    bound, other = HeldReservation("r", is_bound=True), HeldReservation("r", is_bound=True, policies=("theirs",))
    assert needs_policy(bound, "a4x-highgpu-4g")
    assert not needs_policy(other, "a4x-highgpu-4g")
    assert not needs_policy(bound, "a4-highgpu-8g")


def test_more_nodes_than_an_nvlink_domain_has_are_refused_before_the_launch(offer: Offer) -> None:
    machine = InstanceType("gcp", "a4x-highgpu-4g", "gb200", 4)
    part = Part(replace(offer, instance=machine), 18)
    check_domain(part, Place.of(part.offer))
    with pytest.raises(errors.InvalidRequestError, match="which has 18") as caught:
        check_domain(replace(part, nodes=19), Place.of(part.offer))
    assert caught.value.scope == "type"
