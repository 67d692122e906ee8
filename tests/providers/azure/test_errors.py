"""Every error code of Azure becomes the error that it means, with place, scope and hint."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core import exceptions as sdk

from multicompute import errors
from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest, Selector
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer
from multicompute_azure._errors import answer_in, answer_of, translate
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud
from tests.providers.error_codes import error_codes, kinds

Request = Callable[..., LaunchRequest]
PUT = "virtualMachineScaleSets.createOrUpdate"
HERE = Place("azure", "eastus", "", "Standard_ND96isr_H100_v5")
KINDS = kinds(not_found=errors.ProviderError)
CODES = error_codes(Path(__file__).parent)


def answered(body: dict[str, Any], status: int = 409, headers: dict[str, str] | None = None) -> sdk.HttpResponseError:
    """Return the error that the SDK raises for an answer."""
    text = json.dumps(body)
    response: Any = SimpleNamespace(
        status_code=status,
        reason="no",
        headers=headers or {},
        text=lambda encoding=None: text,
        content_type="application/json",
    )
    return sdk.HttpResponseError(response=response)


@pytest.mark.parametrize("row", CODES, ids=lambda row: f"{row['code']}{'-' if row['message_fragment'] else ''}")
def test_every_documented_code_has_its_kind_and_scope(row: dict[str, str]) -> None:
    body = {"error": {"code": row["code"], "message": f"So: {row['message_fragment']}."}}
    error = translate(answered(body, int(row["http_status"])), "create", HERE)
    assert type(error) in KINDS[row["meaning"]]
    assert error.code == row["code"]
    if row["meaning"] not in ("conflict", "not_found", "transient"):
        assert error.scope == row["scope"]
    assert error.hint
    assert str(HERE) in error.message


def test_a_lack_of_capacity_in_a_launch_into_one_zone_is_about_that_zone_only() -> None:
    body = {"error": {"code": "AllocationFailed", "message": "Allocation failed."}}
    error = translate(answered(body, 200), "create", replace(HERE, zone="eastus-2"))
    assert (error.scope, error.zone) == ("zone", "eastus-2")


def test_the_code_of_a_wrapper_is_that_of_the_error_inside() -> None:
    inner = {"code": "SkuNotAvailable", "message": "sold out"}
    error = {
        "code": "InvalidTemplateDeployment",
        "message": "see details",
        "details": [{"code": "Odd", "details": [inner]}],
    }
    assert answer_of(answered({"error": error})).code == "SkuNotAvailable"
    assert answer_in(error) == VendorAnswer("SkuNotAvailable", "sold out")


def test_a_known_code_is_not_overruled_by_its_details() -> None:
    error = {"code": "QuotaExceeded", "message": "no", "details": [{"code": "Conflict", "message": "x"}]}
    assert answer_of(answered({"error": error})).code == "QuotaExceeded"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answered({}, 429), errors.ThrottledError),
        (answered({}, 503), errors.TransientError),
        (answered({}, 500), errors.TransientError),
        (answered({}, 403), errors.AccessDeniedError),
        (answered({}, 401), errors.AuthError),
        (answered({}, 400), errors.TransientError),
        (answered({}, 404), errors.TransientError),
        (answered({}, 409), errors.TransientError),
        (answered({"error": {"code": "NeverHeardOf", "message": "x"}}, 404), errors.ProviderError),
        (answered({"error": {"code": "NeverHeardOf", "message": "x"}}, 500), errors.ProviderError),
        (sdk.ServiceRequestError("refused"), errors.TransientError),
        (sdk.ServiceResponseError("cut off"), errors.TransientError),
        (sdk.ClientAuthenticationError("no token"), errors.AuthError),
    ],
)
def test_an_unknown_code_is_never_a_lack_of_capacity(error: Exception, kind: type[errors.MulticomputeError]) -> None:
    assert type(translate(error, "create", HERE)) is kind


def test_a_throttled_call_is_made_once_and_its_error_has_the_requested_delay(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    cloud.faults.throttle(PUT, retry_after=timedelta(seconds=17))
    with pytest.raises(errors.ThrottledError) as caught:
        provider.launch(request_of())
    assert caught.value.retry_after == 17
    assert cloud.faults.count(PUT) == 1


@pytest.mark.parametrize("is_bare", [False, True])
def test_throttling_with_the_code_of_a_quota_is_recognized_by_its_message(is_bare: bool) -> None:
    inner = {"code": "TooManyRequests", "target": "HighCostGet30Min", "message": "{}"}
    words = "The server rejected the request because too many requests have been received for this subscription."
    body = {"code": "OperationNotAllowed", "message": words, "details": [inner]}
    answer = answered(body if is_bare else {"error": body}, 429, {"Retry-After": "1200"})
    error = translate(answer, "list", HERE)
    assert type(error) is errors.ThrottledError
    assert error.retry_after == 1200


def test_a_missing_registration_is_reported_and_the_adapter_registers_nothing(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    message = (
        "The subscription is not registered to use namespace 'Microsoft.Compute'. See https://aka.ms/rps-not-found."
    )
    cloud.faults.fail(PUT, "MissingSubscriptionRegistration", status=409, message=message)
    with pytest.raises(errors.AccessDeniedError) as caught:
        provider.launch(request_of())
    assert "az provider register" in (caught.value.hint or "")
    calls = [call.operation for call in cloud.faults.calls]
    assert not [name for name in calls if name.startswith("providers.") or name == "unknown"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_the_sdk_repeats_no_failed_call(cloud: AzureLocalCloud, provider: AzureProvider, status: int) -> None:
    cloud.faults.fail("virtualMachineScaleSets.list", "Whatever", status=status, times=None)
    with pytest.raises(errors.MulticomputeError):
        provider.nodes(Selector(region="eastus", cluster_id="id-1"))
    assert cloud.faults.count("virtualMachineScaleSets.list") == 1


def test_a_connection_that_cannot_be_made_is_transient(
    request_of: Request, cloud: AzureLocalCloud, provider: AzureProvider
) -> None:
    cloud.stop()
    with pytest.raises(errors.TransientError, match="azure eastus"):
        provider.launch(request_of())


def test_a_size_that_the_subscription_may_not_have_is_refused_before_anything_is_created(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    cloud.restrict(offer.instance_type, "eastus")
    with pytest.raises(errors.AccessDeniedError) as caught:
        provider.launch(request_of())
    assert (caught.value.scope, caught.value.code) == ("type", "NotAvailableForSubscription")
    assert cloud.alive() == []


def test_a_size_that_is_restricted_in_one_zone_is_not_offered_in_that_zone(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    cloud.restrict(offer.instance_type, "eastus-1")
    with pytest.raises(errors.CapacityError) as caught:
        provider.launch(request_of())
    assert (caught.value.scope, caught.value.is_offered) == ("zone", False)
    elsewhere = replace(offer, zone="eastus-2")
    assert len(provider.launch(request_of(parts=(Part(elsewhere, 1),)))) == 1


def test_a_size_that_the_region_does_not_sell_is_not_offered(
    provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    unknown = replace(offer, instance=replace(offer.instance, name="Standard_Nothing_v9"))
    with pytest.raises(errors.CapacityError) as caught:
        provider.launch(request_of(parts=(Part(unknown, 1),)))
    assert (caught.value.scope, caught.value.is_offered) == ("region", False)


@pytest.mark.parametrize("quota", ["Standard_ND96isr_H100_v5", "cores"])
def test_an_exceeded_quota_is_about_the_region(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, quota: str
) -> None:
    cloud.set_quota(quota, "eastus", 100)
    with pytest.raises(errors.QuotaError) as caught:
        provider.launch(request_of())
    assert (caught.value.scope, caught.value.code) == ("region", "OperationNotAllowed")
    assert cloud.running_ids() == []


def test_a_token_that_azure_does_not_accept_as_a_name_still_has_a_scale_set_of_its_own(
    provider: AzureProvider, request_of: Request
) -> None:
    long = provider.launch(request_of(token="T" * 80))
    other = provider.launch(request_of(token="T" * 81))
    assert len({node.id for node in (*long, *other)}) == 4
