"""Nothing is left on any node, however a run ends; and no node that is gone is waited for."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute.engine.operation.cancellation import Cancellation
from multicompute.errors import RunError, RunTimeout
from multicompute.remote.nodes import RemoteNodes
from tests.remote.hosts import WORKER, Host

ROOT = Path(__file__).parents[2]
# Its children have groups and sessions of their own, and one is deaf to signals.
STUBBORN = "setsid sleep 7100 & (trap '' TERM INT HUP; sleep 7101; sleep 7102) & sleep 7103"


def left(hosts: list[Host]) -> list[str]:
    return [line for host in hosts for line in host.commands() if "sleep 71" in line]


def wait_until(holds: Callable[[], object], seconds: float) -> float:
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < seconds
        time.sleep(0.05)
    return time.monotonic() - start


def test_a_timeout_ends_everything(nodes: RemoteNodes, hosts: list[Host]) -> None:
    start = time.monotonic()
    with pytest.raises(RunTimeout, match="still running after 1 s") as caught:
        nodes.run(STUBBORN, timeout=timedelta(seconds=1))
    assert time.monotonic() - start < 10
    assert left(hosts) == []
    assert {result.outcome for result in caught.value.results} == {"timed_out"}


def test_a_timeout_without_a_check_is_a_result(nodes: RemoteNodes, hosts: list[Host]) -> None:
    results = nodes.run("test $R = 0 || sleep 7104", timeout=timedelta(seconds=1), check=False, env=ranked)
    assert [result.outcome for result in results] == ["exited", "timed_out", "timed_out"]
    assert not any(result.is_ok for result in results[1:])
    assert left(hosts) == []


def ranked(rank: int) -> dict[str, str]:
    return {"R": str(rank)}


def test_a_cancellation_from_another_thread_ends_everything(hosts: list[Host]) -> None:
    stop = Cancellation()
    threading.Timer(1, stop.request, [RuntimeError("the task was cancelled")]).start()
    with RemoteNodes([host.target() for host in hosts], check_cancelled=stop.check) as nodes:
        with pytest.raises(RuntimeError, match="the task was cancelled"):
            nodes.run(STUBBORN)
        assert left(hosts) == []
        assert nodes.run("echo still usable")[0].stdout == "still usable\n"


CLIENT = """
import sys
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, {root!r})
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.output import PrefixedOutput
from multicompute.remote.target import SshHost, Target
targets = [Target(*args[:1], SshHost(*args[1:4], Path(args[4]), args[5])) for args in {hosts!r}]
with RemoteNodes(targets, silence=timedelta(seconds={silence})) as nodes:
    try:
        nodes.run({command!r}, output=PrefixedOutput(sys.stdout, sys.stderr))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def client(hosts: list[Host], *, command: str = STUBBORN, silence: int = 45) -> "subprocess.Popen[str]":
    """Run a command on all hosts from a process of its own; return it when the command runs."""
    known = []
    for host in hosts:
        target = host.target()
        login = target.host
        known.append((target.rank, login.address, login.port, login.user, str(login.identity), login.host_key))
    code = textwrap.dedent(CLIENT).format(root=str(ROOT), hosts=known, command=command, silence=silence)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(left(hosts)) >= 2 * len(hosts), 60)
    return process


def test_ctrl_c_ends_everything_before_the_client_ends(hosts: list[Host]) -> None:
    process = client(hosts)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert left(hosts) == []


def test_what_a_command_writes_while_it_is_ended_is_shown(hosts: list[Host]) -> None:
    command = "trap 'echo saved; exit' TERM; sleep 7105 & sleep 7106 & wait; wait"
    process = client(hosts, command=command)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=30)
    assert sorted(stdout.splitlines()) == ["[0] saved", "[1] saved", "[2] saved"]


def test_a_second_ctrl_c_does_not_wait_and_leaves_nothing_either(hosts: list[Host]) -> None:
    process = client(hosts)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    wait_until(lambda: left(hosts) == [], 20)


def test_a_killed_client_leaves_nothing(hosts: list[Host]) -> None:
    process = client(hosts)
    process.kill()
    process.communicate()
    assert wait_until(lambda: left(hosts) == [], 30) < 30


def test_a_client_that_vanished_leaves_nothing(hosts: list[Host]) -> None:
    # Nothing tells the node: its network is silent, as is a machine without power.
    process = client(hosts[:1], silence=4)
    try:
        os.kill(process.pid, signal.SIGSTOP)
        assert wait_until(lambda: left(hosts) == [], 30) < 15
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("check", [True, False])
def test_a_node_that_is_cut_off_is_an_error_within_fifteen_seconds(
    check: bool, nodes: RemoteNodes, hosts: list[Host]
) -> None:
    nodes.connect()
    cut: list[float] = []

    def cut_off() -> None:
        hosts[1].cut()
        cut.append(time.monotonic())

    threading.Timer(1, cut_off).start()
    command = "sleep 7107" if check else "test $R = 1 && sleep 7107 || sleep 4"
    if check:
        with pytest.raises(RunError) as caught:
            nodes.run(command)
        assert caught.value.rank == 1
        assert "rank 1" in str(caught.value) and "no answer for 10 s" in str(caught.value)
        results = list(caught.value.results)
    else:
        results = nodes.run(command, check=False, env=ranked)
    assert time.monotonic() - cut[0] < 15
    assert results[1].outcome == "lost" and results[1].returncode == 255
    assert left([hosts[0], hosts[2]]) == []
    hosts[1].restore()
    wait_until(lambda: left(hosts) == [], 60)


def test_a_connection_that_was_lost_is_opened_again(nodes: RemoteNodes, hosts: list[Host]) -> None:
    nodes.connect()
    # The session's own process on the host.
    results = nodes.run("kill -9 $(ps -o ppid= -p $PPID) 2>/dev/null; sleep 1", ranks=[0], check=False)
    assert results[0].outcome == "lost"
    assert nodes.run("echo back", ranks=[0])[0].stdout == "back\n"


def test_the_first_failure_ends_a_job(nodes: RemoteNodes, hosts: list[Host]) -> None:
    from multicompute.remote.command import Task

    tasks = [
        Task(rank, "test $R = 2 && { echo boom >&2; exit 9; }; " + STUBBORN, env=ranked(rank)) for rank in range(3)
    ]
    start = time.monotonic()
    with pytest.raises(RunError) as caught:
        nodes.execute(tasks, sweep=True)
    assert time.monotonic() - start < 10
    assert caught.value.rank == 2
    assert "exit status 9" in str(caught.value) and "2 other ranks were stopped" in str(caught.value)
    assert left(hosts) == []


def test_commands_in_the_background_end_with_their_block(nodes: RemoteNodes, hosts: list[Host]) -> None:
    from multicompute.remote.command import Task

    with nodes.start([Task(rank, "echo up; " + STUBBORN) for rank in range(3)]) as background:
        wait_until(lambda: len(left(hosts)) >= 9, 20)
        background.check()
        written = background.written(1)
        assert written is not None and written.stdout == "up\n"
        assert nodes.run("echo meanwhile", ranks=[1])[0].stdout == "meanwhile\n"
    assert left(hosts) == []


def test_a_command_in_the_background_that_fails_is_noticed(nodes: RemoteNodes, hosts: list[Host]) -> None:
    from multicompute.remote.command import Task

    with nodes.start([Task(0, "sleep 7108"), Task(1, "sleep 1; echo why >&2; exit 6")]) as background:
        time.sleep(3)
        with pytest.raises(RunError, match="exit status 6") as caught:
            background.check()
        assert caught.value.rank == 1
    assert left(hosts) == []


def test_what_runs_under_another_user_through_sudo_is_ended_too(hosts: list[Host]) -> None:
    if shutil.which("sudo") is None or not hosts[0].link:
        pytest.skip("needs sudo, and a host whose users are its own")
    with RemoteNodes([hosts[0].target(user=WORKER)]) as nodes:
        assert nodes.run("id -un; sudo -n id -un")[0].stdout == "worker\nroot\n"
        with pytest.raises(RunTimeout):
            # Deaf to TERM, so that sudo, which can be signalled, can't pass that on.
            nodes.run(["sudo", "-n", "sh", "-c", "trap '' TERM; sleep 7109; true"], timeout=timedelta(seconds=1))
    assert left(hosts) == []


def test_a_service_that_starts_nothing_is_not_waited_for_forever(nodes: RemoteNodes) -> None:
    from multicompute.remote.command import Task

    start = time.monotonic()
    assert nodes.execute([Task(0, "true", is_service=True)], listen=lambda task, stream, data: []) == []
    assert time.monotonic() - start < 20
