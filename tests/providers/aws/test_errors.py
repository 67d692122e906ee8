"""Every error code of EC2 becomes the error that it means, with place, scope and hint."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as sdk

from multicompute import errors
from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest, Selector
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import translate, zones_with_capacity
from multicompute_aws._provider import AwsProvider
from tests.providers.aws.scripted_aws import HANG_UP, ScriptedAws, refusal
from tests.providers.error_codes import error_codes, kinds

Request = Callable[..., LaunchRequest]
KINDS = kinds(not_found=errors.TransientError)
CODES = error_codes(Path(__file__).parent)
SOLD_OUT = (
    "We currently do not have sufficient p5.48xlarge capacity in the Availability Zone you requested (us-east-1a). Our system will "
    "be working on provisioning additional capacity. You can currently get p5.48xlarge capacity by not specifying an Availability "
    "Zone in your request or choosing us-east-1b, us-east-1c."
)


def _failure(provider: AwsProvider, request: LaunchRequest) -> errors.MulticomputeError:
    with pytest.raises(errors.MulticomputeError) as caught:
        provider.launch(request)
    return caught.value


@pytest.mark.parametrize("row", CODES, ids=lambda row: f"{row['code']}{'-' if row['message_fragment'] else ''}")
def test_every_documented_code_has_its_kind_and_scope(row: dict[str, str]) -> None:
    answer: Any = {
        "Error": {"Code": row["code"], "Message": f"So: {row['message_fragment']}."},
        "ResponseMetadata": {"HTTPStatusCode": int(row["http_status"])},
    }
    place = Place("aws", "us-east-1", "us-east-1a")
    error = translate(sdk.ClientError(answer, "RunInstances"), "RunInstances", place)
    assert type(error) in KINDS[row["meaning"]]
    assert error.code == row["code"]
    if row["meaning"] not in ("conflict", "not_found"):
        assert error.scope == row["scope"]
    assert error.hint


def test_no_capacity_comes_as_http_500_and_fails_over_at_once(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    aws.answers["RunInstances"] = refusal("InsufficientInstanceCapacity", SOLD_OUT, 500)
    error = _failure(provider, request_of())
    assert isinstance(error, errors.CapacityError)
    assert len(aws.sent("RunInstances")) == 1
    assert (error.region, error.zone, error.instance_type) == ("us-east-1", "us-east-1a", "p5.48xlarge")
    assert error.zones_with_capacity == ("us-east-1b", "us-east-1c")
    assert error.scope == "zone" and error.is_offered


def test_zones_are_read_from_the_recommendation_only() -> None:
    assert zones_with_capacity(SOLD_OUT) == ("us-east-1b", "us-east-1c")
    assert zones_with_capacity("no capacity in us-east-1a.") == ()
    assert zones_with_capacity("... or choosing us-west-2-lax-1a, ap-northeast-1c.") == (
        "us-west-2-lax-1a",
        "ap-northeast-1c",
    )


def test_a_type_that_a_zone_does_not_sell_is_not_offered_there(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    message = (
        "Your requested instance type (p5.48xlarge) is not supported in your requested Availability Zone (us-east-1a)."
    )
    aws.answers["RunInstances"] = refusal("Unsupported", message)
    error = _failure(provider, request_of())
    assert isinstance(error, errors.CapacityError)
    assert not error.is_offered and error.code == "Unsupported"


def test_an_unknown_code_is_never_a_lack_of_capacity(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    for status, kind in ((400, errors.ProviderError), (403, errors.AccessDeniedError), (500, errors.ProviderError)):
        aws.answers["RunInstances"] = refusal("InsufficientSomethingNew", "capacity", status)
        error = _failure(provider, request_of())
        assert type(error) is kind
        assert error.code == "InsufficientSomethingNew"


def test_a_quota_error_names_the_quota_and_where_to_request_more(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer
) -> None:
    aws.answers["RunInstances"] = refusal("VcpuLimitExceeded", "You have requested more vCPU capacity")
    error = _failure(provider, request_of())
    assert isinstance(error, errors.QuotaError)
    assert "Running On-Demand P instances" in str(error)
    assert "servicequotas/home/services/ec2/quotas/L-417A185B" in str(error)
    aws.answers["RunInstances"] = refusal("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    spot = request_of(parts=(Part(replace(offer, purchase="spot"), 2),))
    assert "All P5 Spot Instance Requests" in str(_failure(provider, spot))


def test_a_denied_call_names_the_action_and_hides_the_encoded_part(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    message = (
        "You are not authorized to perform this operation. User: arn:aws:iam::1:user/a is not authorized to perform: ec2:RunInstances "
        "on resource: x. Encoded authorization failure message: " + "Zq8" * 200
    )
    aws.answers["RunInstances"] = refusal("UnauthorizedOperation", message, 403)
    error = _failure(provider, request_of())
    assert isinstance(error, errors.AccessDeniedError)
    assert "ec2:RunInstances" in (error.hint or "")
    assert "Zq8Zq8" not in str(error)


@pytest.mark.parametrize(
    "answer",
    [HANG_UP, (200, "<RunInstancesResponse><instancesSet><item>"), (500, "<html>oops</html>"), (503, "busy")],
    ids=["hang-up", "truncated", "html", "busy"],
)
def test_an_unusable_answer_is_transient(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, answer: tuple[int, str]
) -> None:
    aws.answers["RunInstances"] = answer
    error = _failure(provider, request_of())
    assert type(error) is errors.TransientError
    assert error.region == "us-east-1"
    assert error.__cause__ is not None


def test_an_endpoint_that_does_not_answer_is_transient() -> None:
    with ScriptedAws() as gone:
        environment = gone.environment
    from multicompute.provider import Settings

    with pytest.raises(errors.TransientError):
        AwsProvider(Settings(environment=environment)).nodes(Selector(region="us-east-1"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sdk.NoCredentialsError(), errors.AuthError),
        (sdk.UnauthorizedSSOTokenError(), errors.AuthError),
        (sdk.TokenRetrievalError(provider="sso", error_msg="expired"), errors.AuthError),
        (sdk.ProfileNotFound(profile="x"), errors.AuthError),
        (sdk.ReadTimeoutError(endpoint_url="https://x"), errors.TransientError),
        (sdk.ConnectTimeoutError(endpoint_url="https://x"), errors.TransientError),
        (sdk.IncompleteReadError(actual_bytes=1, expected_bytes=2), errors.TransientError),
        (sdk.ParamValidationError(report="x"), errors.InvalidRequestError),
        (sdk.UnknownServiceError(service_name="x", known_service_names="y"), errors.ProviderError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_the_sdk_itself_have_their_kind(error: Exception, kind: type[errors.MulticomputeError]) -> None:
    translated = translate(error, "RunInstances", Place("aws", "us-east-1"))
    assert type(translated) is kind
    assert translated.code == type(error).__name__
