"""The way to log in to machines, through Azure Bastion where they have no public address."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from multicompute.node import Node, NodeState
from multicompute.provider import TAG_ID, LaunchRequest, Selector, Settings
from multicompute.remote.target import proxy_command
from multicompute_azure._access import access
from multicompute_azure._bastion import command
from multicompute_azure._provider import AzureProvider
from multicompute_azure._settings import AzureSettings
from multicompute_azure.local import AzureLocalCloud

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me"
GROUP = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/hub"
BASTION = f"{GROUP}/providers/Microsoft.Network/bastionHosts/bastion"
MACHINE = f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/mc-1-0/virtualMachines/0"
SETTINGS = {"subscription_id": "11111111-1111-1111-1111-111111111111"}
STATE = ("eastus", "eastus-1", NodeState.RUNNING)
PRIVATE = Node(f"{MACHINE}@22222222", 0, "azure", "Standard_ND96isr_H100_v5", *STATE, "10.0.0.4", None)
# As `az network bastion tunnel` does: listens on the port of --port, and leads to one place.
AZ = """\
#!{python}
import os, socket, sys, threading
arguments = dict(zip(sys.argv, sys.argv[1:]))
assert arguments["--target-resource-id"] == "{machine}" and arguments["--resource-port"] == "22", sys.argv
with socket.create_server(("127.0.0.1", int(arguments["--port"]))) as server:
    print("Opening tunnel on port", arguments["--port"], flush=True)
    client, _ = server.accept()
    client.sendall(b"SSH-2.0-behind\\r\\n")
    while data := client.recv(65536):
        client.sendall(data.upper())
"""


@pytest.fixture(name="tools")
def _tools(tmp_path: Path) -> str:
    az = tmp_path / "bin" / "az"
    az.parent.mkdir()
    az.write_text(AZ.format(python=sys.executable, machine=MACHINE))
    az.chmod(0o755)
    return str(az.parent)


def way(tools: str, **values: str) -> tuple[str, tuple[str, ...]]:
    found = access(AzureSettings.of(Settings(SETTINGS | values, {"PATH": tools})), PRIVATE)
    words = proxy_command(found.proxy_command, host="10.0.0.4", port=22, user="ubuntu") if found.proxy_command else ()
    return found.remedy, words


def test_the_tunnel_of_a_bastion_host_carries_what_is_sent_both_ways(tools: str) -> None:
    remedy, words = way(tools, bastion=BASTION)
    assert remedy == ""
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(words, input=b"hello\n", capture_output=True, timeout=60, check=True, env=environment)
    assert done.stdout == b"SSH-2.0-behind\r\nHELLO\n"


def test_the_command_names_bastion_host_machine_and_ports() -> None:
    assert shlex.join(command(BASTION, MACHINE, "22", 50_000)) == (
        "az network bastion tunnel --only-show-errors --subscription 11111111-1111-1111-1111-111111111111 --name bastion "
        f"--resource-group hub --target-resource-id {MACHINE} --resource-port 22 --port 50000"
    )


def test_a_tunnel_that_does_not_open_is_an_error_that_ends(tools: str) -> None:
    Path(tools, "az").write_text("#!/bin/sh\necho 'Tunneling is disabled' >&2\nexit 1\n")
    _, words = way(tools, bastion=BASTION)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(words, input=b"", capture_output=True, timeout=60, check=False, env=environment)
    assert done.returncode == 1
    assert b"Tunneling is disabled" in done.stderr and b"did not open its port" in done.stderr


def test_without_a_bastion_host_or_without_the_tool_it_is_said_what_to_do(tools: str, tmp_path: Path) -> None:
    assert "[providers.azure] bastion" in way(tools)[0]
    remedy, _ = way(str(tmp_path), bastion=BASTION)
    assert "`az`" in remedy and "https://learn.microsoft.com/cli/azure/install-azure-cli" in remedy


def test_the_port_of_a_key_that_opens_none_is_opened_later(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Callable[..., LaunchRequest]
) -> None:
    request = request_of(ssh_public_key=KEY, opens_later=True)
    provider.launch(request)

    def ports() -> list[str]:
        with cloud._state.lock:
            (group,) = cloud._state.items("Microsoft.Network/networkSecurityGroups")
            return [rule["properties"]["destinationPortRange"] for rule in group.body["properties"]["securityRules"]]

    assert ports() == []
    for _ in range(2):
        provider.open_ssh("eastus", {TAG_ID: request.cluster_id})
    assert ports() == ["22"]
    assert provider.host_keys(provider.nodes(Selector(region="eastus", cluster_id=request.cluster_id))) == {}
