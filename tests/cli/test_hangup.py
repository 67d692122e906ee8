"""A terminal that is closed while a command works: SIGHUP, and output that can't be written any more."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.cli.processes import SCRIPT
from tests.cli.terminal import PYTHON, Terminal
from tests.cli.test_local import answers

HANGUP = 128 + signal.SIGHUP

_FAKE = """
import json, select, signal, socket, sys
from pathlib import Path
from multicompute import Cluster
from multicompute.cli import main
from multicompute.testing import fake_cloud

note = Path(sys.argv[1])
received, wakeup = socket.socketpair()
wakeup.setblocking(False)
signal.set_wakeup_fd(wakeup.fileno())
is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
left = ["once"]

def closed(call=None):
    # Wait, once, until the test has closed the terminal and the signal has arrived.
    if left:
        left.clear()
        print("WAITING", flush=True)
        hangup = select.poll()
        hangup.register(0, 0)
        hangup.poll()
        if not is_ignored:
            received.recv(1)

with fake_cloud("aws") as cloud:
    try:
{body}
    finally:
        state = {{c.name: c.state.value for c in Cluster.list(include_ended=True)}}
        note.write_text(json.dumps({{"running": len(cloud.aws.running_ids()), "states": state}}))
"""


@pytest.fixture(name="note")
def _note(tmp_path: Path) -> Path:
    return tmp_path / "note.json"


def run_and_close(note: Path, body: str, *, ignored: bool = False) -> tuple[int, dict[str, object]]:
    """Run `body` on a fake cloud in a terminal, close the terminal when it waits, and return its status and its note."""
    script = note.with_name("job.py")
    script.write_text(_FAKE.format(body="\n".join(f"        {line}" for line in body.strip().splitlines())))
    with Terminal([PYTHON, str(script), str(note)], environment=dict(os.environ), ignored=ignored) as terminal:
        terminal.read_until("WAITING")
        terminal.close()
        status = terminal.process.wait()
    return status, json.loads(note.read_text())


UP = '["up", "--gpus", "16", "--type", "h100", "--name", "train-1", "--yes"]'


def test_up_rolls_back_what_comes_up_when_its_terminal_is_closed(note: Path) -> None:
    status, left = run_and_close(note, f'cloud.aws.faults.hook("nodes", closed)\nsys.exit(main({UP}))')
    assert (status, left) == (HANGUP, {"running": 0, "states": {"train-1": "FAILED"}})


def test_up_under_nohup_finishes_although_its_progress_cannot_be_shown(note: Path) -> None:
    status, left = run_and_close(note, f'cloud.aws.faults.hook("nodes", closed)\nsys.exit(main({UP}))', ignored=True)
    assert left == {"running": 2, "states": {"train-1": "READY"}}
    assert status == 141


def test_a_with_block_is_left_and_its_cluster_terminated(note: Path) -> None:
    body = 'with Cluster.request(gpus=16, type="h100", name="train-1"):\n    closed()'
    status, left = run_and_close(note, body)
    assert (status, left) == (HANGUP, {"running": 0, "states": {"train-1": "TERMINATED"}})


def test_down_finishes_a_teardown_in_progress(note: Path) -> None:
    body = f"""
main({UP})
cloud.aws.faults.hook("terminate", closed)
sys.exit(main(["down", "train-1", "--yes"]))
"""
    status, left = run_and_close(note, body)
    assert (status, left) == (HANGUP, {"running": 0, "states": {"train-1": "TERMINATED"}})


def test_down_terminates_the_other_clusters_although_it_cannot_print(note: Path) -> None:
    body = f"""
main({UP})
main(["up", "--gpus", "8", "--type", "h100", "--name", "train-2", "--yes"])
cloud.aws.faults.hook("terminate", closed)
sys.exit(main(["down", "train-1", "train-2", "--yes"]))
"""
    status, left = run_and_close(note, body, ignored=True)
    assert left == {"running": 0, "states": {"train-1": "TERMINATED", "train-2": "TERMINATED"}}
    assert status == 141


@pytest.mark.parametrize(("command", "expected"), [("watch", HANGUP), ("supervise", 0)])
def test_a_command_that_runs_until_it_is_stopped_stops(note: Path, command: str, expected: int) -> None:
    name = ', "train-1"' if command == "watch" else ""
    body = f"""
main({UP})
cloud.aws.faults.hook("nodes", closed)
sys.exit(main(["{command}"{name}]))
"""
    status, left = run_and_close(note, body)
    assert (status, left) == (expected, {"running": 2, "states": {"train-1": "READY"}})


def test_local_stops_its_clouds() -> None:
    with Terminal([SCRIPT, "local"], environment=dict(os.environ)) as terminal:
        printed = terminal.read_until("Ctrl-C stops them")
        url = next(word for word in printed.split() if word.startswith("AWS_ENDPOINT_URL=")).split("=", 1)[1]
        assert answers(url)
        terminal.close()
        assert terminal.process.wait() == HANGUP
    assert not answers(url)


def test_local_ends_its_command_before_its_clouds() -> None:
    # The terminal tells the command as well; this one does not listen.
    script = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "print('STARTED', os.getpid(), os.environ['AWS_ENDPOINT_URL'], 'DONE', flush=True); signal.pause()"
    )
    with Terminal([SCRIPT, "local", "--", PYTHON, "-c", script], environment=dict(os.environ)) as terminal:
        pid, url = terminal.read_until("DONE").split("STARTED")[1].split()[:2]
        terminal.close()
        assert terminal.process.wait() == HANGUP
    assert not answers(url)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
