"""The metadata and the startup script of a node; tests/resilience/leases runs the timer."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from multicompute.errors import InvalidRequestError
from multicompute.provider import LaunchRequest
from multicompute_gcp._boot import metadata_of, startup_script

ENDS = datetime(2027, 1, 1, tzinfo=UTC)


def test_the_startup_script_is_valid_and_encodes_what_the_user_wrote() -> None:
    script = startup_script(setup="echo 'hi' && exit 3", expires_at=ENDS)
    assert subprocess.run(["bash", "-n"], input=script.encode(), check=False).returncode == 0
    assert script.index("multicompute-expiry.timer") < script.index("setup-status")
    assert "hi" not in script


def test_the_end_of_the_lease_is_in_the_metadata_and_not_only_in_the_labels(
    request_of: Callable[..., LaunchRequest],
) -> None:
    assert metadata_of(request_of(expires_at=ENDS))["multicompute-expires-at"] == str(int(ENDS.timestamp()))
    assert metadata_of(request_of(expires_at=None))["multicompute-expires-at"] == "never"


def test_a_setup_that_is_too_long_is_refused(request_of: Callable[..., LaunchRequest]) -> None:
    with pytest.raises(InvalidRequestError, match="startup script"):
        metadata_of(request_of(setup="#" * 300_000))
