"""The AWS adapter and answers that are cut short, or that come from a proxy on the way to AWS."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore import exceptions as sdk

from multicompute import errors
from multicompute.offer import Offer
from multicompute.provider import LaunchRequest, Selector, Settings
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import translate
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from tests.providers.aws.scripted_aws import ScriptedAws

Request = Callable[..., LaunchRequest]
HERE = Selector(region="us-east-1", cluster_id="id-1")
HALF = '{"Parame'


@pytest.fixture
def cloud() -> Iterator[AwsLocalCloud]:
    cloud = AwsLocalCloud()
    cloud.start()
    yield cloud
    cloud.stop()


@pytest.fixture
def local(cloud: AwsLocalCloud) -> AwsProvider:
    return AwsProvider(Settings({"regions": ["us-east-1"]}, cloud.environment))


def test_a_parameter_that_is_cut_short_is_retried_and_does_not_count_as_a_missing_image(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    aws.answers["GetParameter"] = [(200, HALF)]
    with pytest.raises(errors.TransientError):
        provider.launch(request_of())
    assert aws.sent("RunInstances") == []
    assert len(provider.launch(request_of())) == 2


def test_quotas_that_are_cut_short_are_a_note_and_not_a_quota_of_zero(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["ListServiceQuotas"] = (200, '{"Quotas": [{"QuotaCo')
    found = provider.quotas("us-east-1")
    assert found.quotas == ()
    assert "cut short" in found.notes[0]


def test_a_price_list_that_is_cut_short_confirms_no_price(
    aws: ScriptedAws, provider: AwsProvider, offer: Offer
) -> None:
    product = {"terms": {"OnDemand": {"a": {"priceDimensions": {"b": {"unit": "Hrs", "pricePerUnit": {"USD": "60"}}}}}}}
    complete = json.dumps({"PriceList": [json.dumps(product)]})
    aws.answers["GetProducts"] = [(200, complete[: len(complete) // 2]), (200, complete)]
    assert provider.quotes([offer]) == {}
    assert provider.quotes([offer])[offer].hourly_cost == 60


@pytest.mark.parametrize("breaking", ["truncate", "reset", "lose_answer"])
def test_a_launch_whose_answer_is_cut_short_is_the_same_launch_when_repeated(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Request, breaking: str
) -> None:
    getattr(cloud.faults, breaking)("RunInstances")
    with pytest.raises(errors.TransientError):
        local.launch(request_of())
    assert {node.id for node in local.launch(request_of())} == set(cloud.running_ids())
    assert len(cloud.running_ids()) == 2


def test_the_wait_that_a_proxy_asks_for_is_passed_on(cloud: AwsLocalCloud, local: AwsProvider) -> None:
    cloud.faults.fail("DescribeInstances", "", status=429, retry_after=timedelta(seconds=17))
    with pytest.raises(errors.ThrottledError) as caught:
        local.nodes(HERE)
    assert caught.value.retry_after == 17


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.TransientError),
        (401, errors.AuthError),
        (403, errors.AccessDeniedError),
        (404, errors.TransientError),
        (500, errors.TransientError),
    ],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_an_answer_without_a_code_proves_nothing(status: int, kind: type[Exception], *, is_named: bool) -> None:
    # The SDK's parser of JSON answers uses the status if it finds no code.
    answer: Any = {
        "Error": {"Code": str(status) if is_named else "", "Message": "<html>"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    error = translate(sdk.ClientError(answer, "GetParameter"), "GetParameter", Place("aws", "us-east-1"))
    assert type(error) is kind
