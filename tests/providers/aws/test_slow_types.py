"""Instance types that need more than others: a larger disk, more time."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from multicompute.offer import InstanceType, Offer
from multicompute.provider import LaunchRequest, attempt_timeout_of
from multicompute_aws._provider import AwsProvider
from tests.providers.aws.scripted_aws import ScriptedAws

Request = Callable[..., LaunchRequest]


@pytest.mark.parametrize(
    ("name", "accelerator", "size"),
    [
        ("trn1.2xlarge", "trainium1", "512"),
        ("trn2.48xlarge", "trainium2", "512"),
        ("inf2.xlarge", "inferentia2", "200"),
        ("p5.48xlarge", "h100", "200"),
    ],
)
def test_trainium_has_the_root_volume_that_neuron_asks_for(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer, name: str, accelerator: str, size: str
) -> None:
    """https://awsdocs-neuron.readthedocs-hosted.com/en/v2.33.0/setup/pytorch/update-dlami.html."""
    there = replace(offer, instance=InstanceType("aws", name, accelerator, 1))
    provider.launch(request_of(parts=(replace(request_of().parts[0], offer=there),)))
    assert aws.sent("RunInstances")[0].params["BlockDeviceMapping.1.Ebs.VolumeSize"] == size


@pytest.mark.parametrize(
    ("names", "minutes"),
    [
        (["p5.48xlarge"], 10),
        (["g4dn.metal"], 30),
        (["c7i.metal-24xl"], 30),
        (["trn2u.48xlarge"], 30),
        (["p5.48xlarge", "g5g.metal"], 30),
    ],
)
def test_bare_metal_and_ultraservers_have_more_time_until_they_run(
    provider: AwsProvider, names: list[str], minutes: int
) -> None:
    assert attempt_timeout_of(provider, names) == timedelta(minutes=minutes)
