"""The way to log in to instances and hosts of slices, and the host keys that instances publish."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from multicompute.node import Node, NodeState
from multicompute.provider import TAG_CLUSTER, TAG_ID, TAG_OWNER, LaunchRequest, Selector, Settings
from multicompute.remote.target import proxy_command
from multicompute.testing.local.machines import reported_host_key
from multicompute_gcp._access import access
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp._settings import GcpSettings
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.teardown import tear_down

KEY = "ssh-ed25519 AAAA me"
ZONE = ("us-central1", "us-central1-a", NodeState.RUNNING)
PRIVATE = Node("mc-1-0-0001", 0, "gcp", "a3-highgpu-8g", *ZONE, "10.128.0.4", None)
HOST = Node("mc-2-0/1", 1, "gcp", "v5p-16", *ZONE, "10.128.0.5", None)
OURS = {TAG_ID: "id-1", TAG_CLUSTER: "demo", TAG_OWNER: "me@host"}


@pytest.fixture(name="environment")
def _environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "gcloud").write_text("#!/bin/sh\n")
    (tmp_path / "gcloud").chmod(0o755)
    return {"PATH": str(tmp_path), "GOOGLE_CLOUD_PROJECT": "training"}


def test_a_private_instance_is_reached_through_iap(environment: dict[str, str]) -> None:
    found = access(GcpSettings.of(Settings({}, environment)), PRIVATE)
    values = {"instance_id": PRIVATE.id, "region": PRIVATE.region, "zone": PRIVATE.zone}
    assert found.user == "ubuntu"
    assert proxy_command(found.proxy_command, host="10.128.0.4", port=22, user="ubuntu", values=values) == (
        *("gcloud", "compute", "start-iap-tunnel", "mc-1-0-0001", "22", "--listen-on-stdin"),
        *("--zone", "us-central1-a", "--verbosity", "error", "--project", "training"),
    )


def test_a_private_host_of_a_slice_needs_a_jump_host(environment: dict[str, str]) -> None:
    found = access(GcpSettings.of(Settings({}, environment)), HOST)
    assert found.proxy_command == "" and "ssh_proxy_jump" in found.remedy
    assert access(GcpSettings.of(Settings({"ssh_proxy_jump": "bastion"}, environment)), HOST).jump == "bastion"


def test_without_gcloud_its_page_is_named() -> None:
    found = access(GcpSettings.of(Settings({"project": "training"}, {"PATH": "/nowhere"})), PRIVATE)
    assert "`gcloud`" in found.remedy and "https://cloud.google.com/sdk/docs/install" in found.remedy


def test_the_host_keys_that_guest_agents_publish_are_read(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Callable[..., LaunchRequest]
) -> None:
    nodes = provider.launch(request_of(ssh_public_key=KEY))
    found = provider.host_keys(nodes)
    assert found == {node.id: reported_host_key(node.id) for node in nodes} and found
    # Without a key, nothing is published.
    others = provider.launch(replace(request_of(), token="tok9"))
    assert provider.host_keys(others) == {}
    tear_down(provider, Selector(cluster_id="id-1"))


def test_the_port_of_a_key_that_opens_none_is_opened_later_and_closed_with_the_cluster(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Callable[..., LaunchRequest]
) -> None:
    request = request_of(ssh_public_key=KEY, opens_later=True)
    provider.launch(request)

    def rules() -> list[str]:
        return [item.id for item in provider.resources(Selector(cluster_id="id-1")) if item.kind == "firewall"]

    assert rules() == []
    for _ in range(2):
        provider.open_ssh("us-central1", OURS)
    assert len(rules()) == 1
    tear_down(provider, Selector(cluster_id="id-1"))
    assert cloud.alive() == []
