"""The way to the nodes of a cluster: jump hosts, host keys from the cloud, ports, and READY."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from multicompute import Cluster
from multicompute.config import Config
from multicompute.engine.provision import login
from multicompute.errors import HostKeyError, MulticomputeError, ProvisionTimeout, RunError
from multicompute.node import Node
from multicompute.provider import Access
from multicompute.remote import reach as reach_module
from multicompute.remote.keys import ensure, generate
from multicompute.remote.loop import LoopThread
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.pins import Pins
from multicompute.remote.reach import pin, targets
from multicompute.session import Session, use_session
from multicompute.testing import FakeCloud, fake_cloud
from tests.remote.hosts import Host

USER = "root" if os.geteuid() == 0 else os.environ.get("USER", "")
GANG: Mapping[str, Any] = {"gpus": 16, "type": "h100", "clouds": ["aws"]}


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Path:
    (tmp_path / ".ssh").mkdir()
    return tmp_path


@pytest.fixture(name="cloud")
def _cloud(home: Path, tmp_path: Path) -> Iterator[FakeCloud]:
    """A fake cloud whose session has a home folder for keys."""
    with fake_cloud("aws") as cloud:
        config = Config(
            state=f"sqlite:///{tmp_path}/state.db",
            owner="tester@fake",
            path=tmp_path / "config.toml",
            environment={"HOME": str(home)},
        )
        session = Session(config=config, plugins=cloud.session.plugins, clock=cloud.clock, random=Random(0))
        with use_session(session):
            yield FakeCloud(cloud.providers, clock=cloud.clock, session=session)
        session.close()


def access_of(host: Host, **changes: Any) -> Access:
    return Access(host.address, host.port, USER, identity=str(host.folder / "id"), **changes)


def replace_method(cloud: FakeCloud, name: str, method: Callable[..., object]) -> None:
    """Let the fake cloud report other things: its nodes have no shells of their own."""
    setattr(cloud.aws, name, method)


def through(cloud: FakeCloud, hosts: Sequence[Host], **changes: Any) -> None:
    """Let the nodes of the fake cloud be these hosts, by rank."""
    replace_method(cloud, "access", lambda node: access_of(hosts[max(node.rank, 0)], **changes))


def run(session: Session, cluster: Cluster, *ranks: int) -> tuple[list[str], Mapping[str, str]]:
    """Return what `$SSH_CONNECTION` is on the nodes, and the host keys of jump hosts."""
    record = session.ledger.cluster(cluster.id)
    with RemoteNodes(targets(session, record, ranks)) as nodes:
        results = nodes.run("echo $SSH_CONNECTION")
        pin(session, record, nodes.host_keys, nodes.jump_host_keys)
        return [result.stdout.split()[0] for result in results], nodes.jump_host_keys


def test_a_jump_host_is_reached_with_what_the_users_configuration_says_of_it(
    cloud: FakeCloud, hosts: list[Host], home: Path
) -> None:
    jump = hosts[0]
    (home / ".ssh/config").write_text(
        f"Host bastion\n  HostName {jump.address}\n  Port {jump.port}\n  User {USER}\n  IdentityFile {jump.folder}/id\n"
    )
    through(cloud, hosts[1:], jump="bastion", is_configured=True)
    with Cluster.request(**GANG) as cluster:
        seen, jump_keys = run(cloud.session, cluster, 0, 1)
        assert list(jump_keys.values()) == [jump.host_key]
        if jump.address != "127.0.0.1":
            assert set(seen) == {jump.address}
        # Pinned as well: another key is refused from then on.
        folder = home / ".local/share/multicompute/keys" / cluster.id
        pinned = folder / "known_hosts"
        assert Pins(folder).jump_hosts() == {"bastion": jump.host_key}
        pinned.write_text(pinned.read_text().replace(jump.host_key, generate("other").public.rsplit(" ", 1)[0]))
        with pytest.raises(RunError, match="is not the pinned one"):
            run(cloud.session, cluster, 0)


def test_nodes_can_be_reached_through_the_head(cloud: FakeCloud, hosts: list[Host]) -> None:
    replace_method(
        cloud, "access", lambda node: access_of(hosts[node.rank], internal=hosts[node.rank].address, jump="head")
    )
    with Cluster.request(**GANG) as cluster:
        record = cloud.session.ledger.cluster(cluster.id)
        head, other = targets(cloud.session, record, [0, 1])
        assert head.host.jump is None and other.host.jump is not None
        assert (other.host.jump.address, other.host.jump.port) == (hosts[0].address, hosts[0].port)
        assert targets(cloud.session, record, [1])[0].host.jump == other.host.jump
        run(cloud.session, cluster, 1)


def test_a_proxy_in_the_users_configuration_is_respected(cloud: FakeCloud, hosts: list[Host], home: Path) -> None:
    node, mark = hosts[1], home / "used"
    relay = f"sh -c 'touch {mark}; exec python3 {home}/relay.py {node.address} {node.port}'"
    (home / "relay.py").write_text(
        "import os, socket, sys, threading\n"
        "c = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while d := os.read(0, 65536): c.sendall(d)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while d := c.recv(65536): os.write(1, d)\n"
    )
    (home / ".ssh/config").write_text(f"Host {node.address}\n  ProxyCommand {relay}\n")
    through(cloud, [node, node])
    with Cluster.request(**GANG) as cluster:
        run(cloud.session, cluster, 0)
    assert mark.exists()


def test_the_host_key_that_the_cloud_reports_is_the_only_one_accepted(cloud: FakeCloud, hosts: list[Host]) -> None:
    through(cloud, hosts)
    other = generate("other").public

    def reported(nodes: Sequence[Node]) -> Mapping[str, str]:
        return {node.id: hosts[0].host_key if node.rank == 0 else other for node in nodes}

    replace_method(cloud, "host_keys", reported)
    with Cluster.request(**GANG) as cluster:
        run(cloud.session, cluster, 0)
        with pytest.raises(HostKeyError):
            run(cloud.session, cluster, 1)


def test_a_port_that_is_closed_is_opened_when_something_is_run(
    cloud: FakeCloud, hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    replace_method(cloud, "open_ssh", lambda region, tags: opened.append(tags["multicompute-id"]))
    through(cloud, hosts)
    # A firewall that drops packets, until the port is opened.
    monkeypatch.setattr(reach_module, "is_reachable", lambda address, port: bool(opened))
    with Cluster.request(**GANG) as cluster:
        assert opened == []
        run(cloud.session, cluster, 0, 1)
        assert opened == [cluster.id]
        run(cloud.session, cluster, 0, 1)
        assert opened == [cluster.id]


def test_no_port_is_opened_for_private_nodes(
    cloud: FakeCloud, hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    replace_method(cloud, "open_ssh", lambda region, tags: opened.append(region))
    through(cloud, hosts)
    monkeypatch.setattr(reach_module, "is_reachable", lambda address, port: False)
    with Cluster.request(private=True, **GANG) as cluster:
        targets(cloud.session, cloud.session.ledger.cluster(cluster.id), [0, 1])
    assert opened == []


def test_a_private_node_that_cannot_be_reached_is_an_error_that_says_what_to_install(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    remedy = "install `tool` for The Tunnel (https://vendor.example/install)"
    replace_method(cloud, "access", lambda node: Access("10.0.0.4", remedy=remedy))
    monkeypatch.setattr(reach_module, "is_reachable", lambda address, port: False)
    with Cluster.request(private=True, **GANG) as cluster:
        with pytest.raises(MulticomputeError) as caught:
            targets(cloud.session, cloud.session.ledger.cluster(cluster.id), [0, 1])
        assert caught.value.hint == remedy
        assert "no public address" in caught.value.message
        # From inside of the network, and through a VPN, it is there.
        monkeypatch.setattr(reach_module, "is_reachable", lambda address, port: True)
        assert targets(cloud.session, cloud.session.ledger.cluster(cluster.id), [0])[0].host.address == "10.0.0.4"


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_request_with_a_key_fails_if_ssh_never_answers_and_leaves_nothing(cloud: FakeCloud) -> None:
    port = closed_port()
    replace_method(cloud, "access", lambda node: Access("127.0.0.1", port, USER))
    with pytest.raises(ProvisionTimeout, match=f"SSH does not answer at 127.0.0.1:{port}") as caught:
        Cluster.request(ssh_key="auto", **GANG)
    assert "ssh_from" in str(caught.value)
    assert cloud.alive() == []


def test_a_gang_in_which_one_node_does_not_answer_is_replaced_by_the_next_candidate(
    cloud: FakeCloud, hosts: list[Host]
) -> None:
    port, seen = closed_port(), list[str]()

    def access(node: Node) -> Access:
        if node.region not in seen:
            seen.append(node.region)
        if node.region == seen[0] and node.rank == 1:
            return Access("127.0.0.1", port, USER)
        return access_of(hosts[node.rank])

    replace_method(cloud, "access", access)
    with Cluster.request(ssh_key=f"{hosts[0].folder}/id.pub", attempt_timeout="1m", **GANG) as cluster:
        assert {node.region for node in cluster.nodes} == {seen[1]}
    assert cloud.alive() == []


def test_ready_means_that_one_can_log_in(cloud: FakeCloud, hosts: list[Host], home: Path) -> None:
    through(cloud, hosts)
    with Cluster.request(ssh_key=f"{hosts[0].folder}/id.pub", **GANG) as cluster:
        pins = Pins(home / ".local/share/multicompute/keys" / cluster.id).nodes()
        assert pins == {node.id: hosts[node.rank].host_key for node in cluster.nodes}


def test_a_key_that_is_not_accepted_fails_the_request(
    cloud: FakeCloud, hosts: list[Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ten minutes of real time, since a real SSH server is asked.
    monkeypatch.setattr(login, "_PATIENCE", timedelta(seconds=1))
    ensure(tmp_path / "other", "other")
    replace_method(cloud, "access", lambda node: replace(access_of(hosts[max(node.rank, 0)]), identity=""))
    with pytest.raises(ProvisionTimeout, match="nobody can log in"):
        Cluster.request(ssh_key=f"{tmp_path}/other.pub", **GANG)
    assert cloud.alive() == []


def test_a_cluster_that_was_not_waited_for_is_ready_when_ssh_answers(cloud: FakeCloud, hosts: list[Host]) -> None:
    port = closed_port()
    replace_method(cloud, "access", lambda node: Access("127.0.0.1", port, USER))
    cluster = Cluster.request(ssh_key="auto", wait=False, **GANG)
    cloud.advance("2m")
    assert cluster.refresh().state == "PROVISIONING"
    through(cloud, hosts)
    assert cluster.refresh().state == "READY"
    cluster.terminate()


def test_a_node_that_is_booting_is_waited_for(hosts: list[Host]) -> None:
    port, ended = closed_port(), asyncio.Event()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(hosts[0].address, hosts[0].port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))
        for each in (writer, inner_writer):
            with contextlib.suppress(OSError):
                await each.wait_closed()
        ended.set()

    async def boot() -> None:
        await asyncio.sleep(1)
        async with await asyncio.start_server(relay, "127.0.0.1", port):
            await ended.wait()

    target = hosts[0].target(address="127.0.0.1", port=port)
    loop = LoopThread()
    loop.start()
    booted = loop.submit(boot())
    with RemoteNodes([replace(target, patience=timedelta(minutes=1))]) as nodes:
        assert nodes.run(["echo", "up"])[0].stdout == "up\n"
    assert booted.wait(20)
    booted.result()
    loop.stop()
