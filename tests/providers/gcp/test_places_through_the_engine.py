"""Requests reach the place that can serve them, whatever one zone, reservation or network of Google Cloud answers."""

from collections.abc import Iterator
from typing import Any

import pytest

from multicompute import Cluster, errors
from multicompute.testing import LocalClouds, local_clouds
from multicompute_gcp.local import GcpLocalCloud
from multicompute_gcp.local.records import ReservationTerms

HERE = ["gcp:us-central1"]
DEFAULT_NETWORK = "The resource 'projects/p/global/networks/default' was not found"


@pytest.fixture(name="clouds")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("gcp", "aws") as clouds:
        yield clouds


def google(clouds: LocalClouds) -> GcpLocalCloud:
    assert isinstance(clouds.gcp, GcpLocalCloud)
    return clouds.gcp


@pytest.mark.parametrize("code", ["UNSUPPORTED_OPERATION", "RESOURCE_NOT_FOUND"])
def test_a_spot_request_goes_on_in_another_zone_if_its_instances_are_preempted_while_they_are_created(
    clouds: LocalClouds, code: str
) -> None:
    google(clouds).lost_while_created = [code]
    with Cluster.request(gpus=2, type="g2-standard-4", spot=True, regions=HERE) as cluster:
        zones = [call.fields["zone"] for call in clouds.gcp.faults.calls if call.operation == "instances.bulkInsert"]
        assert len(set(zones)) == 2
        assert {node.zone for node in cluster.nodes} == {zones[-1]}
    assert clouds.alive() == []


def test_a_project_without_a_default_network_does_not_end_the_search_of_other_clouds(clouds: LocalClouds) -> None:
    for method in ("firewalls.insert", "instances.bulkInsert"):
        clouds.gcp.faults.fail(method, "notFound", status=404, message=DEFAULT_NETWORK, times=None)
    with Cluster.request(
        gpus=1, type=["g2-standard-4", "g6.xlarge"], order="given", regions=[*HERE, "aws:us-east-1"]
    ) as cluster:
        assert cluster.nodes[0].provider == "aws"
    assert clouds.alive() == []


def test_a_request_uses_a_dense_reservation_that_another_project_shares(clouds: LocalClouds) -> None:
    terms = ReservationTerms(owner="owner", is_dense=True)
    path = google(clouds).add_reservation("a3-highgpu-8g", "us-central1-a", 2, name="shared", terms=terms)
    with Cluster.request(gpus=16, type="h100", reservations=[path], reservations_only=True, clouds=["gcp"]) as cluster:
        assert {(node.instance_type, node.zone) for node in cluster.nodes} == {("a3-highgpu-8g", "us-central1-a")}
    assert clouds.alive() == []


def test_a_reservation_that_can_not_be_read_is_tried_where_it_may_be(clouds: LocalClouds) -> None:
    terms = ReservationTerms(owner="owner", is_readable=False)
    google(clouds).add_reservation("a3-highgpu-8g", "us-central1-a", 2, name="shared", terms=terms)
    path = "projects/owner/reservations/shared"
    here: dict[str, Any] = {"reservations": [path], "reservations_only": True, "regions": ["gcp:us-central1"]}
    with Cluster.request(gpus=16, type="a3-highgpu-8g", **here) as cluster:
        assert {(node.instance_type, node.zone) for node in cluster.nodes} == {("a3-highgpu-8g", "us-central1-a")}
    with pytest.raises(errors.SpecError, match="can't be read with these credentials"):
        Cluster.request(gpus=16, **here)
    assert clouds.alive() == []


def test_a_request_uses_a_reservation_of_tpu_chips(clouds: LocalClouds) -> None:
    name = google(clouds).add_reservation("v6e-8", "us-east5-a", 1)
    with Cluster.request(gpus=8, type="v6e", reservations=[name], reservations_only=True, clouds=["gcp"]) as cluster:
        assert {node.zone for node in cluster.nodes} == {"us-east5-a"}
        (queued,) = [call for call in clouds.gcp.faults.calls if call.operation == "tpu.queuedResources.create"]
        assert str(queued.fields["instance_type"]).startswith("v6e-")
    assert clouds.alive() == []


def test_a_zone_that_does_not_sell_tpus_to_the_project_costs_that_zone_only(clouds: LocalClouds) -> None:
    google(clouds).unauthorized_tpu_zones = {"us-east5-a"}
    with Cluster.request(gpus=8, type="v6e-8", regions=["gcp:us-east5"]) as cluster:
        assert cluster.nodes[0].zone != "us-east5-a"
    assert clouds.alive() == []


def test_a_reservation_without_the_properties_of_the_machines_is_reported_as_such(clouds: LocalClouds) -> None:
    name = google(clouds).add_reservation(
        "a3-highgpu-8g", "us-central1-a", 1, terms=ReservationTerms(is_specific=False)
    )
    with pytest.raises(errors.MulticomputeError, match="can't be named"):
        Cluster.request(gpus=8, type="h100", reservations=[name], reservations_only=True, clouds=["gcp"])
    assert clouds.alive() == []
