"""Each of Google's error codes is translated into the error that it means, with its place, its scope and what to do next."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import requests
from google.api_core import exceptions as sdk
from google.auth.exceptions import RefreshError, TransportError
from google.cloud import compute_v1

from multicompute import errors
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer, meaning_of
from multicompute_gcp._errors import (
    MEANINGS,
    answer_of_operation,
    answer_of_response,
    answer_of_status,
    cause_of,
    refusal,
    translate,
    translate_errors,
)
from tests.providers.error_codes import error_codes, kinds

PLACE = Place("gcp", "us-central1", "us-central1-a", "a3-highgpu-8g")
KINDS = kinds(not_found=errors.CapacityError)
CODES = error_codes(Path(__file__).parent)
RPC = {"8": "RESOURCE_EXHAUSTED", "9": "FAILED_PRECONDITION", "3": "INVALID_ARGUMENT"}


def _response(status: int, body: object, url: str = "https://compute.googleapis.com/compute/v1/x") -> requests.Response:
    response = requests.Response()
    response.status_code, response.url = status, url
    response._content = json.dumps(body).encode() if not isinstance(body, bytes) else body
    return response


@pytest.mark.parametrize("row", CODES, ids=lambda row: f"{row['api']}-{row['code']}-{row['message_fragment'][:12]}")
def test_every_documented_code_has_its_kind(row: dict[str, str]) -> None:
    answer = VendorAnswer(RPC.get(row["code"], row["code"]), f"So: {row['message_fragment']}.")
    meaning = meaning_of(MEANINGS, answer)
    assert meaning.kind in KINDS[row["meaning"]]
    if meaning.kind in (errors.CapacityError, errors.QuotaError) and row["code"] not in RPC:
        assert meaning.scope == row["scope"]


def test_a_refused_call_is_read_by_its_reason_and_not_by_its_status() -> None:
    body = {"error": {"code": 403, "message": "Rate Limit Exceeded", "errors": [{"reason": "rateLimitExceeded"}]}}
    raised = sdk.Forbidden("no", response=_response(403, body))  # type: ignore[no-untyped-call]
    error = translate(raised, "instances.bulkInsert", PLACE)
    assert type(error) is errors.ThrottledError
    assert (error.code, error.region, error.zone) == ("rateLimitExceeded", "us-central1", "us-central1-a")
    assert "instances.bulkInsert" in error.message
    assert error.vendor_message == "Rate Limit Exceeded"


def test_the_tpu_api_is_read_by_its_status() -> None:
    body = {"error": {"code": 429, "message": "There is no more capacity in the zone", "status": "RESOURCE_EXHAUSTED"}}
    response = _response(429, body, "https://tpu.googleapis.com/v2/x")
    response.headers["Retry-After"] = "7"
    answer = answer_of_response(response)
    assert (answer.code, answer.retry_after) == ("RESOURCE_EXHAUSTED", 7.0)
    assert meaning_of(MEANINGS, answer).kind is errors.CapacityError


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Quota limit 'TPUV5sPreemptible' has been exceeded. Limit: 0 in region us-east5.", errors.QuotaError),
        ("There is no more capacity in the zone us-east5-a", errors.CapacityError),
        (
            "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service 'x'",
            errors.ThrottledError,
        ),
        ("Insufficient capacity", errors.CapacityError),
    ],
)
def test_resource_exhausted_is_quota_or_capacity_by_its_message(message: str, kind: type[Exception]) -> None:
    assert meaning_of(MEANINGS, answer_of_status({"code": 8, "message": message})).kind is kind


@pytest.mark.parametrize(
    ("message", "scope"),
    [
        ("Quota limit 'TPUV5PPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 8 in zone us-east5-a.", "zone"),
        ("Quota limit 'TPUV2sPreemptible' has been exceeded. Limit: 0 in region us-east5.", "region"),
    ],
)
def test_a_quota_of_one_zone_does_not_rule_out_the_region(message: str, scope: str) -> None:
    error = refusal(answer_of_status({"code": 8, "message": message}), "create", PLACE)
    assert isinstance(error, errors.QuotaError)
    assert error.scope == scope


def test_a_quota_failure_in_the_details_makes_it_a_quota() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure"}]
    assert (
        meaning_of(MEANINGS, answer_of_status({"code": 8, "message": "no", "details": details})).kind
        is errors.QuotaError
    )


def test_an_operation_with_an_error_and_no_http_status_has_failed() -> None:
    info = {"reason": "resource_availability", "metadatas": {"zonesAvailable": "us-central1-b,us-central1-c"}}
    listed = [
        {"code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "message": "x", "error_details": [{"error_info": info}]}
    ]
    operation = compute_v1.Operation(status="DONE", error={"errors": listed})
    answer = answer_of_operation(operation)
    assert answer is not None
    error = refusal(answer, "instances.bulkInsert", PLACE)
    assert isinstance(error, errors.CapacityError)
    assert error.zones_with_capacity == ("us-central1-b", "us-central1-c")
    assert error.scope == "zone"


def test_the_error_that_explains_why_instances_are_missing_counts() -> None:
    listed = [
        {"code": "VM_MIN_COUNT_NOT_REACHED", "message": "Requested minimum count of 8 VMs could not be created."},
        {"code": "QUOTA_EXCEEDED", "message": "Quota 'X' exceeded.  Limit: 8.0 in region us-central1."},
    ]
    answer = answer_of_operation(compute_v1.Operation(status="DONE", error={"errors": listed}))
    assert answer is not None
    assert meaning_of(MEANINGS, answer).kind is errors.QuotaError


def test_an_operation_without_an_error_has_not_failed() -> None:
    assert answer_of_operation(compute_v1.Operation(status="DONE")) is None
    done = {"zones/us-central1-a": {"status": "DONE", "target_vm_count": 8, "created_vm_count": 8}}
    assert answer_of_operation(_bulk(done)) is None


def test_an_operation_that_was_rolled_back_has_failed_even_without_an_error() -> None:
    status = {"status": "ROLLING_BACK", "target_vm_count": 8, "created_vm_count": 3, "failed_to_create_vm_count": 5}
    answer = answer_of_operation(_bulk({"zones/us-central1-a": status}))
    assert answer is not None
    assert meaning_of(MEANINGS, answer).kind is errors.CapacityError
    assert "3 of 8 VMs" in answer.message


def _bulk(per_location: Mapping[str, object]) -> compute_v1.Operation:
    done = {"per_location_status": per_location}
    return compute_v1.Operation(status="DONE", instances_bulk_insert_operation_metadata=done)


def test_an_api_that_was_never_enabled_differs_from_a_missing_permission() -> None:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
    }
    error = {"code": 403, "message": "Cloud TPU API has not been used.", "status": "PERMISSION_DENIED"}
    url = "https://tpu.googleapis.com/v2/x"
    assert answer_of_response(_response(403, {"error": {**error, "details": [info]}}, url)).code == "SERVICE_DISABLED"
    assert answer_of_response(_response(403, {"error": error}, url)).code == "PERMISSION_DENIED"


def test_a_machine_type_that_the_zone_does_not_sell_differs_from_one_that_is_sold_out() -> None:
    answer = VendorAnswer(
        "invalid", "Machine type with name 'a3-highgpu-8g' does not exist in zone 'us-central1-a'.", 400
    )
    error = refusal(answer, "instances.bulkInsert", PLACE)
    assert isinstance(error, errors.CapacityError)
    assert not error.is_offered


@pytest.mark.parametrize("metric", ["GPUS_ALL_REGIONS", "CPUS_ALL_REGIONS"])
def test_a_quota_of_all_regions_rules_out_the_account(metric: str) -> None:
    answer = VendorAnswer("quotaExceeded", f"Quota '{metric}' exceeded. Limit: 0.0 globally.", 403)
    error = refusal(answer, "instances.bulkInsert", PLACE)
    assert isinstance(error, errors.QuotaError)
    assert error.scope == "account"
    assert "quotas" in (error.hint or "")


@pytest.mark.parametrize("status", [400, 404, 409, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"<html>oops</html>", b'{"error": {"code": 404, "errors": [{"rea', b""])
def test_an_answer_without_a_code_proves_nothing_and_the_call_may_be_repeated(status: int, body: bytes) -> None:
    assert meaning_of(MEANINGS, answer_of_response(_response(status, body))).kind is errors.TransientError


@pytest.mark.parametrize(
    ("status", "kind"), [(401, errors.AuthError), (403, errors.AccessDeniedError), (429, errors.ThrottledError)]
)
def test_a_status_that_is_specific_needs_no_code(status: int, kind: type[Exception]) -> None:
    assert meaning_of(MEANINGS, answer_of_response(_response(status, b"<html>no</html>"))).kind is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (503, errors.TransientError),
        (404, errors.ProviderError),
        (403, errors.AccessDeniedError),
        (0, errors.ProviderError),
    ],
)
def test_an_unknown_code_is_never_a_lack_of_capacity(status: int, kind: type[errors.MulticomputeError]) -> None:
    assert meaning_of(MEANINGS, VendorAnswer("somethingNew", "no resources for you", status)).kind is kind


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (requests.ConnectionError("broken"), errors.TransientError),
        (requests.ReadTimeout("slow"), errors.TransientError),
        (TransportError("no metadata server"), errors.TransientError),  # type: ignore[no-untyped-call]
        (RefreshError("invalid_grant"), errors.AuthError),  # type: ignore[no-untyped-call]
    ],
)
def test_a_call_that_never_reached_google_is_not_a_refusal(raised: Exception, kind: type[Exception]) -> None:
    with pytest.raises(errors.MulticomputeError) as caught, translate_errors("instances.aggregatedList", PLACE):
        raise raised
    assert type(caught.value) is kind
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (VendorAnswer("compute.instances.preempted", ""), "preemption"),
        (VendorAnswer("QUOTA_EXCEEDED", "in region"), "quota"),
        (VendorAnswer("STOCKOUT", ""), "capacity"),
        (VendorAnswer("INVALID_ARGUMENT", "no such runtime"), "request"),
        (VendorAnswer("SOMETHING", ""), "capacity"),
    ],
)
def test_the_reason_why_a_node_ended_has_a_cause(answer: VendorAnswer, cause: str) -> None:
    assert cause_of(answer) == cause


@pytest.mark.parametrize(
    ("code", "message", "kind", "scope"),
    [
        # https://github.com/GoogleCloudPlatform/oss-test-infra/pull/2703
        (
            "conditionNotMet",
            "Location ZONE:asia-south1-b violates constraint constraints/gcp.resourceLocations on the resource",
            errors.AccessDeniedError,
            "zone",
        ),
        (
            "conditionNotMet",
            "Constraint constraints/compute.vmExternalIpAccess violated for project 1.",
            errors.AccessDeniedError,
            "region",
        ),
        ("conditionNotMet", "Supplied fingerprint does not match.", errors.TransientError, "request"),
        # https://github.com/dstackai/gpuhunt/issues/98
        (
            "PERMISSION_DENIED",
            "Location us-east1-d is not found or access is unauthorized.",
            errors.CapacityError,
            "zone",
        ),
        # Without slices, instances can still be launched.
        ("PERMISSION_DENIED", "Permission 'tpu.nodes.list' denied on resource", errors.AccessDeniedError, "type"),
        ("SERVICE_DISABLED", "Cloud TPU API has not been used in project 1", errors.AccessDeniedError, "type"),
        ("SERVICE_DISABLED", "Compute Engine API has not been used in project 1", errors.AccessDeniedError, "region"),
        (
            "IP_SPACE_EXHAUSTED",
            "IP space of 'projects/p/regions/r/subnetworks/s' is exhausted.",
            errors.CapacityError,
            "region",
        ),
        ("invalid", "'x'. The referenced subnetwork resource cannot be found.", errors.ProviderError, "region"),
        ("invalid", "'x'. The referenced network resource cannot be found.", errors.ProviderError, "region"),
        # Other machine types boot from other images.
        ("invalid", "'x'. The referenced image resource cannot be found.", errors.ProviderError, "type"),
        ("notFound", "The resource 'projects/p/global/images/family/f' was not found", errors.ProviderError, "type"),
        (
            "notFound",
            "The resource 'projects/p/zones/z/instances/i' was not found",
            errors.InvalidRequestError,
            "request",
        ),
        ("invalidResourceUsage", "Resource cannot be deleted if it's protected", errors.ProviderError, "zone"),
    ],
)
def test_what_one_place_or_the_project_lacks_has_the_narrowest_scope(
    code: str, message: str, kind: type[errors.MulticomputeError], scope: str
) -> None:
    error = refusal(VendorAnswer(code, message), "instances.bulkInsert", PLACE)
    assert (type(error), error.scope) == (kind, scope)
