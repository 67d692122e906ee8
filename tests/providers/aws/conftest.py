"""Fixtures of the tests of the AWS adapter."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date

import pytest

from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.provider import LaunchRequest, Settings
from multicompute_aws._provider import AwsProvider
from tests.providers.aws.scripted_aws import ScriptedAws

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
    """Return a function that makes a request for one part of two nodes; every field may be changed."""

    def make(**changes: object) -> LaunchRequest:
        tags = {
            "multicompute-cluster": "train",
            "multicompute-id": "id-1",
            "multicompute-attempt": "tok",
            "multicompute-owner": "me",
            "multicompute-expires-at": "never",
            "team": "nlp",
        }
        plain = LaunchRequest("tok", "id-1", "train", "me", (Part(offer, 2),), tags)
        return replace(plain, **changes)  # type: ignore[arg-type]

    return make
