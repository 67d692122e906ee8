"""The way to log in to instances, and their host keys."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from multicompute.node import Node, NodeState
from multicompute.provider import TAG_ID, Selector, Settings
from multicompute.remote.target import proxy_command
from multicompute.testing.provider_harness import launch_request
from multicompute_aws._access import access, keys_in
from multicompute_aws._provider import AwsProvider
from multicompute_aws._settings import AwsSettings
from multicompute_aws.local import AwsLocalCloud
from tests.aws_client import aws_client
from tests.security.test_aws_policy import KEY, OFFER

PRIVATE = Node("i-1", 0, "aws", "p5.48xlarge", "us-west-2", "us-west-2a", NodeState.RUNNING, "10.0.0.4", None)
CONSOLE = """\
[   21.4] cloud-init[1201]: -----BEGIN SSH HOST KEY FINGERPRINTS-----
[   21.4] cloud-init[1201]: 256 SHA256:abc root@ip-10-0-0-4 (ED25519)
[   21.4] cloud-init[1201]: -----END SSH HOST KEY FINGERPRINTS-----
-----BEGIN SSH HOST KEY KEYS-----
ecdsa-sha2-nistp256 AAAAecdsa root@ip-10-0-0-4
ssh-ed25519 AAAAedkey root@ip-10-0-0-4
-----END SSH HOST KEY KEYS-----
-----BEGIN SSH HOST KEY KEYS-----
ssh-ed25519 AAAAlater root@attacker
-----END SSH HOST KEY KEYS-----
"""


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[AwsLocalCloud]:
    cloud = AwsLocalCloud()
    cloud.start()
    yield cloud
    cloud.stop()


def tools(folder: Path, *names: str) -> dict[str, str]:
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


def test_a_private_instance_is_reached_through_session_manager(tmp_path: Path) -> None:
    environment = tools(tmp_path, "aws", "session-manager-plugin")
    found = access(AwsSettings.of(Settings({"profile": "train ing"}, environment)), PRIVATE)
    values = {"instance_id": "i-1", "region": "us-west-2", "zone": "us-west-2a"}
    assert proxy_command(found.proxy_command, host="10.0.0.4", port=22, user=found.user, values=values) == (
        *("aws", "ssm", "start-session", "--target", "i-1", "--document-name", "AWS-StartSSHSession"),
        *("--parameters", "portNumber=22", "--region", "us-west-2", "--profile", "train ing"),
    )


def test_without_the_plugin_its_page_is_named(tmp_path: Path) -> None:
    found = access(AwsSettings.of(Settings({}, tools(tmp_path, "aws"))), PRIVATE)
    assert "session-manager-plugin" in found.remedy and "https://docs.aws.amazon.com/" in found.remedy


def test_the_first_host_keys_on_a_console_are_read() -> None:
    assert list(keys_in(CONSOLE)) == ["ecdsa-sha2-nistp256 AAAAecdsa", "ssh-ed25519 AAAAedkey"]
    assert list(keys_in("no keys here: ssh-ed25519 AAAAother")) == []


def test_a_port_is_opened_in_the_clusters_own_group_once(cloud: AwsLocalCloud) -> None:
    provider = AwsProvider(Settings({}, cloud.environment))
    request = replace(launch_request(OFFER), ssh_public_key=KEY, opens_later=True)
    provider.launch(request)
    boto = aws_client("ec2", cloud.endpoint_url)

    def open_ports() -> list[int]:
        filters = [{"Name": "group-name", "Values": [f"multicompute-{request.cluster_id}"]}]
        (group,) = boto.describe_security_groups(Filters=filters)["SecurityGroups"]
        return [rule["FromPort"] for rule in group["IpPermissions"] if rule["IpProtocol"] == "tcp"]

    assert open_ports() == []
    for _ in range(2):
        provider.open_ssh("us-east-1", {TAG_ID: request.cluster_id})
    assert open_ports() == [22]
    while not provider.terminate(Selector(region="us-east-1", cluster_id=request.cluster_id)).is_done:
        pass


def test_the_users_own_groups_are_never_opened(cloud: AwsLocalCloud) -> None:
    provider = AwsProvider(Settings({"security_groups": ["sg-1"]}, cloud.environment))
    provider.open_ssh("us-east-1", {TAG_ID: "id-first"})
    assert cloud.faults.calls == []
