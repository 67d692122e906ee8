"""OpenSSH's own client, on the command line that is written for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from multicompute.errors import MulticomputeError
from multicompute.remote.openssh import command, known_hosts
from tests.remote.hosts import Host
from tests.remote.test_connections import RELAY, replaced


def test_a_node_is_reached_with_its_key_pinned(hosts: list[Host], tmp_path: Path) -> None:
    (tmp_path / "id 100%").write_bytes((hosts[0].folder / "id").read_bytes())
    (tmp_path / "id 100%").chmod(0o600)
    target = hosts[0].target(identity=tmp_path / "id 100%")
    file = tmp_path / "known hosts 100%"
    file.write_text(known_hosts(target))
    done = subprocess.run(command(target, file, remote=["echo", "here"]), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr


def test_another_host_key_is_refused(hosts: list[Host], tmp_path: Path) -> None:
    target = hosts[0].target(host_key=hosts[1].host_key)
    file = tmp_path / "known_hosts"
    file.write_text(known_hosts(target))
    done = subprocess.run(command(target, file, remote=["echo", "here"]), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (255, "")


def test_a_node_behind_a_jump_host_is_reached_and_both_keys_are_checked(hosts: list[Host], tmp_path: Path) -> None:
    target = hosts[1].target(jump=hosts[0].target().host)
    file = tmp_path / "known_hosts"
    file.write_text(known_hosts(target))
    words = command(target, file, remote=["echo", "through"])
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "through\n"), done.stderr
    file.write_text(known_hosts(hosts[1].target(jump=hosts[0].target(host_key=hosts[2].host_key).host)))
    assert subprocess.run(words, capture_output=True, check=False).returncode == 255


def test_a_node_behind_a_proxy_command_is_reached(hosts: list[Host], tmp_path: Path) -> None:
    script = tmp_path / "relay 100%.py"
    script.write_text(RELAY)
    host = hosts[0].target().host
    through = (sys.executable, str(script), host.address, str(host.port))
    target = replaced(hosts[0].target(), address="i-0123456789", proxy_command=through)
    file = tmp_path / "known_hosts"
    file.write_text(known_hosts(target))
    done = subprocess.run(command(target, file, remote=["echo", "tunnel"]), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "tunnel\n"), done.stderr


def test_a_node_whose_key_is_not_known_is_not_trusted_blindly(hosts: list[Host]) -> None:
    with pytest.raises(MulticomputeError, match="not known yet"):
        known_hosts(hosts[0].target(host_key=None))
    with pytest.raises(MulticomputeError, match="not known yet"):
        known_hosts(hosts[1].target(jump=hosts[0].target(host_key=None).host))
