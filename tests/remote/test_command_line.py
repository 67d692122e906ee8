"""`multicompute run`, `put`, `get` and `ssh` on hosts with real SSH servers."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from multicompute.cli import main
from tests.remote.clusters import command_line, on
from tests.remote.hosts import Host

STUBBORN = "setsid sleep 7300 & (trap '' TERM INT HUP; sleep 7301; sleep 7302) & sleep 7303"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module", autouse=True)
def _cluster(hosts: list[Host]) -> Iterator[None]:
    with on(hosts):
        yield


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; return its status and output."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main(arguments)
        return status, *capfd.readouterr()

    return run


def left(hosts: list[Host]) -> list[str]:
    return [line for host in hosts for line in host.commands() if "sleep 73" in line]


def wait_until(holds: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_line_has_its_rank_in_front(run: Run) -> None:
    status, out, err = run("run", "gang", "--env", "WORD=a b", "--", "echo $WORD; echo oh >&2")
    assert status == 0
    assert sorted(out.splitlines()) == ["[0] a b", "[1] a b", "[2] a b"]
    assert sorted(err.splitlines()) == ["[0] oh", "[1] oh", "[2] oh"]


def test_several_words_are_the_arguments_of_a_program(run: Run) -> None:
    words = ["printf", "%s|", "$HOME", "a  b", "it's", "--", ""]
    assert run("run", "gang", "--rank", "1", "--", *words) == (0, "[1] $HOME|a  b|it's|--||\n", "")


def test_a_failed_rank_is_status_1_and_a_message_with_its_last_lines(run: Run) -> None:
    status, out, err = run("run", "gang", "--", "echo lost the plot >&2; exit $((MULTICOMPUTE_RANK % 2 * 2))")
    assert status == 1
    assert out == ""
    message = err.splitlines()[-1]
    assert message.startswith("multicompute: rank 1 ")
    assert "exit status 2" in message and "lost the plot" in message


def test_without_a_check_the_status_is_0_and_failed_ranks_are_named(run: Run) -> None:
    assert run("run", "gang", "--no-check", "--", "exit $((MULTICOMPUTE_RANK * 2))") == (
        0,
        "",
        "rank 1: exit status 2\nrank 2: exit status 4\n",
    )


def test_json_is_one_document_also_after_a_failure(run: Run) -> None:
    status, out, err = run("run", "gang", "--json", "--", "echo out; echo err >&2; exit $((MULTICOMPUTE_RANK % 2))")
    document: dict[str, Any] = json.loads(out)
    assert status == 1
    assert err.startswith("multicompute: rank 1 ")
    assert document["error"]["rank"] == 1
    assert [
        (result["rank"], result["returncode"], result["stdout"], result["stderr"]) for result in document["results"]
    ] == [(rank, rank % 2, "out\n", "err\n") for rank in range(3)]
    status, out, err = run("run", "gang", "--json", "--rank", "2", "--", "true")
    assert (status, err) == (0, "")
    assert json.loads(out)["error"] is None


def test_a_folder_and_stdin_are_passed_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("typed\n")
    status, out, err = run(
        "run", "gang", "--rank", "0", "--cwd", "/", "--input", str(tmp_path / "input"), "--", "pwd; cat"
    )
    assert (status, out, err) == (0, "[0] /\n[0] typed\n", "")


def test_a_timeout_is_status_1_and_leaves_nothing(run: Run, hosts: list[Host]) -> None:
    status, _, err = run("run", "gang", "--timeout", "1s", "--", STUBBORN)
    assert status == 1
    assert "still running after 1 s" in err
    assert left(hosts) == []


def test_files_go_there_and_come_back(run: Run, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a").write_text("text")
    status, out, _ = run("put", "gang", str(tmp_path / "code"), "there")
    assert (status, out.partition(" (")[0], out.rpartition(") ")[2]) == (0, "6 items", "to 3 nodes\n")
    status, out, _ = run("get", "gang", "there", str(tmp_path / "back"), "--rank", "1", "--json")
    assert status == 0
    assert [result["rank"] for result in json.loads(out)["results"]] == [1]
    assert (tmp_path / "back" / "1" / "there" / "a").read_text() == "text"
    assert not (tmp_path / "back" / "0").exists()


def test_a_file_that_is_not_there_is_an_error(run: Run, tmp_path: Path) -> None:
    assert run("put", "gang", str(tmp_path / "none"), "x")[0] == 2
    status, _, err = run("get", "gang", "none", str(tmp_path))
    assert status == 1
    assert "rank 0" in err and "none" in err


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no OpenSSH client here")
def test_ssh_is_the_client_of_this_machine_with_the_pinned_key(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("multicompute.engine.running.shell.cluster_folder", lambda session, cluster_id: tmp_path)
    done: list[subprocess.CompletedProcess[str]] = []

    def execute(file: str, words: list[str]) -> None:
        done.append(subprocess.run(words, capture_output=True, text=True, check=False, timeout=60))

    monkeypatch.setattr("os.execvp", execute)
    main(["ssh", "gang", "2", "--", "printf", "%s|", "a  b", "$HOME"])
    assert (done[0].returncode, done[0].stdout) == (0, "a  b|$HOME|"), done[0].stderr
    assert hosts[2].host_key in (tmp_path / "known_hosts-2").read_text()


def test_ctrl_c_ends_the_remote_processes_and_is_status_130(hosts: list[Host]) -> None:
    process = command_line(hosts, "run", "gang", "--", STUBBORN)
    wait_until(lambda: len(left(hosts)) >= 9, 120)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "multicompute: interrupted"
    assert left(hosts) == []


def test_sigterm_ends_the_remote_processes(hosts: list[Host]) -> None:
    process = command_line(hosts, "run", "gang", "--", STUBBORN)
    wait_until(lambda: len(left(hosts)) >= 9, 120)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert left(hosts) == []


def test_a_client_that_is_killed_leaves_nothing_on_the_nodes(hosts: list[Host]) -> None:
    process = command_line(hosts, "run", "gang", "--", STUBBORN)
    wait_until(lambda: len(left(hosts)) >= 9, 120)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: left(hosts) == [], 60)


def test_a_reader_that_closed_the_output_ends_the_command(hosts: list[Host]) -> None:
    process = command_line(hosts, "run", "gang", "--", "while sleep 0.1; do echo line; done & sleep 7304")
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().endswith("] line\n")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=60) == 141, err
    assert left(hosts) == []
    process.stderr.close()
