"""Secrets appear in no log, message, repr or tag, not in the ledger, and not in the output of the command line."""

import base64
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from multicompute import Cluster, ClusterSpec, errors
from multicompute.cli import main
from multicompute.config import apply_environment
from multicompute.provider import LaunchRequest
from multicompute.session import open_session
from multicompute.testing import LocalClouds, local_clouds
from tests.security import secret_marks
from tests.security.secret_marks import PRIVATE_SSH_KEY, SETUP, everything_of, forms, found_in, leaked

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me@example"
# The provider, and the arguments of the request.
CLOUDS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "aws": ("aws", {"gpus": 8, "type": "p5.48xlarge", "regions": ["us-east-1"]}),
    "gcp": ("gcp", {"gpus": 8, "type": "a3-highgpu-8g", "regions": ["us-central1"]}),
    "tpu": ("gcp", {"type": "v5p-16", "regions": ["us-east5"]}),
    "azure": ("azure", {"gpus": 8, "type": "h100", "regions": ["eastus"]}),
}
LAUNCHES = {
    "aws": "RunInstances",
    "gcp": "instances.bulkInsert",
    "tpu": "tpu.queuedResources.create",
    "azure": "virtualMachineScaleSets.createOrUpdate",
}


@pytest.fixture(name="key")
def _key(tmp_path: Path) -> str:
    file = tmp_path / "id.pub"
    file.write_text(f"{PUBLIC_KEY}\n")
    return str(file)


@pytest.fixture(name="everywhere", scope="module")
def _everywhere() -> Iterator[LocalClouds]:
    """Local clouds for every provider, so none of these credentials is sent to a real one."""
    with local_clouds() as clouds:
        yield clouds


@pytest.fixture(name="clouds", params=CLOUDS)
def _clouds(
    request: pytest.FixtureRequest, everywhere: LocalClouds, tmp_path: Path
) -> Iterator[tuple[str, LocalClouds]]:
    variables = secret_marks.environment(tmp_path) | {"MULTICOMPUTE_STATE": f"sqlite:///{ledger_of(tmp_path)}"}
    with apply_environment(everywhere.environment | variables):
        yield request.param, everywhere
        open_session().close()
    for name in everywhere.names:
        everywhere[name].faults.clear()


def ledger_of(folder: Path) -> Path:
    return folder / "ledger" / "state.db"


def run_cluster(kind: str, clouds: LocalClouds, key: str) -> list[str]:
    """Take a cluster from its request to its teardown, with a failure on the way; return every text that a user can read."""
    provider, spec = CLOUDS[kind]
    cloud = clouds[provider]
    wanted = {**spec, "clouds": [provider], "name": "marked", "setup": SETUP, "ssh_key": key, "tags": {"team": "nlp"}}
    seen: list[str] = []
    cloud.faults.fail(LAUNCHES[kind], "UnknownCode", times=None)
    with pytest.raises(errors.MulticomputeError) as refused:
        Cluster.request(**wanted, timeout="10s")
    cloud.faults.clear()
    seen.append(everything_of(refused.value))
    with Cluster.request(**wanted) as cluster:
        cluster.extend("1h")
        cluster.refresh()
        seen += [repr(cluster), repr(cluster.spec), repr(cluster.nodes), repr(cluster.plan), repr(cluster.events())]
        seen += [json.dumps(cluster.to_dict()), repr([item.tags for item in clouds.alive()])]
        with pytest.raises(errors.ClusterExists) as exists:
            Cluster.request(**{**wanted, "setup": SETUP + "true\n"})
        assert "setup" in str(exists.value)
        seen.append(everything_of(exists.value))
    assert clouds.alive() == []
    session = open_session()
    seen += [repr(session.config), repr(session.settings(provider)), repr(session.provider(provider))]
    return seen


def test_no_secret_appears_while_a_cluster_is_created_used_and_terminated(
    clouds: tuple[str, LocalClouds], key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = run_cluster(*clouds, key)
    assert [name for text in seen for name in found_in(text)] == []
    assert caplog.records
    assert leaked(caplog.records) == set()


# The local TPUs keep no script of a host; the unit tests of the launch check what is sent.
@pytest.mark.parametrize("clouds", ["aws", "gcp", "azure"], indirect=True)
def test_the_setup_script_reaches_the_node(clouds: tuple[str, LocalClouds]) -> None:
    kind, local = clouds
    provider, spec = CLOUDS[kind]
    with Cluster.request(**spec, clouds=[provider], setup=SETUP) as cluster:
        (node,) = cluster.nodes
        sent = local[provider].boot_script(node.id)
        assert any(form in sent for form in forms(secret_marks.TOKEN_IN_SETUP))


def test_the_ledger_keeps_no_credentials_and_the_setup_script_only_while_the_cluster_lives(
    clouds: tuple[str, LocalClouds], key: str, tmp_path: Path
) -> None:
    kind, local = clouds
    run_cluster(kind, local, key)
    file = ledger_of(tmp_path)
    provider, spec = CLOUDS[kind]
    with Cluster.request(**spec, clouds=[provider], name="second", setup=SETUP) as cluster:
        # Any process may replace a lost node, and the new one runs the same script.
        assert cluster.spec.setup == SETUP
        living = b"".join(path.read_bytes() for path in file.parent.glob("state.db*"))
        assert found_in(living) == ["token in the setup script"]
    assert cluster.spec.setup is None
    open_session().close()
    assert b"second" in file.read_bytes()
    assert found_in(b"".join(path.read_bytes() for path in file.parent.glob("state.db*"))) == []


def test_no_command_prints_a_secret(
    clouds: tuple[str, LocalClouds], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, _ = clouds
    provider, spec = CLOUDS[kind]
    arguments = [
        "--type",
        spec["type"],
        "--cloud",
        provider,
        "--region",
        spec["regions"][0],
        "--setup-text",
        SETUP,
        "--ssh-key",
        key,
    ]
    arguments += ["--gpus", str(spec["gpus"])] if "gpus" in spec else []
    printed = ""
    for command in (
        ["plan", *arguments, "--json"],
        ["plan", *arguments],
        ["up", *arguments, "--name", "marked", "--json"],
        ["up", *arguments, "--name", "marked", "--spot"],
        *([name, "marked", *more] for name in ("show", "events") for more in ([], ["--json"])),
        ["ls", "--all", "--json"],
        # The text of a script or of a key in place of a file.
        ["plan", "--type", spec["type"], "--setup", SETUP],
        ["plan", "--type", spec["type"], "--ssh-key", SETUP],
        ["doctor", "--json"],
        ["reconcile", "--json"],
        ["down", "marked", "--yes"],
        ["show", "marked", "--json"],
    ):
        main(command)
        out, err = capsys.readouterr()
        assert found_in(out + err) == [], command
        printed += out
    assert "marked" in printed and "sha256:" in printed


def test_the_repr_of_a_request_has_no_setup_script() -> None:
    spec = ClusterSpec(gpus=8, type=("h100",), setup=SETUP)
    assert found_in(repr(spec)) == []
    assert ClusterSpec.of(spec.to_dict()) == spec
    assert found_in(json.dumps(spec.to_public_dict()) + json.dumps(spec.identity())) == []
    request = LaunchRequest(token="t", cluster_id="c", cluster_name="n", owner="o", parts=(), tags={}, setup=SETUP)
    assert found_in(repr(request)) == []


@pytest.mark.parametrize("bad", [f"{SETUP}\0", f"{SETUP}\ud800", 3, "  "])
def test_the_error_about_a_refused_setup_script_does_not_contain_the_script(bad: Any) -> None:
    with pytest.raises(errors.SpecError, match="setup: ") as caught:
        ClusterSpec(gpus=8, type=("h100",), setup=bad)
    assert found_in(everything_of(caught.value)) == []


def test_a_private_key_is_refused_and_not_in_the_error(tmp_path: Path) -> None:
    file = tmp_path / "id_ed25519"
    file.write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{PRIVATE_SSH_KEY}\n-----END OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(errors.SpecError, match="no OpenSSH public key") as caught:
        ClusterSpec(gpus=8, type=("h100",), ssh_key=str(file)).ssh_public_key()
    assert found_in(everything_of(caught.value)) == []


def test_the_search_finds_a_secret_in_every_form() -> None:
    """Otherwise the other tests would pass without checking anything."""
    for name, secret in secret_marks.secrets().items():
        once = base64.b64encode(f"#!/bin/sh\n{secret}\n".encode())
        for shift in range(3):
            texts: list[str | bytes] = [
                secret,
                base64.b64encode(b"y" * shift + secret.encode() + b"\n"),
                base64.b64encode(b"z" * shift + once),
            ]
            assert [found_in(text) for text in texts] == [[name]] * 3
