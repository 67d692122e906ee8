"""Logging in: host keys, keys of the user, jump hosts, proxy commands, the user's configuration, and what fails."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute.errors import HostKeyError, RunError
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.target import SshHost, Target, proxy_command
from tests.remote.hosts import Host, missing, started

RELAY = """
import socket, sys, threading
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def pump():
    while data := connection.recv(65536):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
threading.Thread(target=pump, daemon=True).start()
while data := sys.stdin.buffer.raw.read(65536):
    connection.sendall(data)
"""


def error_of(*targets: Target, check_only: bool = False) -> RunError:
    with RemoteNodes(targets) as nodes, pytest.raises(RunError) as caught:
        if check_only:
            nodes.connect()
        else:
            nodes.run("touch ran")
    return caught.value


def replaced(target: Target, **fields: object) -> Target:
    import dataclasses

    return dataclasses.replace(target, host=dataclasses.replace(target.host, **fields))  # type: ignore[arg-type]


def test_an_unknown_host_key_is_learned_on_first_contact(hosts: list[Host]) -> None:
    with RemoteNodes([host.target(host_key=None) for host in hosts]) as nodes:
        nodes.connect()
        assert dict(nodes.host_keys) == {host.index: host.host_key for host in hosts}


def test_a_pinned_host_key_is_reported_too(nodes: RemoteNodes, hosts: list[Host]) -> None:
    nodes.connect(ranks=[1])
    assert dict(nodes.host_keys) == {1: hosts[1].host_key}


def test_a_changed_host_key_is_refused_and_nothing_is_sent(hosts: list[Host]) -> None:
    others = hosts[2].host_key
    error = error_of(hosts[0].target(), hosts[1].target(host_key=others))
    assert isinstance(error, HostKeyError)
    assert error.rank == 1
    assert "not the pinned one" in str(error) and "SHA256:" in str(error)
    with RemoteNodes([hosts[0].target()]) as nodes:
        assert nodes.run("ls ran", check=False)[0].returncode != 0


def test_a_pinned_key_of_another_kind_is_refused_too(hosts: list[Host], tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(tmp_path / "key")], check=True)
    other = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    assert isinstance(error_of(hosts[0].target(host_key=other)), HostKeyError)


def test_a_key_that_is_learned_holds_within_the_block(hosts: list[Host]) -> None:
    with RemoteNodes([hosts[0].target(host_key=None)]) as nodes:
        nodes.run("kill -9 $(ps -o ppid= -p $PPID); sleep 1", check=False)
        assert nodes.run("echo again")[0].stdout == "again\n"


def test_the_user_s_known_hosts_are_respected(hosts: list[Host], tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    place = hosts[0].address if hosts[0].port == 22 else f"[{hosts[0].address}]:{hosts[0].port}"
    known.write_text(f"{place} {hosts[0].host_key}\n")
    target = hosts[0].target(host_key=None, known_hosts=known)
    with RemoteNodes([target]) as nodes:
        nodes.run("true")
    known.write_text(f"{place} {hosts[1].host_key}\n")
    assert isinstance(error_of(target), HostKeyError)


def test_a_user_who_may_not_log_in_is_an_error_that_says_what_was_tried(hosts: list[Host], tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    error = error_of(hosts[0].target(), hosts[1].target(identity=tmp_path / "other"))
    assert error.rank == 1
    assert "refused the login" in str(error) and "other" in str(error)
    assert "nothing was started" in str(error)
    assert [result.outcome for result in error.results] == ["not_started", "unreachable"]


def test_a_public_key_stands_for_the_private_one_beside_it(hosts: list[Host]) -> None:
    with RemoteNodes([hosts[0].target(identity=hosts[0].folder / "id.pub")]) as nodes:
        assert nodes.run("true")[0].is_ok


def test_a_missing_key_is_an_error_that_names_it(hosts: list[Host], tmp_path: Path) -> None:
    assert str(tmp_path / "none") in str(error_of(hosts[0].target(identity=tmp_path / "none")))


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = Path("/tmp") / f"mc-agent-{os.getpid()}"  # the path of a socket must be short
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    yield
    process.terminate()
    process.wait()
    shutil.rmtree(folder)


def test_a_key_with_a_passphrase_is_taken_from_the_agent(hosts: list[Host], tmp_path: Path, agent: None) -> None:
    # Among more keys than a server takes tries.
    for number in range(7):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / f"k{number}")], check=True)
        subprocess.run(["ssh-add", "-q", str(tmp_path / f"k{number}")], check=True)
    subprocess.run(["ssh-add", "-q", str(hosts[0].folder / "id")], check=True)
    locked = tmp_path / "locked"
    shutil.copy(hosts[0].folder / "id", locked)
    shutil.copy(hosts[0].folder / "id.pub", tmp_path / "locked.pub")
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "passphrase", "-f", str(locked)], check=True)
    with RemoteNodes([host.target(identity=locked) for host in hosts]) as nodes:
        assert all(result.is_ok for result in nodes.run("true"))


def test_a_key_with_a_passphrase_without_an_agent_is_an_error(
    hosts: list[Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(tmp_path / "locked")], check=True)
    assert "passphrase" in str(error_of(hosts[0].target(identity=tmp_path / "locked")))


def test_nodes_are_reached_through_a_jump_host_with_one_login_there() -> None:
    if reason := missing():
        pytest.skip(reason)
    with started(4, settings=["LogLevel VERBOSE"]) as (jump, *behind):
        through = jump.target(host_key=None).host
        targets = [host.target(jump=through) for host in behind]
        with RemoteNodes(targets) as nodes:
            assert [result.stdout for result in nodes.run("echo hi")] == ["hi\n"] * 3
            assert dict(nodes.jump_host_keys) == {str(through): jump.host_key}
        accepted = (jump.folder / "log_0").read_text().count("Accepted publickey")
        assert accepted == 1


def test_a_jump_host_that_changed_its_key_is_refused(hosts: list[Host]) -> None:
    through = hosts[0].target(host_key=hosts[1].host_key).host
    assert isinstance(error_of(hosts[2].target(jump=through)), HostKeyError)


def test_the_user_s_configuration_gives_user_key_and_jump_host(hosts: list[Host], tmp_path: Path) -> None:
    first, second = hosts[0].target().host, hosts[1].target().host
    config = tmp_path / "config"
    config.write_text(
        f"Host gate\n  HostName {first.address}\n  Port {first.port}\n"
        f"Host own-machine\n  HostName {second.address}\n  Port {second.port}\n  ProxyJump gate\n"
        f"Host *\n  User {first.user}\n  IdentityFile {first.identity}\n  ForwardAgent yes\n  RemoteCommand exit 5\n"
        "  UserKnownHostsFile none\n"
    )
    target = Target(0, SshHost("own-machine", ssh_config=config, host_key=hosts[1].host_key))
    with RemoteNodes([target]) as nodes:
        (result,) = nodes.run("echo $SSH_CONNECTION; echo agent=$SSH_AUTH_SOCK")
    if hosts[0].link:
        assert result.stdout.split()[0] == first.address
    assert "agent=\n" in result.stdout
    # "UserKnownHostsFile none" must not switch the check off.
    wrong = Target(0, SshHost("own-machine", ssh_config=config, host_key=hosts[2].host_key))
    assert isinstance(error_of(wrong), HostKeyError)


def test_nodes_are_reached_through_a_proxy_command(hosts: list[Host], tmp_path: Path) -> None:
    script = tmp_path / "relay.py"
    script.write_text(RELAY)
    host = hosts[0].target().host
    command = proxy_command(
        f"{sys.executable} {script} {{real}} {{door}}",
        host=host.address,
        port=22,
        user=host.user,
        values={"real": host.address, "door": str(host.port)},
    )
    target = replaced(hosts[0].target(), address="i-0123456789", proxy_command=command)
    with RemoteNodes([target]) as nodes:
        assert nodes.run("cat", input="x" * 1_000_000)[0].stdout == "x" * 1_000_000
    assert isinstance(error_of(replaced(target, host_key=hosts[1].host_key)), HostKeyError)


def test_a_proxy_command_that_is_not_installed_is_named(hosts: list[Host]) -> None:
    error = error_of(hosts[0].target(proxy_command=("no-such-tool", "start-session")))
    assert "no-such-tool" in str(error) and "install it" in str(error)


def test_a_proxy_command_that_fails_is_an_error(hosts: list[Host]) -> None:
    error = error_of(hosts[0].target(proxy_command=("false",)))
    assert error.rank == 0


def test_a_node_that_refuses_connections_is_named_and_nothing_runs_elsewhere(hosts: list[Host]) -> None:
    error = error_of(hosts[0].target(), hosts[1].target(port=1))
    assert error.rank == 1
    assert "rank 1" in str(error)
    with RemoteNodes([hosts[0].target()]) as nodes:
        assert nodes.run("ls ran", check=False)[0].returncode != 0


def test_without_a_check_the_others_run_and_the_node_has_status_255(hosts: list[Host]) -> None:
    with RemoteNodes([hosts[0].target(), hosts[1].target(port=1)]) as nodes:
        results = nodes.run("echo ran", check=False)
    assert [(result.returncode, result.stdout, result.outcome) for result in results] == [
        (0, "ran\n", "exited"),
        (255, "", "unreachable"),
    ]


def test_a_node_that_does_not_answer_is_given_up(hosts: list[Host]) -> None:
    # It accepts connections and says nothing, as a machine that hangs.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        start = time.monotonic()
        error = error_of(Target(0, SshHost("127.0.0.1", port, "root", hosts[0].folder / "id")), check_only=True)
        assert "does not answer" in str(error) or "connection" in str(error).lower()
        assert time.monotonic() - start < 40


def test_a_node_that_boots_is_waited_for(hosts: list[Host]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    target = replaced(hosts[0].target(), address="127.0.0.1", port=port)
    relay = subprocess.Popen(
        [sys.executable, "-c", LATE, str(port), hosts[0].address, str(hosts[0].port)], stdout=subprocess.DEVNULL
    )
    try:
        with RemoteNodes([target]) as nodes:
            nodes.connect(within=timedelta(seconds=40))
            assert nodes.run("true")[0].is_ok
    finally:
        relay.kill()
        relay.wait()


LATE = """
import socket, sys, threading, time
time.sleep(3)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def pump(source, target):
    while data := source.recv(65536):
        target.sendall(data)
while True:
    here, _ = listener.accept()
    there = socket.create_connection((sys.argv[2], int(sys.argv[3])))
    for pair in ((here, there), (there, here)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


def test_a_node_that_does_not_come_up_in_time_is_an_error(hosts: list[Host]) -> None:
    start = time.monotonic()
    with RemoteNodes([hosts[0].target(port=1)]) as nodes, pytest.raises(RunError, match="rank 0"):
        nodes.connect(within=timedelta(seconds=4))
    assert 3.5 < time.monotonic() - start < 10


def test_more_nodes_than_a_server_takes_logins_are_connected_all_the_same() -> None:
    # MaxStartups 10:30:100: more than ten logins at once are refused at random.
    if reason := missing():
        pytest.skip(reason)
    with started(1, isolated=False) as (host,):
        targets = [Target(rank, host.target().host, name=f"node {rank}") for rank in range(40)]
        with RemoteNodes(targets) as nodes:
            ports = {result.stdout.split()[1] for result in nodes.run("echo $SSH_CONNECTION")}
    # Each node has a connection of its own.
    assert len(ports) == 40


def test_a_port_of_a_node_is_forwarded(nodes: RemoteNodes) -> None:
    import urllib.request

    from multicompute.remote.command import Task
    from multicompute.remote.launchers.job import free_ports

    (port,) = free_ports(nodes, rank=1)
    server = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with nodes.start([Task(1, server, cwd="/etc")]), nodes.forward(1, port) as here:
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{here}/passwd", timeout=5) as answer:
                    assert b"root:" in answer.read()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)


def test_logins_leave_no_thread_behind(nodes: RemoteNodes, hosts: list[Host]) -> None:
    before = threading.active_count()
    with RemoteNodes([hosts[0].target()]) as other:
        other.run("true")
    assert threading.active_count() == before
