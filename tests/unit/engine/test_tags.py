"""A cloud that does not accept the tags of a request is left out of its plan, and the request goes on in the others."""

from collections.abc import Iterator

import pytest

from multicompute import Cluster, errors
from multicompute.engine.planning import plan_now
from multicompute.provider import TagLimits
from multicompute.spec import ClusterSpec
from multicompute.testing import FakeCloud, fake_cloud
from multicompute.testing.fake.session import FakePlugin

LONG = {"note": "x" * 200}


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws", "gcp") as cloud:
        for name, length in (("aws", 100), ("gcp", 300)):
            plugin = cloud.session.plugins[name]
            assert isinstance(plugin, FakePlugin)
            plugin.tag_limits = TagLimits(count=40, key_length=60, value_length=length, reserved_prefixes=("own:",))
        yield cloud


def test_a_plan_leaves_out_the_cloud_that_does_not_accept_the_tags_and_says_why(cloud: FakeCloud) -> None:
    plan = plan_now(ClusterSpec(gpus=8, type="h100", tags=LONG))
    assert {candidate.provider for candidate in plan.candidates} == {"gcp"}
    assert plan.rejected["tags"].count > 0
    assert "the value of 'note' is longer than the 100 characters allowed" in plan.rejected["tags"].examples[0]
    assert "aws is left out: tags: the value of 'note' is longer than the 100 characters allowed" in plan.notes


def test_a_request_goes_on_in_the_clouds_that_accept_its_tags(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=8, type="h100", tags=LONG) as cluster:
        assert cluster.provider == "gcp"
        assert all(item.tags["note"] == LONG["note"] for item in cloud.alive())
    assert cloud.alive() == []


def test_tags_that_no_cloud_accepts_are_refused_with_their_name_and_the_limit(cloud: FakeCloud) -> None:
    with pytest.raises(errors.SpecError, match="'note' is longer than the 100.*on aws; .*'note' .* 300 .* on gcp"):
        Cluster.request(gpus=8, type="h100", tags={"note": "x" * 400})
    with pytest.raises(errors.SpecError, match="'own:er' begins with a reserved prefix on gcp"):
        Cluster.request(gpus=8, type="h100", tags={"own:er": "me"}, clouds=["gcp"])


def test_a_type_that_only_the_left_out_cloud_sells_is_refused_with_the_tag_and_the_limit(cloud: FakeCloud) -> None:
    with pytest.raises(errors.NoOfferError, match="most common reason: tags.*'note' is longer than the 100 characters"):
        Cluster.request(nodes=1, gpus=8, type="p5.48xlarge", tags=LONG)
