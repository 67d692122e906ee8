"""The user data of a node; tests/resilience/leases runs the timer in it."""

import base64
import gzip
import hashlib
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute.errors import InvalidRequestError
from multicompute_aws._boot import LIMIT, user_data


def _text(data: bytes) -> str:
    return (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()


def _file(script: str, path: str) -> str:
    """Return what the script writes to `path`."""
    found = re.search(rf"echo (\S+) \| base64 -d > {re.escape(path)} ", script)
    assert found
    return base64.b64decode(found[1]).decode()


@given(setup=st.text(min_size=1).filter(str.strip), key=st.none() | st.just('ssh-ed25519 AAAA it\'s "me" $(id)'))
def test_nothing_in_a_users_setup_runs_as_a_command_of_the_boot_script(setup: str, key: str | None) -> None:
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


def test_without_a_key_no_key_is_installed() -> None:
    assert "authorized_keys" not in _text(user_data(expires_at=None, ssh_public_key=None, setup=""))


def test_a_long_setup_is_compressed_and_one_that_stays_too_long_is_refused() -> None:
    packed = user_data(expires_at=None, ssh_public_key=None, setup="echo step\n" * 10_000)
    assert packed.startswith(b"\x1f\x8b") and len(packed) <= LIMIT
    noise = "".join(hashlib.sha256(str(index).encode()).hexdigest() for index in range(1_000))
    with pytest.raises(InvalidRequestError, match="16,384"):
        user_data(expires_at=None, ssh_public_key=None, setup=noise)
