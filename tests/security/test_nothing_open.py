"""Files are closed to other users of the machine, and nodes to every address that was not asked for."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from multicompute import Cluster
from multicompute.cli import main
from multicompute.config import apply_environment
from multicompute.session import open_session
from multicompute.testing import LocalClouds, local_clouds
from multicompute_gcp.local import GcpLocalCloud
from tests.aws_client import aws_client

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me\n"


@pytest.fixture(name="clouds")
def _clouds(tmp_path: Path) -> Iterator[LocalClouds]:
    with local_clouds("aws", "gcp", "azure") as clouds:
        yield clouds
        open_session().close()


@pytest.fixture(name="open_umask")
def _open_umask() -> Iterator[None]:
    """Set the umask of machines on which every file is created readable for all."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_can_read_a_ledger_and_the_files_next_to_it(
    clouds: LocalClouds, tmp_path: Path, open_umask: None
) -> None:
    folder = tmp_path / "new" / "folder"
    with apply_environment({"MULTICOMPUTE_STATE": f"sqlite:///{folder}/state.db"}):
        with Cluster.request(gpus=8, type="h100", clouds=["aws"]):
            assert {path.name: mode(path) for path in folder.iterdir()} == {
                "state.db": 0o600,
                "state.db-wal": 0o600,
                "state.db-shm": 0o600,
            }
        open_session().close()
    assert (mode(folder), mode(folder / "state.db")) == (0o700, 0o600)


def test_other_users_can_read_no_file_that_a_command_leaves(tmp_path: Path, open_umask: None) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with apply_environment({"HOME": str(home), "MULTICOMPUTE_CONFIG": "", "MULTICOMPUTE_STATE": ""}):
        for command in (["offers", "h100", "--json"], ["plan", "--gpus", "8", "--type", "h100"], ["catalog", "info"]):
            assert main(command) == 0
        Cluster.list()
        main(["ls"])
        open_session().close()
    written = [path for path in home.rglob("*") if path.is_file()]
    assert [path for path in written if mode(path) & 0o077] == []
    # The configuration is read and never written, so its permissions are those that its author chose.
    assert not (home / ".config").exists()


def _ec2(clouds: LocalClouds) -> Any:
    return aws_client("ec2", clouds.aws.endpoint_url)


@pytest.mark.parametrize("spot", [False, True])
def test_the_metadata_service_of_an_aws_node_requires_a_token_and_its_disks_are_encrypted(
    clouds: LocalClouds, spot: bool
) -> None:
    """IMDSv1 would give the node's role to any program that can be tricked into fetching a URL."""
    ec2 = _ec2(clouds)
    with Cluster.request(gpus=16, type="p5.48xlarge", regions=["us-east-1"], clouds=["aws"], spot=spot):
        reservations = ec2.describe_instances()["Reservations"]
        options = [item["MetadataOptions"] for each in reservations for item in each["Instances"]]
        assert {(option["HttpTokens"], option["HttpEndpoint"]) for option in options} == {("required", "enabled")}
        volumes = ec2.describe_volumes()["Volumes"]
        assert len(volumes) == len(options) == 2
        assert all(volume["Encrypted"] for volume in volumes)


def aws_ingress(clouds: LocalClouds) -> list[tuple[str, object]]:
    """Return the sources and ports that are allowed from outside the cluster's own group."""
    groups = _ec2(clouds).describe_security_groups(Filters=[{"Name": "tag-key", "Values": ["multicompute-id"]}])
    (group,) = groups["SecurityGroups"]
    found = []
    for rule in group["IpPermissions"]:
        assert {pair["GroupId"] for pair in rule.get("UserIdGroupPairs", ())} <= {group["GroupId"]}
        sources = [entry["CidrIp"] for entry in rule.get("IpRanges", ())]
        sources += [entry["CidrIpv6"] for entry in rule.get("Ipv6Ranges", ())]
        found += [(source, rule.get("FromPort")) for source in sources]
    return found


def gcp_ingress(clouds: LocalClouds) -> list[tuple[str, object]]:
    session = open_session().provider("gcp")
    client: Any = session._clients  # type: ignore[attr-defined]
    rules = client.firewalls().list(project=clouds.of(GcpLocalCloud).project)
    ours = [rule for rule in rules if rule.name.startswith("multicompute") or "multicompute" in rule.description]
    assert all(rule.target_tags for rule in ours)
    return [(source, int(port)) for rule in ours for source in rule.source_ranges for port in rule.allowed[0].ports]


def azure_ingress(clouds: LocalClouds) -> list[tuple[str, object]]:
    session = open_session().provider("azure")
    client: Any = session._clients  # type: ignore[attr-defined]
    found: list[tuple[str, object]] = []
    for group in client.network.network_security_groups.list_all():
        for rule in group.security_rules or ():
            assert (rule.direction, rule.access) == ("Inbound", "Allow")
            sources = rule.source_address_prefixes or [rule.source_address_prefix]
            found += [(source, int(rule.destination_port_range)) for source in sources]
    return found


Ingress = Callable[[LocalClouds], list[tuple[str, object]]]
KINDS: Mapping[str, tuple[dict[str, Any], Ingress]] = {
    "aws": ({"gpus": 8, "type": "p5.48xlarge", "regions": ["us-east-1"]}, aws_ingress),
    "gcp": ({"gpus": 8, "type": "a3-highgpu-8g", "regions": ["us-central1"]}, gcp_ingress),
    "tpu": ({"type": "v5p-16", "regions": ["us-east5"]}, gcp_ingress),
    "azure": ({"gpus": 8, "type": "h100", "regions": ["eastus"]}, azure_ingress),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_port_is_open_without_a_key_and_with_one_only_ssh_for_the_caller(
    clouds: LocalClouds, kind: str, tmp_path: Path
) -> None:
    arguments, ingress = KINDS[kind]
    cloud = "gcp" if kind == "tpu" else kind
    key = tmp_path / "id.pub"
    key.write_text(KEY)
    wanted = {**arguments, "clouds": [cloud]}
    with Cluster.request(**wanted):
        assert ingress(clouds) == []
    with Cluster.request(**wanted, ssh_key=str(key), private=True) as private:
        assert ingress(clouds) == []
        assert [node.public_ip for node in private.nodes if node.public_ip] == []
    with Cluster.request(**wanted, ssh_key=str(key)):
        assert ingress(clouds) == [("127.0.0.1/32", 22)]
    assert clouds.alive() == []
