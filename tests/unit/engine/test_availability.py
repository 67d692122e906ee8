"""The places that an account can use: asked once a day, used by the plan, and the reason why other places are left out."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from multicompute import Cluster, errors
from multicompute.provider import Availability
from multicompute.testing import FakeCloud, fake_cloud

H100: dict[str, Any] = {"gpus": 64, "type": "h100", "regions": ["us-east-1", "us-east-2"]}
REFUSED = Availability("us-east-1", refused="not enabled in this account")
OTHER_ZONES = Availability(
    "us-east-1",
    zones={"use1-az1": "us-east-1c", "use1-az6": "us-east-1f"},
    offered={"p5.48xlarge": ("us-east-1c", "us-east-1f"), "p5.4xlarge": ()},
)


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


def asked(cloud: FakeCloud) -> list[object]:
    return [call.fields.get("region") for call in cloud.aws.faults.calls if call.operation == "availability"]


def tried(cluster: Cluster) -> list[object]:
    return [event.data["zone"] for event in cluster.events() if event.kind == "attempt"]


def test_a_region_that_is_not_enabled_is_left_out_without_a_launch(cloud: FakeCloud) -> None:
    cloud.aws.set_availability(REFUSED)
    with Cluster.request(**H100) as cluster:
        assert cluster.region == "us-east-2"
        assert all(str(zone).startswith("us-east-2") for zone in tried(cluster))
    plan = Cluster.plan(**H100)
    assert {candidate.region for candidate in plan.candidates} == {"us-east-2"}
    rejection = plan.rejected["region not available to the account"]
    assert "not enabled in this account" in rejection.examples[0]


def test_the_zones_of_the_account_take_the_place_of_those_in_the_tables(cloud: FakeCloud) -> None:
    cloud.aws.set_availability(OTHER_ZONES)
    cloud.set_capacity("p5.48xlarge", "us-east-1c", 0)
    with Cluster.request(**H100) as cluster:
        assert tried(cluster) == ["us-east-1c", "us-east-1f"]
        assert cluster.zone == "us-east-1f"


def test_a_type_that_no_zone_sells_to_the_account_is_rejected_with_the_reason(cloud: FakeCloud) -> None:
    cloud.aws.set_availability(Availability("us-east-1", offered={"p4d.24xlarge": ("us-east-1a",)}))
    request: dict[str, Any] = {"nodes": 1, "type": "p5.48xlarge", "regions": ["us-east-1"]}
    with pytest.raises(errors.NoOfferError) as caught:
        Cluster.request(**request)
    assert caught.value.plan is not None
    count = caught.value.plan.rejected["not sold to the account there"].count
    assert f"meets the spec: not sold to the account there, {count} offers, such as aws us-east-1" in str(caught.value)
    assert [call for call in cloud.aws.faults.calls if call.operation == "launch"] == []
    assert cloud.alive() == []


@pytest.mark.parametrize("places", [{}, {"clouds": ["aws"]}, {"exclude": ["us-east-2"]}])
def test_an_error_names_the_refusal_of_the_region_that_was_asked_for(cloud: FakeCloud, places: dict[str, Any]) -> None:
    cloud.aws.set_availability(REFUSED)
    with pytest.raises(errors.NoOfferError) as caught:
        Cluster.request(nodes=2, type="p5.48xlarge", regions=["us-east-1"], **places)
    message = str(caught.value)
    assert "meets the spec: region not available to the account, " in message
    assert "not enabled in this account" in message
    assert str(caught.value.hint).startswith("regions=['us-")


def test_the_answer_is_kept_for_a_day(cloud: FakeCloud) -> None:
    cloud.aws.set_availability(OTHER_ZONES)
    for _ in range(2):
        Cluster.request(**H100).terminate()
    assert asked(cloud) == ["us-east-1"]
    cloud.advance(timedelta(days=1, minutes=1))
    Cluster.request(**H100).terminate()
    assert asked(cloud) == ["us-east-1", "us-east-1"]


def test_a_region_that_was_refused_is_asked_about_again_after_an_hour(cloud: FakeCloud) -> None:
    cloud.aws.set_availability(REFUSED)
    Cluster.request(**H100).terminate()
    cloud.aws.set_availability(Availability("us-east-1", offered={"p5.48xlarge": ("us-east-1b",)}))
    cloud.advance(timedelta(minutes=50))
    assert Cluster.plan(**H100).candidates[0].region == "us-east-2"
    cloud.advance(timedelta(minutes=11))
    with Cluster.request(**H100) as cluster:
        assert cluster.zone == "us-east-1b"


def test_a_plan_says_that_the_account_was_not_asked_and_asks_no_cloud(cloud: FakeCloud) -> None:
    plan = Cluster.plan(**H100)
    assert any("what your account can use in aws us-east-1 was not asked today" in note for note in plan.notes)
    assert cloud.aws.faults.calls == []
    Cluster.request(**H100).terminate()
    cloud.aws.set_availability(OTHER_ZONES)


def test_a_region_that_can_not_be_read_is_tried_as_the_tables_have_it(cloud: FakeCloud) -> None:
    cloud.aws.faults.fail("availability", "denied", times=None)
    with Cluster.request(**H100) as cluster:
        assert cluster.zone == "us-east-1a"
        notes = [event.message for event in cluster.events() if event.kind == "note"]
        assert any("aws us-east-1: what the account can use can't be read" in note for note in notes)


def test_a_zone_id_means_the_zone_of_that_id_in_the_account(cloud: FakeCloud) -> None:
    with pytest.raises(errors.SpecError, match="is a zone id"):
        Cluster.plan(gpus=64, type="h100", regions=["use1-az6"])
    cloud.aws.set_availability(
        Availability(
            "us-east-1", zones={"use1-az6": "us-east-1b"}, offered={"p5.48xlarge": ("us-east-1a", "us-east-1b")}
        )
    )
    with Cluster.request(gpus=64, type="h100", regions=["use1-az6"]) as cluster:
        assert cluster.zone == "us-east-1b"


def test_an_answer_for_another_account_is_not_used(cloud: FakeCloud) -> None:
    cloud.aws.set_availability(REFUSED)
    Cluster.request(**H100).terminate()
    cloud.aws.account = type(cloud.aws.account)(("other",), "aws account other")
    cloud.aws.set_availability(Availability("us-east-1", offered={"p5.48xlarge": ("us-east-1d",)}))
    with Cluster.request(**{**H100, "regions": ["us-east-1"], "interconnect": "any"}) as cluster:
        assert cluster.zone == "us-east-1d"
