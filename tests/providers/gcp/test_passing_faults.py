"""Faults that pass are not read as permanent ones, and permanent ones not as a lack of capacity."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from multicompute import errors
from multicompute.offer import InstanceType, Offer, Part
from multicompute.provider import TAG_EXPIRES_AT, LaunchRequest, Selector, expiry_tag
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer, meaning_of
from multicompute_gcp._errors import MEANINGS, answer_of_status, refusal
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud

Request = Callable[..., LaunchRequest]
PLACE = Place("gcp", "us-central1", "us-central1-a", "a3-highgpu-8g")
ALL = Selector(cluster_id="id-1", region="us-east5")
BAD = "Cloud TPU received a bad request. "


@pytest.mark.parametrize("code", ["UNSUPPORTED_OPERATION", "RESOURCE_NOT_FOUND"])
def test_an_instance_that_is_preempted_while_it_is_created_is_a_lack_of_capacity_that_passes(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer, code: str
) -> None:
    cloud.lost_while_created = [code]
    spot = request_of(parts=(Part(replace(offer, purchase="spot"), 3),))
    with pytest.raises(errors.CapacityError) as caught:
        provider.launch(spot)
    assert (caught.value.code, caught.value.scope, caught.value.is_offered) == (code, "zone", True)
    # The instances that were created before are deleted.
    assert cloud.alive() == []
    assert len(provider.launch(replace(spot, token="tok2"))) == 3


@pytest.mark.parametrize(
    ("code", "message", "kind", "scope", "is_offered"),
    [
        # SkyPilot's `_gcp_handler` (sky/backends/cloud_vm_ray_backend.py) has these answers.
        (3, f"{BAD}update is not supported while in state PREEMPTED [EID: 0x7]", errors.CapacityError, "zone", True),
        (9, "Insufficient reserved capacity. Contact customer support", errors.CapacityError, "zone", True),
        # https://github.com/skypilot-org/skypilot/issues/4579
        (8, "Insufficient reserved capacity. Contact customer support", errors.CapacityError, "zone", True),
        # https://github.com/skypilot-org/skypilot/issues/3840
        (3, f"{BAD}the accelerator v4-128 was not found in zone us-central2-b", errors.CapacityError, "zone", False),
        (3, f"{BAD}The label is not in the alphabet of labels.", errors.InvalidRequestError, "request", True),
        (7, "Location us-east1-d is not found or access is unauthorized.", errors.CapacityError, "zone", False),
        (7, "The caller does not have permission", errors.AccessDeniedError, "type", True),
    ],
)
def test_an_answer_of_the_tpu_api_has_the_meaning_that_its_text_names(
    code: int, message: str, kind: type[errors.MulticomputeError], scope: str, *, is_offered: bool
) -> None:
    meaning = meaning_of(MEANINGS, answer_of_status({"code": code, "message": message}))
    assert (meaning.kind, meaning.scope, meaning.is_offered) == (kind, scope, is_offered)


@pytest.mark.parametrize(
    ("code", "message", "kind", "scope"),
    [
        ("UNSUPPORTED_OPERATION", "The operation is not possible.", errors.CapacityError, "zone"),
        ("invalid", "Specified reservation 'r' does not have available resources.", errors.CapacityError, "request"),
        (
            "invalid",
            "Specified reservations [projects/p/reservations/r] can not be targeted as specificReservationRequired is not set",
            errors.InvalidRequestError,
            "request",
        ),
        (
            "CONDITION_NOT_MET",
            "No available resources in specified reservations",
            errors.InvalidRequestError,
            "request",
        ),
        (
            "forbidden",
            "Required 'compute.instances.create' permission for 'projects/p'",
            errors.AccessDeniedError,
            "region",
        ),
        (
            "forbidden",
            "Required 'compute.reservations.get' permission for 'projects/p/zones/z/reservations/r'",
            errors.AccessDeniedError,
            "request",
        ),
        (
            "forbidden",
            "Required 'compute.images.useReadOnly' permission for 'projects/p/global/images/i'",
            errors.AccessDeniedError,
            "type",
        ),
        (
            "conditionNotMet",
            "Location REGION:asia-south1 violates constraint constraints/gcp.resourceLocations on the resource",
            errors.AccessDeniedError,
            "region",
        ),
        ("conditionNotMet", "Operation denied by custom org policy", errors.AccessDeniedError, "type"),
        ("required", "Login Required.", errors.AuthError, "account"),
        ("required", "Required field 'resource.name' not specified", errors.InvalidRequestError, "type"),
        ("limitExceeded", "A resource limit was exceeded.", errors.QuotaError, "type"),
        ("limitExceeded", "GPUS_ALL_REGIONS exceeded", errors.QuotaError, "account"),
    ],
)
def test_an_answer_of_compute_engine_costs_what_its_text_names(
    code: str, message: str, kind: type[errors.MulticomputeError], scope: str
) -> None:
    error = refusal(VendorAnswer(code, message), "instances.bulkInsert", PLACE)
    assert (type(error), error.scope) == (kind, scope)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("Constraint constraints/compute.vmExternalIpAccess violated for project 1.", "private=True"),
        ("Location ZONE:a violates constraint constraints/gcp.resourceLocations", "name a region that it allows"),
    ],
)
def test_a_policy_is_reported_with_the_remedy(message: str, remedy: str) -> None:
    assert remedy in (refusal(VendorAnswer("conditionNotMet", message), "instances.bulkInsert", PLACE).hint or "")


# --- slices that can't be changed yet, or any more ----------------------------------------------------------------------


@pytest.fixture(name="slices")
def _slices(request_of: Request, offer: Offer) -> LaunchRequest:
    machine = InstanceType("gcp", "v6e-8", "tpu-v6e", 8)
    here = replace(offer, instance=machine, region="us-east5", zone="us-east5-a", purchase="spot")
    return request_of(parts=(Part(here, 2),))


def _expiries(cloud: GcpLocalCloud) -> list[str]:
    return sorted({item.tags.get(TAG_EXPIRES_AT, "") for item in cloud.alive() if item.kind == "tpu-host"})


def _in_two_hours(provider: GcpProvider) -> datetime:
    return provider._clock.now() + timedelta(hours=2)


def test_a_slice_that_is_being_created_is_extended_when_it_runs(
    cloud: GcpLocalCloud, provider: GcpProvider, slices: LaunchRequest
) -> None:
    cloud.set_delays(boot=60)
    provider.launch(slices)
    later = _in_two_hours(provider)
    with pytest.raises(errors.TransientError, match="can be changed when it runs"):
        provider.set_expiry(ALL, later)
    assert expiry_tag(later) not in _expiries(cloud)
    cloud.pass_time(timedelta(minutes=2))
    provider.set_expiry(ALL, later)
    assert _expiries(cloud) == [expiry_tag(later)]


def test_a_preempted_slice_does_not_keep_the_others_from_being_extended(
    cloud: GcpLocalCloud, provider: GcpProvider, slices: LaunchRequest
) -> None:
    first, *_ = provider.launch(slices)
    cloud.preempt(first.id)
    later = _in_two_hours(provider)
    provider.set_expiry(ALL, later)
    assert expiry_tag(later) in _expiries(cloud)


def test_a_slice_that_is_preempted_after_it_was_listed_does_not_end_an_extension(
    cloud: GcpLocalCloud, provider: GcpProvider, slices: LaunchRequest
) -> None:
    provider.launch(slices)
    text = f"{BAD}update is not supported while in state PREEMPTED [EID: 0x7]"
    cloud.faults.fail("tpu.nodes.patch", "INVALID_ARGUMENT", status=400, message=text, times=1)
    later = _in_two_hours(provider)
    provider.set_expiry(ALL, later)
    assert expiry_tag(later) in _expiries(cloud)


def test_a_lack_of_capacity_that_the_creation_of_a_slice_reports_late_is_waited_for(
    cloud: GcpLocalCloud, provider_of: Callable[..., GcpProvider], slices: LaunchRequest
) -> None:
    provider = provider_of(tpu_create="direct")
    cloud.set_capacity("v6e-8", "us-east5-a", 0)
    cloud.set_delays(operation=3)
    with pytest.raises(errors.CapacityError, match="no more capacity"):
        provider.launch(slices)
    assert cloud.alive() == []


def test_a_part_of_a_gpu_needs_an_image_of_the_user_because_no_public_one_has_its_driver(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    machine = InstanceType("gcp", "g4-standard-12", "rtx-pro-6000", 0.25, 96)
    gang = request_of(parts=(Part(replace(offer, instance=machine, zone="us-central1-b"), 1),))
    with pytest.raises(errors.InvalidRequestError, match="part of a GPU") as caught:
        provider.launch(gang)
    assert (caught.value.scope, "image=" in (caught.value.hint or "")) == ("type", True)
    assert cloud.faults.count("instances.bulkInsert") == 0
