"""What a node does at first boot, and how it ends by itself: the scripts are run."""

import base64
import gzip
import hashlib
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute.errors import InvalidRequestError
from multicompute_azure._userdata import LIMIT, custom_data, expiry_script

NOW = 1_790_000_000
IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
VM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v"


class Node:
    """A machine whose clock, metadata service, power switch and Resource Manager are files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self._command("date", f"echo {NOW}")
        self._command("logger", "true")
        self._command("shutdown", "exit 1")
        self._command("systemctl", f'echo "$@" >> {folder}/switched')
        self._command(
            "curl",
            f"[ -e {folder}/tags ] || exit 7\n"
            f'case "$*" in *tagsList*) cat {folder}/tags;; *oauth2*) cat {folder}/token;; *resourceId*) echo {VM};; '
            f'*DELETE*) echo "$@" > {folder}/deleted; exit $(cat {folder}/refusal);; esac',
        )
        (folder / "token").write_text('{"access_token":"abc","expires_in":"1"}')
        (folder / "refusal").write_text("0")

    def _command(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def look(self, tag: str | None, *, identity: str | None = None) -> set[str]:
        """Let the timer fire with this tag, None for a metadata service that does not answer; what it does."""
        for name in ("tags", "switched", "deleted"):
            (self.folder / name).unlink(missing_ok=True)
        if tag is not None:
            other = {"name": "note", "value": '"name":"multicompute-expires-at","value":"1"'}
            tags = [other, {"name": "multicompute-expires-at", "value": tag}]
            (self.folder / "tags").write_text(json.dumps(tags, separators=(",", ":")))
        script = expiry_script(identity=identity, state=str(self.folder / "expires-at"))
        subprocess.run(["bash", "-c", script], env={"PATH": f"{self.bin}:/usr/bin:/bin"}, check=False)
        return {name for name in ("switched", "deleted") if (self.folder / name).exists()}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_node_powers_off_when_its_lease_has_ended(node: Node) -> None:
    assert node.look(str(NOW + 60)) == set()
    assert node.look(str(NOW)) == {"switched"}
    assert node.look(str(NOW - 3600)) == {"switched"}


def test_a_node_with_an_identity_has_itself_deleted(node: Node) -> None:
    assert node.look(str(NOW), identity=IDENTITY) == {"deleted"}
    sent = (node.folder / "deleted").read_text()
    assert f"https://management.azure.com{VM}?api-version=" in sent
    assert "Bearer abc" in sent


def test_a_node_whose_identity_may_not_delete_it_powers_off(node: Node) -> None:
    (node.folder / "refusal").write_text("22")
    assert node.look(str(NOW), identity=IDENTITY) == {"deleted", "switched"}


def test_a_lease_that_was_extended_or_lifted_holds(node: Node) -> None:
    assert node.look(str(NOW + 1)) == set()
    assert node.look("never") == set()
    assert node.look(None) == set()


def test_the_last_expiry_that_was_read_holds_while_the_metadata_service_is_silent(node: Node) -> None:
    node.look(str(NOW - 1))
    assert node.look(None) == {"switched"}
    assert node.look("nonsense; reboot") == {"switched"}


def unpacked(data: str) -> str:
    raw = base64.b64decode(data)
    return (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode()


@given(setup=st.text(min_size=1).filter(str.strip))
def test_whatever_is_in_the_setup_reaches_the_node_unread(setup: str) -> None:
    try:
        script = unpacked(custom_data(expires_at=None, identity=None, setup=setup))
    except UnicodeEncodeError:
        return
    content = setup if setup.startswith("#!") else f"#!/bin/bash\n{setup}\n"
    assert f"echo {base64.b64encode(content.encode()).decode()} | base64 -d" in script


def test_the_script_is_valid_and_repeats_itself() -> None:
    first = custom_data(expires_at=datetime(2027, 1, 1, tzinfo=UTC), identity=IDENTITY, setup="true")
    assert first == custom_data(expires_at=datetime(2027, 1, 1, tzinfo=UTC), identity=IDENTITY, setup="true")
    subprocess.run(["bash", "-n"], input=unpacked(first), text=True, check=True)
    subprocess.run(["bash", "-n"], input=expiry_script(identity=IDENTITY), text=True, check=True)


def test_a_setup_that_is_too_long_is_packed_and_one_that_does_not_fit_is_refused() -> None:
    assert len(custom_data(expires_at=None, identity=None, setup="echo x\n" * 20_000)) < 65_536
    noise = "".join(hashlib.sha256(bytes([number % 256, number // 256])).hexdigest() for number in range(2_500))
    with pytest.raises(InvalidRequestError, match=f"{LIMIT:,}"):
        custom_data(expires_at=None, identity=None, setup=noise)
