"""What a node does at boot, and how it ends by itself: the scripts are run."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from multicompute.errors import InvalidRequestError
from multicompute.provider import LaunchRequest
from multicompute_gcp._startup import expiry_script, metadata_of, startup_script

NOW = 1_790_000_000


class Node:
    """A machine whose clock, metadata server and power switch are files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir()
        self._command("date", f"echo {NOW}")
        self._command("logger", "true")
        self._command("systemctl", f"echo off >> {folder}/power")
        self.set_metadata(None)

    def _command(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def set_metadata(self, expiry: str | None, *, can_delete: bool = False) -> None:
        answer = "exit 22" if expiry is None else f"echo {expiry}"
        delete = f"echo asked >> {self.folder}/deleted; exit {0 if can_delete else 22}"
        token = 'echo \'{"access_token" : "secret"}\''
        body = f'case "$*" in *DELETE*) {delete};; */token*) {token};; *) {answer};; esac'
        self._command("curl", body)

    def tick(self, *, delete_url: str = "") -> None:
        script = expiry_script(state=str(self.folder / "state"), delete_url=delete_url)
        subprocess.run(["bash", "-c", script], env={"PATH": f"{self.bin}:/usr/bin:/bin"}, check=True)

    @property
    def is_off(self) -> bool:
        return (self.folder / "power").exists()

    @property
    def has_asked_for_its_deletion(self) -> bool:
        return (self.folder / "deleted").exists()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize(
    ("expiry", "is_off"), [(NOW - 1, True), (NOW, True), (NOW + 60, False), ("never", False), ("x", False)]
)
def test_a_node_powers_off_when_its_lease_has_ended(node: Node, expiry: object, is_off: bool) -> None:
    node.set_metadata(str(expiry))
    node.tick()
    assert node.is_off is is_off


def test_the_last_expiry_that_was_read_holds_while_the_metadata_server_is_silent(node: Node) -> None:
    node.set_metadata(str(NOW + 60))
    node.tick()
    node.set_metadata(None)
    node._command("date", f"echo {NOW + 61}")
    node.tick()
    assert node.is_off


def test_a_lease_that_was_extended_is_read_again(node: Node) -> None:
    (node.folder / "state").write_text(f"{NOW - 1}\n")
    node.set_metadata(str(NOW + 60))
    node.tick()
    assert not node.is_off


def test_a_node_that_may_delete_itself_does_so_and_one_that_may_not_powers_off(node: Node) -> None:
    node.set_metadata(str(NOW - 1), can_delete=True)
    node.tick(delete_url="https://tpu.googleapis.com/v2/x")
    assert node.has_asked_for_its_deletion
    assert not node.is_off
    node.set_metadata(str(NOW - 1), can_delete=False)
    node.tick(delete_url="https://tpu.googleapis.com/v2/x")
    assert node.is_off


def test_the_startup_script_is_a_script_and_runs_the_user_s_part_once() -> None:
    script = startup_script(setup="echo 'hi' && exit 3", expires_at=datetime.fromtimestamp(NOW, UTC))
    assert subprocess.run(["bash", "-n"], input=script.encode(), check=False).returncode == 0
    assert script.index("multicompute-expiry.timer") < script.index("setup-status")
    assert "hi" not in script


def test_a_setup_that_is_too_long_is_refused(request_of: object) -> None:
    request: LaunchRequest = request_of(setup="#" * 300_000)  # type: ignore[operator]
    with pytest.raises(InvalidRequestError, match="startup script"):
        metadata_of(request)
