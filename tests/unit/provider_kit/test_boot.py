"""The boot script installs the timer first and runs the user's setup last; tests/resilience/leases runs it."""

import gzip
import hashlib
from datetime import UTC, datetime

import pytest

from multicompute.errors import InvalidRequestError
from multicompute.provider_kit.boot import boot_script, fitted

END = datetime(2026, 12, 1, tzinfo=UTC)
CLOUD = "read_expiry() { cat /run/expiry; }\n"


def test_the_timer_comes_first_then_the_clouds_commands_then_the_users_setup() -> None:
    lines = boot_script(expires_at=END, cloud=CLOUD, commands=["install-key"], setup="echo hi").splitlines()
    assert lines[0] == "#!/bin/bash"
    timer, key = lines.index("systemctl enable --now multicompute-expiry.timer"), lines.index("install-key")
    setup = next(index for index, line in enumerate(lines) if line.startswith("/var/lib/multicompute/setup >"))
    assert timer < key < setup


def test_the_same_arguments_give_the_same_script_and_none_has_no_setup() -> None:
    assert boot_script(expires_at=END, cloud=CLOUD) == boot_script(expires_at=END, cloud=CLOUD)
    assert "setup" not in boot_script(expires_at=None, cloud=CLOUD)


def fit(script: str, limit: int, *, may_compress: bool = True) -> bytes:
    return fitted(
        script,
        limit,
        provider="example",
        field="user data",
        code="TooLong",
        hint="download the rest",
        may_compress=may_compress,
    )


def test_a_script_that_fits_is_sent_as_it_is() -> None:
    assert fit("#!/bin/bash\n", 12) == b"#!/bin/bash\n"


def test_a_longer_script_is_compressed_the_same_way_each_time() -> None:
    script = "echo step\n" * 1000
    assert gzip.decompress(fit(script, 1000)).decode() == script
    assert fit(script, 1000) == fit(script, 1000)


@pytest.mark.parametrize(
    ("may_compress", "message"), [(True, "user data, compressed; the limit is 1,000"), (False, "2,000 bytes")]
)
def test_a_script_that_is_too_long_all_the_same_is_refused(may_compress: bool, message: str) -> None:
    noise = "".join(hashlib.sha256(bytes([index])).hexdigest() for index in range(40))[:2000]
    with pytest.raises(InvalidRequestError, match=message) as caught:
        fit(noise, 1000, may_compress=may_compress)
    assert (caught.value.code, caught.value.hint) == ("TooLong", "download the rest")
