"""Ctrl-C, SIGTERM, SIGHUP and the end of the interpreter, at any moment, end in a teardown; each in a process of its own."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

_SCRIPT = """
import os, signal, sys
from multicompute import Cluster
from multicompute.testing import fake_cloud

# The runner of the tests may ignore it, and a child inherits that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
numbers, when = [int(number) for number in sys.argv[1].split(",")], sys.argv[2]

def send_signals():
    for number in numbers:
        os.kill(os.getpid(), number)

def callback(event):
    if event.kind == when:
        send_signals()

with fake_cloud("aws") as cloud:
    try:
        with Cluster.request(gpus=64, type="h100", progress=callback):
            if when == "inside":
                send_signals()
            while True:
                cloud.clock.sleep(cloud.aws.poll_interval)
                signal.pause()
    finally:
        print("alive", len(cloud.alive()), flush=True)
"""


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -signal.SIGINT)],
    ids=["SIGTERM", "SIGHUP", "Ctrl-C"],
)
@pytest.mark.parametrize("when", ["requested", "attempt", "launched", "waiting", "ready", "inside"])
def test_a_signal_ends_in_a_teardown_and_is_reported(
    tmp_path: Path, number: signal.Signals, status: int, when: str
) -> None:
    done = run(tmp_path, str(int(number)), when)
    assert done.stdout == "alive 0\n", done.stderr
    assert "nothing is left running" in done.stderr
    # Python ends by SIGINT if KeyboardInterrupt is not caught.
    assert done.returncode == status


@pytest.mark.parametrize("when", ["launched", "inside"])
def test_a_process_started_with_sigint_ignored_goes_on_after_sigint_and_tears_down_on_sigterm(
    tmp_path: Path, when: str
) -> None:
    """A shell without job control starts `python job.py &` in this way, so that Ctrl-C does not reach it."""
    signals = f"{int(signal.SIGINT)},{int(signal.SIGTERM)}"
    done = run(tmp_path, signals, when, before=("sh", "-c", "trap '' INT; exec \"$@\"", "sh"))
    assert done.stdout == "alive 0\n", done.stderr
    assert done.returncode == 143


def run(tmp_path: Path, signals: str, when: str, *, before: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    """Run a job that sends signals to itself at an event of its request, or inside its block."""
    return run_script(tmp_path, _SCRIPT, signals, when, before=before)


def run_script(
    tmp_path: Path, text: str, *arguments: str, before: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run a script in a process of its own."""
    script = tmp_path / "job.py"
    script.write_text(text)
    command = [*before, sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


_PAIRS = """
import os, signal, sys
from multicompute import Cluster
from multicompute.testing import fake_cloud

signals, when = [int(number) for number in sys.argv[1].split(",")], sys.argv[2]
signal.signal(signal.SIGHUP, signal.SIG_DFL)

def send_all(*_):
    for number in signals:
        os.kill(os.getpid(), number)

def callback(event):
    if event.kind == when:
        send_all()

with fake_cloud("aws") as cloud:
    try:
        with Cluster.request(gpus=64, type="h100", progress=callback):
            try:
                if when == "inside":
                    os.kill(os.getpid(), signals[0])
            finally:
                # While the block is being left, before the teardown begins.
                for number in signals[1:]:
                    os.kill(os.getpid(), number)
                cloud.aws.faults.hook("terminate", lambda call: os.kill(os.getpid(), signal.SIGHUP))
    finally:
        print("alive", len(cloud.alive()), flush=True)
"""


@pytest.mark.parametrize("when", ["attempt", "waiting", "inside"])
@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGHUP, signal.SIGHUP),
        (signal.SIGHUP, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGHUP),
        (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM),
    ],
    ids=lambda signals: "+".join(number.name for number in signals),
)
def test_the_signals_of_a_closed_session_count_as_one(
    tmp_path: Path, signals: tuple[signal.Signals, ...], when: str
) -> None:
    # The kernel and the shell both send SIGHUP when a terminal closes, and the end of a login session adds SIGTERM.
    done = run_script(tmp_path, _PAIRS, ",".join(str(int(number)) for number in signals), when)
    assert done.stdout == "alive 0\n", done.stderr
    assert done.returncode in (128 + signal.SIGHUP, 128 + signal.SIGTERM)


def test_the_signals_of_a_kernel_that_is_shut_down_end_in_a_teardown(tmp_path: Path) -> None:
    # Jupyter sends SIGINT, then SIGTERM to a kernel that still works.
    script = """
import os, signal
from multicompute import Cluster
from multicompute.testing import fake_cloud

with fake_cloud("aws") as cloud:
    terms = [signal.SIGTERM]
    cloud.aws.faults.hook("terminate", lambda call: terms and os.kill(os.getpid(), terms.pop()))
    try:
        with Cluster.request(gpus=64, type="h100"):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        print("alive", len(cloud.alive()), flush=True)
"""
    done = run_script(tmp_path, script)
    assert (done.returncode, done.stdout) == (143, "alive 0\n"), done.stderr


def test_an_ignored_hangup_stays_ignored(tmp_path: Path) -> None:
    script = """
import os, signal
from multicompute import Cluster
from multicompute.testing import fake_cloud

signal.signal(signal.SIGHUP, signal.SIG_IGN)
hang_up = lambda *_: os.kill(os.getpid(), signal.SIGHUP)
with fake_cloud("aws") as cloud:
    with Cluster.request(gpus=64, type="h100", progress=hang_up) as cluster:
        hang_up()
        print(cluster.state, len(cluster.nodes), flush=True)
    print("alive", len(cloud.alive()))
"""
    done = run_script(tmp_path, script)
    assert (done.returncode, done.stdout) == (0, "READY 8\nalive 0\n"), done.stderr


def test_blocks_that_are_left_in_another_order_stay_guarded(tmp_path: Path) -> None:
    script = """
import os, signal
from multicompute import Cluster
from multicompute.testing import fake_cloud

with fake_cloud("aws") as cloud:
    first, second = (Cluster.request(gpus=8, type="h100", name=name) for name in ("first", "second"))
    first.__enter__()
    try:
        with second:
            first.__exit__(None, None, None)
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        print("alive", len(cloud.alive()), flush=True)
"""
    done = run_script(tmp_path, script)
    assert (done.returncode, done.stdout) == (143, "alive 0\n"), done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("when", ["request", "block"])
def test_a_signal_ends_an_event_loop_after_the_teardown(tmp_path: Path, number: signal.Signals, when: str) -> None:
    script = """
import asyncio, os, signal, sys
from multicompute import Cluster
from multicompute.testing import fake_cloud

number, when = int(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGHUP, signal.SIG_DFL)

def callback(event):
    if event.kind == "launched" and when == "request":
        os.kill(os.getpid(), number)

async def main():
    async with await Cluster.arequest(gpus=64, type="h100", progress=callback):
        if when == "block":
            os.kill(os.getpid(), number)
        await asyncio.Event().wait()

with fake_cloud("aws") as cloud:
    try:
        asyncio.run(main())
    finally:
        print("alive", len(cloud.alive()), flush=True)
"""
    done = run_script(tmp_path, script, str(int(number)), when)
    assert (done.returncode, done.stdout) == (128 + number, "alive 0\n"), done.stderr


_DAEMON = """
import sys, threading
from contextlib import ExitStack
from multicompute import Cluster
from multicompute.testing import fake_cloud

kind = sys.argv[1]
reached, never = threading.Event(), threading.Event()

def callback(event):
    if kind == "request" and event.kind == "launched":
        reached.set()
        # The interpreter exits now: the request is stopped at its next safe point.
        threading.main_thread().join()

def work():
    with Cluster.request(gpus=64, type="h100", name="train-1", progress=callback):
        reached.set()
        never.wait()

stack = ExitStack()
cloud = stack.enter_context(fake_cloud("aws"))

import atexit

def report():
    print("alive", len(cloud.alive()), Cluster.get("train-1").state, flush=True)
    stack.close()

# Exit hooks run in reverse order: this one is the last.
atexit.register(report)
thread = threading.Thread(target=work, daemon=True)
thread.start()
reached.wait()
if sys.argv[2] == "error":
    raise ZeroDivisionError
"""


@pytest.mark.parametrize("end", ["end", "error"])
@pytest.mark.parametrize(("kind", "state"), [("request", "FAILED"), ("block", "TERMINATED")])
def test_a_daemon_thread_leaves_nothing_when_the_interpreter_exits(
    tmp_path: Path, kind: str, state: str, end: str
) -> None:
    done = run_script(tmp_path, _DAEMON, kind, end)
    assert done.stdout == f"alive 0 {state}\n", done.stderr
    assert done.returncode == (1 if end == "error" else 0)


def test_a_forked_child_does_not_terminate_the_cluster_of_its_parents_thread(tmp_path: Path) -> None:
    script = """
import os, sys, threading
from multicompute import Cluster
from multicompute.testing import fake_cloud

with fake_cloud("aws") as cloud:
    opened, closing = threading.Event(), threading.Event()

    def work():
        with Cluster.request(gpus=64, type="h100"):
            opened.set()
            closing.wait()

    thread = threading.Thread(target=work)
    thread.start()
    opened.wait()
    child = os.fork()
    if child == 0:
        # Runs the exit hooks, in contrast to os._exit.
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    print("child", os.waitstatus_to_exitcode(status), "alive", len(cloud.aws.running_ids()), flush=True)
    closing.set()
    thread.join()
    print("alive", len(cloud.alive()))
"""
    done = run_script(tmp_path, script)
    assert done.stdout == "child 0 alive 8\nalive 0\n", done.stderr


def test_a_system_without_hangups_is_no_error(tmp_path: Path) -> None:
    script = """
import os, signal
del signal.SIGHUP
from multicompute import Cluster
from multicompute.testing import fake_cloud

with fake_cloud("aws") as cloud:
    try:
        with Cluster.request(gpus=8, type="h100"):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        print("alive", len(cloud.alive()), flush=True)
"""
    done = run_script(tmp_path, script)
    assert (done.returncode, done.stdout) == (143, "alive 0\n"), done.stderr
