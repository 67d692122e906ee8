"""Fixtures of the tests of the AWS adapter."""

from collections.abc import Callable, Iterator
from datetime import date

import pytest

from multicompute.offer import InstanceType, Offer, Quote
from multicompute.provider import LaunchRequest, Settings
from multicompute_aws._provider import AwsProvider
from tests.providers.aws.scripted_aws import ScriptedAws
from tests.providers.launch_requests import request_maker

P5 = InstanceType("aws", "p5.48xlarge", "h100", 8, 80, 192, 2048, fabric="efa", network_cards=32)


@pytest.fixture
def aws() -> Iterator[ScriptedAws]:
    with ScriptedAws() as server:
        yield server


@pytest.fixture
def provider(aws: ScriptedAws) -> AwsProvider:
    return AwsProvider(Settings(environment=aws.environment))


@pytest.fixture
def offer() -> Offer:
    return Offer(P5, "us-east-1", "us-east-1a", "on_demand", Quote(55.04, date(2026, 7, 20), "list"))


@pytest.fixture
def request_of(offer: Offer) -> Callable[..., LaunchRequest]:
    """Return a function that makes a request for one part of two nodes; its arguments replace fields."""
    return request_maker(offer)
