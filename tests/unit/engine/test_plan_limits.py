"""What a cloud can't do is left out of the plan: larger fabrics than it can connect, and types without a default image."""

import pytest

from multicompute import Cluster, errors
from multicompute.testing import fake_cloud

AZURE = "Standard_ND96isr_H100_v5"


def test_a_gang_that_is_larger_than_the_fabric_of_a_cloud_is_rejected_where_it_needs_one() -> None:
    with fake_cloud("azure") as cloud:
        assert Cluster.plan(nodes=100, type=AZURE, interconnect="rdma").best is not None
        with pytest.raises(errors.NoOfferError) as caught:
            Cluster.plan(nodes=101, type=AZURE, interconnect="rdma")
        assert caught.value.plan is not None
        assert caught.value.plan.rejected["no fabric"].count > 0
        assert cloud.azure.faults.calls == []


def test_a_gang_without_a_fabric_may_have_any_size_and_is_launched_without_one() -> None:
    with fake_cloud("azure") as cloud, Cluster.request(nodes=101, type=AZURE, interconnect="any"):
        (launched,) = [call.fields for call in cloud.azure.faults.calls if call.operation == "launch"]
        assert launched["fabric"] is False


def test_another_cloud_with_a_fabric_of_that_size_is_planned() -> None:
    with fake_cloud("azure", "aws"):
        plan = Cluster.plan(nodes=101, type=[AZURE, "p5.48xlarge"])
        assert {candidate.provider for candidate in plan.candidates} == {"aws"}


def test_a_type_without_a_default_image_needs_one_in_the_request() -> None:
    gb200 = "Standard_ND128isr_NDR_GB200_v6"
    with fake_cloud("azure"):
        with pytest.raises(errors.NoOfferError) as caught:
            Cluster.plan(nodes=1, type=gb200)
        assert caught.value.plan is not None
        assert caught.value.plan.rejected["no default image; name one with image="].count > 0
        assert Cluster.plan(nodes=1, type=gb200, image="/images/ours").best is not None
