"""The custom data of a node; tests/resilience/leases runs the timer in it."""

import base64
import gzip
import hashlib
import subprocess
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute.errors import InvalidRequestError
from multicompute_azure._boot import LIMIT, custom_data

IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"


def unpacked(data: str) -> str:
    raw = base64.b64decode(data)
    return (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode()


@given(setup=st.text(min_size=1).filter(str.strip))
def test_nothing_in_a_users_setup_runs_as_a_command_of_the_boot_script(setup: str) -> None:
    try:
        script = unpacked(custom_data(expires_at=None, identity=None, setup=setup))
    except UnicodeEncodeError:
        return
    content = setup if setup.startswith("#!") else f"#!/bin/bash\n{setup}\n"
    assert f"echo {base64.b64encode(content.encode()).decode()} | base64 -d" in script


def test_the_script_is_valid_shell_and_the_same_for_the_same_arguments() -> None:
    first = custom_data(expires_at=datetime(2027, 1, 1, tzinfo=UTC), identity=IDENTITY, setup="true")
    assert first == custom_data(expires_at=datetime(2027, 1, 1, tzinfo=UTC), identity=IDENTITY, setup="true")
    subprocess.run(["bash", "-n"], input=unpacked(first), text=True, check=True)


def test_a_long_setup_is_compressed_and_one_that_stays_too_long_is_refused() -> None:
    assert len(custom_data(expires_at=None, identity=None, setup="echo x\n" * 20_000)) < 65_536
    noise = "".join(hashlib.sha256(bytes([number % 256, number // 256])).hexdigest() for number in range(2_500))
    with pytest.raises(InvalidRequestError, match=f"{LIMIT:,}"):
        custom_data(expires_at=None, identity=None, setup=noise)
