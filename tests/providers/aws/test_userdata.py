"""What a node does at first boot, and how it ends by itself: the scripts are run."""

import base64
import gzip
import hashlib
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute.errors import InvalidRequestError
from multicompute_aws._userdata import LIMIT, expiry_script, user_data

NOW = 1_790_000_000


class Node:
    """A machine whose clock, metadata service and power switch are files."""

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
            f'[ -e {folder}/metadata ] || exit 7\ncase "$*" in *api/token*) echo secret;; *) cat {folder}/metadata;; esac',
        )

    def _command(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def look(self, tag: str | None) -> bool:
        """Let the timer fire with this tag, None for a metadata service that does not answer; whether it powers off."""
        metadata, switched = self.folder / "metadata", self.folder / "switched"
        metadata.unlink(missing_ok=True)
        switched.unlink(missing_ok=True)
        if tag is not None:
            metadata.write_text(tag)
        script = expiry_script(state=str(self.folder / "expires-at"))
        subprocess.run(["bash", "-c", script], env={"PATH": f"{self.bin}:/usr/bin:/bin"}, check=False)
        return switched.exists() and "poweroff" in switched.read_text()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_node_powers_off_when_its_lease_has_ended(node: Node) -> None:
    assert not node.look(str(NOW + 60))
    assert node.look(str(NOW))
    assert node.look(str(NOW - 3600))


def test_a_lease_that_was_extended_or_lifted_holds(node: Node) -> None:
    assert not node.look(str(NOW + 1))
    assert not node.look("never")
    assert not node.look(None)


def test_without_metadata_the_last_known_expiry_holds(node: Node) -> None:
    assert not node.look(None)
    (node.folder / "expires-at").write_text(f"{NOW - 1}\n")
    assert node.look(None)
    (node.folder / "expires-at").write_text(f"{NOW + 1}\n")
    assert not node.look(None)


@pytest.mark.parametrize("tag", ["", "soon", "12; rm -rf /", "<html>404</html>", "-5"])
def test_a_tag_that_is_no_time_is_as_good_as_none(node: Node, tag: str) -> None:
    (node.folder / "expires-at").write_text(f"{NOW + 1}\n")
    assert not node.look(tag)
    assert (node.folder / "expires-at").read_text() == f"{NOW + 1}\n"


def _text(data: bytes) -> str:
    return (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()


def _file(script: str, path: str) -> str:
    """What the script writes to `path`."""
    found = re.search(rf"echo (\S+) \| base64 -d > {re.escape(path)} ", script)
    assert found
    return base64.b64decode(found[1]).decode()


def test_the_timer_is_set_up_before_anything_of_the_user_runs() -> None:
    ends = datetime(2026, 12, 1, tzinfo=UTC)
    script = _text(user_data(expires_at=ends, ssh_public_key=None, setup="exit 1"))
    assert script.index("enable --now multicompute-expiry.timer") < script.index("multicompute-setup.log")
    assert _file(script, "/var/lib/multicompute/expires-at") == f"{int(ends.timestamp())}\n"
    assert "WantedBy=timers.target" in _file(script, "/etc/systemd/system/multicompute-expiry.timer")


@given(setup=st.text(min_size=1).filter(str.strip), key=st.none() | st.just('ssh-ed25519 AAAA it\'s "me" $(id)'))
def test_nothing_that_a_user_writes_is_read_as_a_command_of_ours(setup: str, key: str | None) -> None:
    try:
        script = _text(user_data(expires_at=None, ssh_public_key=key, setup=setup))
    except UnicodeEncodeError:
        return
    written = _file(script, "/var/lib/multicompute/setup")
    assert written in (setup, f"#!/bin/bash\n{setup}\n")
    assert "$(id)" not in script


@pytest.mark.parametrize("setup", ["", "apt-get update\nsay 'hi'", "#!/usr/bin/env python3\nprint(1)"])
def test_the_script_is_valid_shell(setup: str) -> None:
    script = _text(user_data(expires_at=None, ssh_public_key="ssh-ed25519 AAAA me", setup=setup))
    checked = subprocess.run(["bash", "-n"], input=script.encode(), capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")
    assert script.startswith("#!/bin/bash\n")


def test_no_key_means_that_nobody_may_log_in() -> None:
    assert "authorized_keys" not in _text(user_data(expires_at=None, ssh_public_key=None, setup=""))


def test_a_long_setup_is_packed_and_one_that_stays_too_long_is_refused() -> None:
    packed = user_data(expires_at=None, ssh_public_key=None, setup="echo step\n" * 10_000)
    assert packed.startswith(b"\x1f\x8b") and len(packed) <= LIMIT
    noise = "".join(hashlib.sha256(str(index).encode()).hexdigest() for index in range(1_000))
    with pytest.raises(InvalidRequestError, match="16,384"):
        user_data(expires_at=None, ssh_public_key=None, setup=noise)
