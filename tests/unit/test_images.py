"""`image` for single clouds and regions, and `reservations_only`."""

import pytest

from multicompute import Cluster, ClusterSpec
from multicompute.errors import NoOfferError, SpecError
from multicompute.provider import Reservation
from multicompute.testing import FakeCloud, fake_cloud

MANY: dict[str, str | dict[str, str]] = {
    "aws": {"us-east-1": "ami-1", "eu-*": "ami-2"},
    "gcp": "projects/p/global/images/i",
    "us-west-2": "ami-3",
}


@pytest.mark.parametrize(
    ("provider", "region", "image"),
    [
        ("aws", "us-east-1", "ami-1"),
        ("aws", "eu-west-1", "ami-2"),
        ("aws", "us-west-2", "ami-3"),
        ("aws", "ap-south-1", None),
        ("gcp", "us-central1", "projects/p/global/images/i"),
        ("azure", "eastus", None),
    ],
)
def test_the_most_exact_place_names_the_image(provider: str, region: str, image: str | None) -> None:
    spec = ClusterSpec(gpus=8, type="h100", image=MANY)
    assert spec.image_in(provider, region) == image
    assert ClusterSpec.of(spec.to_dict()) == spec
    assert ClusterSpec.model_validate_json(spec.model_dump_json()) == spec


def test_one_image_is_for_every_place() -> None:
    spec = ClusterSpec(gpus=8, type="h100", image="ami-1")
    assert (spec.image, spec.image_in("aws", "us-east-1")) == ("ami-1", "ami-1")
    assert ClusterSpec(gpus=8, type="h100").image_in("aws", "us-east-1") is None


@pytest.mark.parametrize(
    ("given", "image"),
    [
        (["ami-1"], "ami-1"),
        (["us-east-1=ami-1"], {"us-east-1": "ami-1"}),
        (["aws=ami-1", "gcp=i"], {"aws": "ami-1", "gcp": "i"}),
    ],
)
def test_options_of_the_command_line_are_an_image_or_pairs(given: list[str], image: object) -> None:
    assert ClusterSpec.of({"gpus": 8, "type": "h100", "image": given}).image == image


@pytest.mark.parametrize("given", [["ami-1", "ami-2"], ["ami-1", "aws=ami-2"], [], {}, {"aws": 7}, {"": "ami-1"}, 7])
def test_what_is_no_image_is_refused(given: object) -> None:
    with pytest.raises(SpecError, match="image"):
        ClusterSpec.of({"gpus": 8, "type": "h100", "image": given})


@pytest.mark.parametrize(
    ("place", "near"),
    [("us-esat-1", "us-east-1"), ("gpc", "gcp"), ("aws:us-wset-2", "us-west-2"), ("asw:us-east-1", "aws:")],
)
def test_an_unknown_place_is_refused_with_the_nearest_one(place: str, near: str) -> None:
    with fake_cloud("aws", "gcp"), pytest.raises(SpecError, match="image=") as caught:
        Cluster.plan(gpus=8, type="h100", image={place: "ami-1"})
    assert near in str(caught.value)


def test_places_without_an_image_are_left_out_with_the_reason() -> None:
    with fake_cloud("aws", "gcp") as cloud:
        plan = Cluster.plan(gpus=8, type="h100", image={"us-east-1": "ami-1"})
        assert {(each.provider, each.region) for each in plan.candidates} == {("aws", "us-east-1")}
        assert plan.rejected["no image for the region"].count > 0
        cluster = Cluster.request(gpus=8, type="h100", image={"us-east-1": "ami-1", "gcp": "i"}, clouds=["aws"])
        assert cluster.region == "us-east-1"
        cluster.terminate()
        assert cloud.alive() == []


def test_an_image_that_one_region_lacks_costs_that_region() -> None:
    with fake_cloud("aws") as cloud:
        cloud.aws.faults.fail("launch", "no-image", where={"region": "us-east-1"}, times=None)
        cluster = Cluster.request(gpus=8, type="h100", regions=["us-east-1", "us-west-2"], image="ami-1")
        assert cluster.region == "us-west-2"
        assert cloud.aws.faults.count("launch") == 2
        cluster.terminate()


def held(cloud: FakeCloud, nodes: int) -> Reservation:
    best = Cluster.plan(gpus=8, type="h100", clouds=["aws"]).best
    assert best is not None
    offer = best.parts[0].offer
    name = cloud.aws.add_reservation(offer, nodes)
    return cloud.aws.quotas(offer.region, reservations=[name]).reservations[0]


def test_reservations_only_buys_nothing_else() -> None:
    with fake_cloud("aws") as cloud:
        name = held(cloud, 1).id
        with pytest.raises(NoOfferError) as caught:
            Cluster.request(gpus=16, type="h100", clouds=["aws"], reservations=[name], reservations_only=True)
        assert caught.value.plan is not None
        assert "reservations_only buys no others" in " ".join(caught.value.plan.notes)
        assert caught.value.plan.rejected["not reserved"].count > 0
        cluster = Cluster.request(gpus=8, type="h100", clouds=["aws"], reservations=[name], reservations_only=True)
        assert len(cluster.nodes) == 1
        cluster.terminate()
        assert cloud.alive() == []


def test_a_plan_that_does_not_know_the_reservations_says_that_only_they_are_used() -> None:
    with fake_cloud("aws"):
        plan = Cluster.plan(gpus=8, type="h100", reservations=["cr-1"], reservations_only=True)
        assert any("reservations_only" in note for note in plan.notes)


def test_reservations_only_needs_reservations() -> None:
    with pytest.raises(SpecError, match="reservations_only"):
        ClusterSpec(gpus=8, type="h100", reservations_only=True)
