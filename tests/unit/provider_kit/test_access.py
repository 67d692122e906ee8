"""The way to log in to a node, by the settings and by what is installed."""

from typing import Any

import pytest

from multicompute.node import Node, NodeState
from multicompute.provider_kit.access import Tunnel, access_to, preferred_host_key
from multicompute.provider_kit.settings import SshSettings

TUNNEL = Tunnel("The Tunnel", ("tool", "plugin"), "tool open {instance_id} %p", "https://vendor.example/install")


def node(public: str | None) -> Node:
    return Node("i-1", 0, "aws", "p5.48xlarge", "us-east-1", "us-east-1a", NodeState.RUNNING, "10.0.0.4", public)


def access(public: str | None = None, *, installed: tuple[str, ...] = TUNNEL.programs, **settings: Any) -> Any:
    def which(name: str, path: str | None = None) -> str | None:
        assert path == "/bin"
        return f"/bin/{name}" if name in installed else None

    return access_to(
        node(public), SshSettings(**settings), user="ubuntu", tunnel=TUNNEL, environment={"PATH": "/bin"}, which=which
    )


def test_a_node_with_a_public_address_is_reached_there_as_the_user_of_its_image() -> None:
    found = access("198.51.100.7")
    assert (found.address, found.port, found.user) == ("198.51.100.7", None, "ubuntu")
    assert (found.jump, found.proxy_command, found.remedy, found.is_configured) == ("", "", "", False)


def test_user_and_port_can_be_set() -> None:
    found = access("198.51.100.7", ssh_user="ec2-user", ssh_port="2222")
    assert (found.user, found.port) == ("ec2-user", 2222)


def test_a_node_without_a_public_address_is_reached_through_the_vendors_tunnel() -> None:
    assert access().proxy_command == "tool open {instance_id} %p"


def test_what_is_missing_for_the_tunnel_is_named_with_the_page_that_describes_how_to_install_it() -> None:
    found = access(installed=("tool",))
    assert found.proxy_command == ""
    assert "install `plugin` for The Tunnel (https://vendor.example/install)" in found.remedy
    assert "`tool`" not in found.remedy


@pytest.mark.parametrize("public", [None, "198.51.100.7"])
def test_behind_a_jump_host_a_node_is_reached_at_its_private_address(public: str | None) -> None:
    found = access(public, ssh_proxy_jump="me@bastion:2200")
    assert (found.address, found.jump, found.proxy_command) == ("10.0.0.4", "me@bastion:2200", "")
    assert found.is_configured


def test_through_the_head_the_head_keeps_its_public_address() -> None:
    found = access("198.51.100.7", ssh_proxy_jump="head")
    assert (found.address, found.internal, found.jump) == ("198.51.100.7", "10.0.0.4", "head")


def test_without_a_jump_host_by_setting_the_private_address_is_used_directly() -> None:
    found = access(ssh_proxy_jump="none")
    assert (found.address, found.jump, found.proxy_command, found.remedy) == ("10.0.0.4", "", "", "")


def test_a_proxy_command_of_the_settings_wins() -> None:
    found = access("198.51.100.7", ssh_proxy_command="nc %h %p", ssh_proxy_jump="bastion")
    assert (found.proxy_command, found.jump, found.is_configured) == ("nc %h %p", "", True)


@pytest.mark.parametrize(
    ("lines", "pinned"),
    [
        (["ssh-rsa AAAAr", "ssh-ed25519 AAAAe", "ecdsa-sha2-nistp256 AAAAc"], "ssh-ed25519 AAAAe"),
        (["ssh-rsa AAAAr", "ecdsa-sha2-nistp256 AAAAc"], "ecdsa-sha2-nistp256 AAAAc"),
        (["ssh-ed25519 no key"], None),
        (["ssh-dss AAAAd"], None),
        ([], None),
    ],
)
def test_one_host_key_of_several_is_pinned(lines: list[str], pinned: str | None) -> None:
    assert preferred_host_key(lines) == pinned
