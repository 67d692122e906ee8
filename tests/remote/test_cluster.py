"""`Cluster.run`, `put`, `get`, `env` and `hostfile` on hosts with real SSH servers."""

import asyncio
import io
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from multicompute import Cluster, errors
from multicompute.remote.launchers import job
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.places import cluster_folder
from multicompute.remote.results import RunResult
from multicompute.session import open_session
from tests.remote.clusters import on, up
from tests.remote.hosts import Host

SECRET = '$HOME "it\'s" `id` \\ * \n!~ \N{SNOWMAN}'


@pytest.fixture(name="cluster", scope="module")
def _cluster(hosts: list[Host]) -> Iterator[Cluster]:
    with on(hosts) as cluster:
        yield cluster


def left(hosts: list[Host], text: str) -> list[str]:
    return [line for host in hosts for line in host.commands() if text in line]


def test_a_command_runs_on_all_nodes_and_its_output_is_streamed_with_the_rank(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    results = cluster.run("echo here; echo there >&2")
    assert [(result.rank, result.returncode, result.stdout, result.stderr) for result in results] == [
        (rank, 0, "here\n", "there\n") for rank in range(3)
    ]
    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == ["[0] here", "[1] here", "[2] here"]
    assert sorted(err.splitlines()) == ["[0] there", "[1] there", "[2] there"]


def test_output_goes_to_a_function_a_stream_or_nowhere(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[tuple[int, str, str]] = []
    cluster.run("echo x", ranks=1, stream=lambda rank, stream, line: lines.append((rank, stream, line)))
    assert lines == [(1, "stdout", "x")]
    text = io.StringIO()
    cluster.run("echo x", ranks=1, stream=text)
    assert text.getvalue() == "[1] x\n"
    cluster.run("echo x", stream=False)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(errors.SpecError, match="stream=3"):
        cluster.run("echo x", stream=3)  # type: ignore[arg-type] # what a user may pass by mistake


def test_arguments_environment_folder_and_input_arrive_unchanged(cluster: Cluster) -> None:
    cluster.run(["mkdir", "-p", SECRET], stream=False)
    script = 'printf "%s|" "$1" "$VALUE" "$(basename "$PWD")"; cat'
    results = cluster.run(
        ["sh", "-c", script, "sh", SECRET],
        env={"VALUE": SECRET, "MULTICOMPUTE_CLUSTER": "mine"},
        cwd=SECRET,
        input=SECRET,
        stream=False,
    )
    assert [result.stdout for result in results] == [f"{SECRET}|{SECRET}|{SECRET}|{SECRET}"] * 3


def test_every_rank_gets_its_variables(cluster: Cluster) -> None:
    names = ("RANK", "NODES", "GPUS_PER_NODE", "HEAD_ADDR", "NODE_ADDRS", "CLUSTER")
    results = cluster.run(f"echo {' '.join(f'$MULTICOMPUTE_{name}' for name in names)}", stream=False)
    addresses = [node.private_ip for node in cluster.nodes]
    assert [result.stdout.split() for result in results] == [
        [str(rank), "3", "8", addresses[0], ",".join(map(str, addresses)), "gang"] for rank in range(3)
    ]
    for rank in range(3):
        env = cluster.env(rank)
        assert {name: env[f"MULTICOMPUTE_{name}"] for name in names} == dict(
            zip(names, results[rank].stdout.split(), strict=True)
        )


def test_the_variables_of_the_fabric_are_those_of_the_node(cluster: Cluster, hosts: list[Host]) -> None:
    if not hosts[0].link:
        pytest.skip("hosts that share this machine have no interface of their own")
    assert cluster.env(1)["GLOO_SOCKET_IFNAME"] == "eth0"
    assert "GLOO_SOCKET_IFNAME" not in cluster.env(1, fabric=False)
    (result,) = cluster.run("echo $GLOO_SOCKET_IFNAME", ranks=[2], stream=False)
    assert result.stdout == "eth0\n"
    (result,) = cluster.run("echo $GLOO_SOCKET_IFNAME", ranks=[2], env={"GLOO_SOCKET_IFNAME": "mine"}, stream=False)
    assert result.stdout == "mine\n"


def test_what_a_node_has_is_found_out_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests have run commands on the nodes of this cluster.
    folder = cluster_folder(open_session(), cluster.id)
    assert folder is not None
    (folder / "nodes.json").unlink(missing_ok=True)
    cluster = Cluster.get(cluster.name)
    cluster.run("true", ranks=[0, 1], stream=False)
    asked: list[int] = []

    def ask(nodes: RemoteNodes, ranks: Sequence[int]) -> tuple[dict[int, str], list[RunResult]]:
        asked.extend(ranks)
        return job.probe_all(nodes, ranks)

    monkeypatch.setattr("multicompute.engine.running.on_nodes.probe_all", ask)
    cluster.run("true", stream=False)
    assert asked == [2]


def test_a_failed_rank_is_an_error_that_can_be_caught_as_ours(cluster: Cluster) -> None:
    with pytest.raises(errors.RunError, match=r"rank 1 .*exit status 3.*\n.*wrong") as caught:
        cluster.run("test $MULTICOMPUTE_RANK != 1 || { echo wrong >&2; exit 3; }", stream=False)
    assert isinstance(caught.value, errors.MulticomputeError)
    assert caught.value.rank == 1
    assert [result.returncode for result in caught.value.results] == [0, 3, 0]
    results = cluster.run("exit $MULTICOMPUTE_RANK", check=False, stream=False)
    assert [result.returncode for result in results] == [0, 1, 2]


def test_a_timeout_ends_the_command_on_all_nodes(cluster: Cluster, hosts: list[Host]) -> None:
    with pytest.raises(errors.RunTimeout) as caught:
        cluster.run("sleep 7201 & setsid sleep 7202", timeout="1s", stream=False)
    assert isinstance(caught.value, TimeoutError)
    assert left(hosts, "sleep 7201") + left(hosts, "sleep 7202") == []


def test_a_cancelled_task_ends_the_command_on_all_nodes(cluster: Cluster, hosts: list[Host]) -> None:
    async def main() -> None:
        task = asyncio.create_task(cluster.arun("sleep 7203", stream=False))
        while len(left(hosts, "sleep 7203")) < 3:
            await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert left(hosts, "sleep 7203") == []


def test_the_twins_do_the_same_in_an_event_loop(cluster: Cluster, tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "here").write_text("text")
        await cluster.aput(tmp_path / "here", "twin")
        results = await cluster.arun(["cat", "twin"], stream=False)
        assert [result.stdout for result in results] == ["text"] * 3
        await cluster.aget("twin", tmp_path / "back", ranks=[2])
        assert (await cluster.aenv(1))["MULTICOMPUTE_RANK"] == "1"

    asyncio.run(main())
    assert (tmp_path / "back" / "2" / "twin").read_text() == "text"


def test_files_go_to_the_nodes_and_come_back_in_a_folder_for_each_rank(cluster: Cluster, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text("print('hello')")
    assert [copied.rank for copied in cluster.put(code, "copied")] == [0, 1, 2]
    cluster.run("echo $MULTICOMPUTE_RANK >copied/log", stream=False)
    assert [copied.rank for copied in cluster.get("copied", tmp_path / "back")] == [0, 1, 2]
    for rank in range(3):
        folder = tmp_path / "back" / str(rank) / "copied"
        assert (folder / "log").read_text() == f"{rank}\n"
        assert (folder / "train.py").read_text() == "print('hello')"


def test_a_cluster_is_still_found_by_its_name(cluster: Cluster) -> None:
    assert Cluster.get("gang").id == cluster.id
    assert Cluster.get(name="gang").id == cluster.id


def test_a_host_file_has_all_nodes(cluster: Cluster) -> None:
    addresses = [str(node.private_ip) for node in cluster.nodes]
    assert cluster.hostfile().splitlines() == [f"{address} slots=8" for address in addresses]
    assert cluster.hostfile("mpich", slots=2).splitlines() == [f"{address}:2" for address in addresses]
    assert cluster.hostfile("plain").splitlines() == addresses
    with pytest.raises(errors.SpecError, match="style='slurm'"):
        cluster.hostfile("slurm")  # type: ignore[arg-type] # what a user may pass by mistake


def test_a_rank_that_does_not_exist_is_refused(cluster: Cluster) -> None:
    for ask in (
        lambda: cluster.run("true", ranks=[0, 7]),
        lambda: cluster.env(7),
        lambda: cluster.put(".", "x", ranks=7),
    ):
        with pytest.raises(errors.SpecError, match=r"gang: has no rank 7.*0 to 2"):
            ask()


def test_a_node_that_is_cut_off_is_an_error_that_names_it_within_fifteen_seconds(
    cluster: Cluster, hosts: list[Host]
) -> None:
    cut: list[float] = []

    def cut_off() -> None:
        while len(left(hosts, "sleep 7204")) < 3:
            time.sleep(0.1)
        hosts[1].cut()
        cut.append(time.monotonic())

    thread = threading.Thread(target=cut_off)
    thread.start()
    with pytest.raises(errors.RunError, match="rank 1 .*no answer") as caught:
        cluster.run("sleep 7204", stream=False)
    took = time.monotonic() - cut[0]
    thread.join()
    assert took < 15
    assert caught.value.rank == 1
    assert left([hosts[0], hosts[2]], "sleep 7204") == []


def test_a_node_that_does_not_answer_is_an_error_or_a_result(hosts: list[Host]) -> None:
    targets = [host.target() for host in hosts]
    targets[1] = hosts[1].target(port=1)
    with up(targets, name="refusing") as refusing:
        with pytest.raises(errors.RunError, match="rank 1 .*nothing was started") as caught:
            refusing.run("touch started", stream=False)
        assert [result.outcome for result in caught.value.results] == ["not_started", "unreachable", "not_started"]
        results = refusing.run("ls started 2>/dev/null; true", check=False, stream=False)
    assert [(result.returncode, result.stdout) for result in results] == [(0, ""), (255, ""), (0, "")]


def test_nothing_runs_on_a_cluster_that_has_ended(hosts: list[Host]) -> None:
    with on(hosts) as cluster:
        cluster.terminate()
        for ask in (lambda: cluster.run("true"), lambda: cluster.env(0), cluster.hostfile):
            with pytest.raises(errors.ClusterNotFound, match="gang: nothing can run on it: it is TERMINATED"):
                ask()
