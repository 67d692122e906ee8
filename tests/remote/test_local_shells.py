"""Nodes of local clouds, reached through `Cluster` and through what finds the way to them."""

import json
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from multicompute import Cluster, errors
from multicompute.config import apply_environment
from multicompute.errors import HostKeyError, MulticomputeError
from multicompute.provider_kit.access import LOCAL_SHELL, local_access
from multicompute.remote.keys import ensure
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.pins import Pins
from multicompute.remote.places import cluster_folder
from multicompute.remote.reach import addresses, pin, reach, targets
from multicompute.session import open_session
from multicompute.testing import LocalClouds, local_clouds
from multicompute.testing.local import shells as local_shells
from tests.remote.hosts import missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

GANG: Mapping[str, Any] = {"gpus": 16, "type": "h100"}
CLOUDS: Mapping[str, Mapping[str, Any]] = {
    "aws": GANG,
    "gcp": GANG,
    "azure": GANG,
    "slices": {"gpus": 16, "type": "v5p"},
}


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    home.mkdir()
    with apply_environment({"HOME": str(home), "XDG_DATA_HOME": str(tmp_path / "data")}):
        yield home


@pytest.fixture(name="clouds")
def _clouds(home: Path) -> Iterator[LocalClouds]:
    with local_clouds("aws") as clouds:
        yield clouds
        open_session().close()


def folder(cluster: Cluster) -> Path:
    found = cluster_folder(open_session(), cluster.id)
    assert found is not None
    return found


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_key_pair_is_made_for_a_cluster_whose_request_names_none(home: Path, cloud: str) -> None:
    provider = "gcp" if cloud == "slices" else cloud
    with local_clouds(provider):
        with Cluster.request(clouds=[provider], **CLOUDS[cloud]) as cluster:
            results = cluster.run('echo "$MULTICOMPUTE_RANK"; pwd')
            key = folder(cluster) / "id_ed25519"
            assert stat.S_IMODE(key.stat().st_mode) == 0o600
            assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
            assert [result.stdout.split()[0] for result in results] == [str(rank) for rank in range(len(results))]
            assert len({result.stdout.split()[1] for result in results}) == len(results) > 1
        assert not folder(cluster).exists()
        open_session().close()


def test_with_ssh_key_auto_ready_means_that_one_can_log_in(clouds: LocalClouds) -> None:
    with Cluster.request(clouds=["aws"], ssh_key="auto", **GANG) as cluster:
        record = open_session().ledger.cluster(cluster.id)
        # Pinned, so they were logged in to before READY.
        assert set(Pins(folder(cluster)).nodes()) == {node.id for node in cluster.nodes}
        with RemoteNodes(targets(open_session(), record, [0, 1])) as nodes:
            nodes.connect()


def test_the_users_own_key_is_used_and_stays(clouds: LocalClouds, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    ensure(mine, "me")
    with Cluster.request(clouds=["aws"], ssh_key=f"{mine}.pub", **GANG) as cluster:
        assert [result.stdout for result in cluster.run(["echo", "hello"])] == ["hello\n"] * 2
        assert not (folder(cluster) / "id_ed25519").exists()
    assert mine.exists()


def test_a_changed_host_key_is_refused(clouds: LocalClouds) -> None:
    with Cluster.request(clouds=["aws"], **GANG) as cluster:
        cluster.run(["true"])
        other = ensure(folder(cluster) / "other", "other").public
        pinned = folder(cluster) / "known_hosts"
        lines = pinned.read_text().splitlines()
        assert stat.S_IMODE(pinned.stat().st_mode) == 0o600
        node = cluster.nodes[1].id
        pinned.write_text(
            "".join(f"{node} {other}\n" if line.startswith(f"{node} ") else f"{line}\n" for line in lines)
        )
        with pytest.raises(HostKeyError) as caught:
            cluster.run(["true"])
        assert caught.value.rank == 1


def test_the_first_pin_of_a_node_holds(clouds: LocalClouds) -> None:
    with Cluster.request(clouds=["aws"], **GANG) as cluster:
        record = open_session().ledger.cluster(cluster.id)
        pin(open_session(), record, {0: "ssh-ed25519 AAAAfirst"})
        pin(open_session(), record, {0: "ssh-ed25519 AAAAsecond"}, {"me@jump": "ssh-ed25519 AAAAjump"})
        pins = Pins(folder(cluster))
        assert pins.nodes() == {cluster.nodes[0].id: "ssh-ed25519 AAAAfirst"}
        assert pins.jump_hosts() == {"me@jump": "ssh-ed25519 AAAAjump"}


def test_a_key_that_was_made_on_another_machine_is_named(clouds: LocalClouds) -> None:
    with Cluster.request(clouds=["aws"], **GANG) as cluster:
        (folder(cluster) / "id_ed25519").unlink()
        with pytest.raises(MulticomputeError, match="on the machine that requested it"):
            cluster.run(["true"])


def test_a_node_that_replaces_a_lost_one_has_the_same_key(clouds: LocalClouds) -> None:
    with Cluster.request(clouds=["aws"], **GANG) as cluster:
        cluster.run(["true"])
        clouds["aws"].terminate_node(cluster.nodes[1].id)
        cluster.refresh()
        cluster.heal()
        assert [result.returncode for result in cluster.run(["true"])] == [0, 0]


def test_the_shell_of_a_node_ends_with_the_node(clouds: LocalClouds) -> None:
    with Cluster.request(clouds=["aws"], **GANG) as cluster:
        cluster.run(["true"])
        record = open_session().ledger.cluster(cluster.id)
        (target,) = targets(open_session(), record, [1])
        clouds["aws"].terminate_node(cluster.nodes[1].id)

        def is_closed() -> bool:
            with RemoteNodes([target]) as nodes:
                try:
                    nodes.connect()
                except errors.RunError:
                    return True
            return False

        assert eventually(is_closed)
        found = reach(open_session(), record, [cluster.nodes[1]])
        assert "does not run" in str(found[0].why_not)


def test_what_runs_on_a_node_ends_when_the_local_cloud_stops(home: Path, tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    with local_clouds("aws"):
        cluster = Cluster.request(clouds=["aws"], **GANG)
        cluster.run(f"nohup sh -c 'while :; do date +%N > {mark}; sleep 0.1; done' > /dev/null 2>&1 &", ranks=[0])
        assert eventually(mark.exists)
        open_session().close()
    before = mark.read_text()
    time.sleep(1)
    assert mark.read_text() == before


def test_without_sshd_a_local_cloud_has_no_shell(clouds: LocalClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine on which it is not installed.
    monkeypatch.setattr(local_shells, "_program", lambda name: None)
    with Cluster.request(clouds=["aws"], ssh_key="auto", **GANG) as cluster:
        assert cluster.state == "READY"
        with pytest.raises(MulticomputeError, match="no shell in this local cloud: sshd is not installed"):
            cluster.run(["true"])


def test_another_emulator_has_no_shell(clouds: LocalClouds) -> None:
    assert local_access(f"{clouds['aws'].endpoint_url}/nowhere", "i-1").problem == "no shell in this local cloud"


def test_a_web_page_of_another_host_name_starts_no_shell(clouds: LocalClouds) -> None:
    request = urllib.request.Request(f"{clouds['aws'].endpoint_url}{LOCAL_SHELL}i-1", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)


def test_nodes_of_a_local_cloud_reach_each_other_at_loopback_addresses(clouds: LocalClouds) -> None:
    with Cluster.request(clouds=["aws"], **GANG) as cluster:
        nodes = open_session().ledger.nodes(cluster.id)
        assert set(addresses(open_session(), nodes).values()) == {"127.0.0.1"}
        record = open_session().ledger.cluster(cluster.id)
        assert all(target.patience > timedelta(0) for target in targets(open_session(), record, [0, 1]))
        cluster.run(["true"])
        assert all(target.patience == timedelta(0) for target in targets(open_session(), record, [0, 1]))


def test_the_public_key_of_a_cluster_is_in_the_ledger_and_the_private_one_is_not(clouds: LocalClouds) -> None:
    with Cluster.request(clouds=["aws"], **GANG) as cluster:
        events = json.dumps([dict(event.data) for event in open_session().ledger.events(cluster.id)])
        public = (folder(cluster) / "id_ed25519.pub").read_text().split()[1]
        assert public in events and "PRIVATE" not in events
