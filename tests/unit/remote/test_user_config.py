"""Jump hosts and proxy commands in the user's SSH configuration."""

from pathlib import Path

import pytest

from multicompute.remote.user_config import has_proxy

CONFIG = """\
# ProxyJump commented
Host bastion
    User me
Host 10.1.* !10.1.9.*
    ProxyJump bastion
Host 10.2.*
    ProxyCommand none
Match exec "true"
    ProxyJump other
Host = 10.3.*
    proxycommand=nc %h %p
"""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.0.5", True),
        ("10.1.9.5", False),
        ("10.2.0.5", False),
        ("10.3.0.5", True),
        ("198.51.100.7", False),
        ("bastion", False),
    ],
)
def test_a_proxy_is_found_for_the_addresses_that_it_is_for(tmp_path: Path, address: str, expected: bool) -> None:
    (tmp_path / "config").write_text(CONFIG)
    assert has_proxy(tmp_path / "config", address) is expected


def test_what_comes_before_the_first_host_is_for_all(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("ProxyJump bastion\nHost other\n  User me\n")
    assert has_proxy(tmp_path / "config", "10.0.0.1")


def test_a_file_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    assert not has_proxy(tmp_path, "10.0.0.1")
