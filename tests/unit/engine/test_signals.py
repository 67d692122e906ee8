"""Ctrl-C and SIGTERM at any moment of a request end in a teardown; each in a process of its own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import os, signal, sys
from multicompute import Cluster
from multicompute.testing import fake_cloud

number, when = int(sys.argv[1]), sys.argv[2]

def callback(event):
    if event.kind == when:
        os.kill(os.getpid(), number)

with fake_cloud("aws") as cloud:
    if number < 0:
        number = signal.SIGTERM
    try:
        with Cluster.request(gpus=64, type="h100", progress=callback):
            if when == "inside":
                os.kill(os.getpid(), number)
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
    script = tmp_path / "job.py"
    script.write_text(_SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(int(number)), when], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "alive 0\n", done.stderr
    assert "nothing is left running" in done.stderr
    # Python ends by SIGINT if KeyboardInterrupt is not caught.
    assert done.returncode == status
