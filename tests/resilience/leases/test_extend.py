"""`extend`, from the call to the node: the tag in the local cloud reaches the script that the node was booted with."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

from multicompute import Cluster, ClusterState
from multicompute.config import apply_environment
from multicompute.node import Node
from multicompute.testing import LocalClouds, local_clouds
from multicompute_aws.local import AwsLocalCloud
from multicompute_gcp.local import GcpLocalCloud
from tests.resilience.leases.lease_machine import Machine
from tests.resilience.leases.metadata_services import (
    IDENTITY,
    TAG,
    Ec2,
    Ec2WithoutTags,
    Gce,
    Imds,
    ImdsOfUniform,
    serving,
)

SERVICES = {"aws": Ec2, "gcp": Gce, "tpu": Gce, "azure": Imds, "azure-fabric": ImdsOfUniform}
TYPES = {"aws": "h100", "gcp": "h100", "tpu": "v5p-16", "azure": "h100", "azure-fabric": "h100"}
CLOUDS = {"tpu": "gcp", "azure-fabric": "azure"}
_direct = build_opener(ProxyHandler({}))


def get_json(url: str) -> dict[str, Any]:
    with _direct.open(url, timeout=10) as answer:
        return dict(json.load(answer))


def tag_in_cloud(clouds: LocalClouds, node: Node) -> str | None:
    """Return the tag that the node's metadata service shows: EC2 and Azure show tags there, Google the node's metadata."""
    if node.provider != "gcp":
        return next((item.tags.get(TAG) for item in clouds.alive() if item.id == node.id), None)
    gcp = clouds.of(GcpLocalCloud)
    if "/" in node.id:
        slice_name = node.id.split("/")[0]
        path = f"v2/projects/{gcp.project}/locations/{node.zone}/nodes/{slice_name}"
        metadata: dict[str, str] = get_json(f"{gcp.endpoint_url}/{path}")["metadata"]
        return metadata.get(TAG)
    found = get_json(f"{gcp.endpoint_url}/compute/v1/projects/{gcp.project}/zones/{node.zone}/instances/{node.id}")
    items = found["metadata"]["items"]
    return next((item["value"] for item in items if item["key"] == TAG), None)


def boot_script_of(clouds: LocalClouds, node: Node) -> str:
    """Return the boot script that the cloud received for a node."""
    return clouds[node.provider].boot_script(node.id)


@contextmanager
def booted(clouds: LocalClouds, node: Node, kind: str, folder: Path) -> Iterator[Machine]:
    """Boot the node with its boot script; its metadata service shows the tag in the local cloud."""
    with serving(SERVICES[kind], int(datetime.now(UTC).timestamp())) as service:
        service.tag = lambda: tag_in_cloud(clouds, node)
        # An instance of a Uniform scale set has its vmId in its id.
        service.vm = node.id.partition("@")[0]
        machine = Machine(folder, service)
        machine.boot(boot_script_of(clouds, node))
        yield machine
        assert service.refused == []


@contextmanager
def cluster_on(kind: str) -> Iterator[tuple[LocalClouds, Cluster]]:
    cloud = CLOUDS.get(kind, kind)
    settings = {
        "MULTICOMPUTE_AWS__REGIONS": "us-east-1",
        "MULTICOMPUTE_GCP__EXTENSION_ROOM": "7d",
        "MULTICOMPUTE_AZURE__IDENTITY": IDENTITY,
    }
    with local_clouds(cloud) as clouds, apply_environment(settings):
        gpus = None if kind == "tpu" else 16
        interconnect: Any = {"azure": "any", "azure-fabric": "rdma"}.get(kind, "auto")
        cluster = Cluster.request(
            gpus=gpus, type=TYPES[kind], name="lease", ttl="1h", clouds=[cloud], interconnect=interconnect
        )
        yield clouds, cluster
        cluster.terminate()
        assert clouds.alive() == []


def epoch(instant: datetime | None) -> int:
    assert instant is not None
    return int(instant.timestamp())


@pytest.mark.parametrize("kind", SERVICES)
def test_an_extension_reaches_the_ledger_the_tags_and_the_script_on_the_node(kind: str, tmp_path: Path) -> None:
    with cluster_on(kind) as (clouds, cluster):
        node = cluster.nodes[0]
        old = epoch(cluster.expires_at)
        with booted(clouds, node, kind, tmp_path / "machine") as machine:
            machine.tick_at(old - 60)
            assert machine.ends == 0
            new = epoch(cluster.extend("2h"))
            assert new == old + 7200
            assert epoch(Cluster.get("lease").expires_at) == new
            assert {item.tags[TAG] for item in clouds.alive() if item.id in {node.id for node in cluster.nodes}} == {
                str(new)
            }
            for instant in (old, old + 60, new - 1):
                machine.tick_at(instant)
                assert machine.ends == 0
            assert machine.remembered == str(new)
            if kind in ("aws", "gcp"):
                machine.tick_at(new)
                assert machine.power_offs == 1


def test_an_extension_reaches_nodes_on_aws_whose_tags_can_not_be_in_their_metadata(tmp_path: Path) -> None:
    tags = {"Cost Center": "7", "kubernetes.io/cluster/x": "owned"}
    with (
        local_clouds("aws") as clouds,
        apply_environment({"MULTICOMPUTE_AWS__REGIONS": "us-east-1"}),
        Cluster.request(gpus=16, type="h100", name="lease", ttl="1h", clouds=["aws"], tags=tags) as cluster,
        serving(Ec2WithoutTags, int(datetime.now(UTC).timestamp())) as service,
    ):
        aws, node = clouds.of(AwsLocalCloud), cluster.nodes[0]
        assert isinstance(service, Ec2WithoutTags)
        service.groups = lambda: aws.group_names(node.id)
        machine = Machine(tmp_path / "machine", service)
        machine.boot(boot_script_of(clouds, node))
        ends = [epoch(cluster.expires_at)]
        machine.tick_at(ends[0] - 60)
        for by in ("2h", "1h"):
            ends.append(epoch(cluster.extend(by)))
            machine.tick_at(ends[-2])
            machine.tick_at(ends[-1] - 1)
            assert (machine.ends, machine.remembered) == (0, str(ends[-1]))
            tagged = [item.tags for item in clouds.alive() if item.id in {each.id for each in cluster.nodes}]
            assert all(found[TAG] == str(ends[-1]) and tags.items() <= found.items() for found in tagged)
            # That of the expiry before is deleted.
            assert [name.partition("-until-")[2] for name in aws.group_names(node.id) if "-until-" in name] == [
                str(ends[-1])
            ]
        machine.tick_at(ends[-1])
        assert machine.power_offs == 1
        assert service.refused == []
        cluster.terminate()
        assert clouds.alive() == []


@pytest.mark.parametrize("kind", ["tpu", "azure", "azure-fabric"])
def test_a_node_that_deletes_itself_is_gone_from_its_cloud(kind: str, tmp_path: Path) -> None:
    with cluster_on(kind) as (clouds, cluster):
        node = cluster.nodes[0]
        with booted(clouds, node, kind, tmp_path / "machine") as machine:
            if kind.startswith("azure"):
                machine.arm = clouds.azure.endpoint_url
            machine.tick_at(epoch(cluster.expires_at) - 1)
            assert node.id in clouds[node.provider].running_ids()
            assert machine.tick_at(epoch(cluster.expires_at)) == 0
            assert machine.power_offs == 0
            _until_gone(clouds, node)


def _until_gone(clouds: LocalClouds, node: Node) -> None:
    """Wait until the local cloud has deleted the node, which takes some time."""
    end = datetime.now(UTC) + timedelta(seconds=20)
    cluster = Cluster.get("lease")
    while cluster.refresh().state is ClusterState.READY and datetime.now(UTC) < end:
        time.sleep(0.1)
    assert node.id not in clouds[node.provider].running_ids()
    assert cluster.state in (ClusterState.DEGRADED, ClusterState.TERMINATED)
