"""Outages that make a gang spread over zones and regions."""

import pytest

from multicompute import Cluster, errors
from multicompute.testing import FakeCloud


def allow_one_node_per_zone(cloud: FakeCloud, *regions: str) -> None:
    """Let requests fail in these regions, so that the ledger remembers that no zone has two nodes of this type together."""
    for region in regions:
        cloud.set_capacity("p5.48xlarge", region, 1)
        with pytest.raises(errors.CapacityError):
            Cluster.request(gpus=16, type="p5.48xlarge", regions=[region])
        cloud.set_capacity("p5.48xlarge", region, None)
