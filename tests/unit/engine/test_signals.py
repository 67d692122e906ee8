"""Ctrl-C and SIGTERM at any moment of a request end in a teardown; each in a process of its own."""

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
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)], ids=["SIGTERM", "Ctrl-C"]
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


def run(tmp_path: Path, signals: str, when: str, *, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run a job that sends signals to itself at an event of its request, or inside its block."""
    script = tmp_path / "job.py"
    script.write_text(_SCRIPT)
    command = [*before, sys.executable, str(script), signals, when]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
