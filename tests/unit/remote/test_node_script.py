"""The script that watches over a command on its node, run by bash and by dash without SSH."""

import re
import shutil
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute.remote.command import Task
from tests.unit.remote.local_node import folder_without_bash, marked, run, session, wait_until_marked

# Each starts processes in its own way; the number is how many of them there are.
KINDS = {
    "plain": ("sleep 300", 1),
    "tree": ("sh -c 'sleep 300 & sleep 301 & wait'; true", 3),
    "deaf to signals": ("trap '' INT HUP TERM; sleep 300; sleep 301", 1),
    "own session": ("setsid sleep 300 & setsid sleep 301 & wait", 2),
    "daemon": ("setsid sh -c 'setsid sleep 300 & setsid sleep 301 & exit' & sleep 302", 3),
}


@pytest.fixture(params=["bash", "no bash"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    if request.param == "bash":
        if shutil.which("bash") is None:
            pytest.skip("no bash here")
        return None
    return folder_without_bash(tmp_path)


@pytest.fixture
def token() -> str:
    return uuid.uuid4().hex


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_when_the_client_lets_go(kind: str, path: str | None, token: str) -> None:
    command, count = KINDS[kind]
    with session(Task(0, command), token=token, path=path) as process:
        wait_until_marked(token, count)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(15)
        assert marked(token) == []


def test_nothing_is_left_when_the_session_is_killed(path: str | None, token: str) -> None:
    command, count = KINDS["tree"]
    with session(Task(0, command), token=token, path=path) as process:
        wait_until_marked(token, count)
        process.kill()
    deadline = time.monotonic() + 10
    while marked(token):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_client_that_is_silent_for_too_long_counts_as_gone(token: str) -> None:
    with session(Task(0, "sleep 300"), token=token, alive=timedelta(seconds=1)) as process:
        wait_until_marked(token, 1)
        assert process.wait(10) == 143
        assert marked(token) == []


def test_a_client_that_gives_signs_of_life_is_waited_for(token: str) -> None:
    with session(Task(0, "sleep 3; exit 7"), token=token, alive=timedelta(seconds=2)) as process:
        assert process.stdin is not None
        for _ in range(6):
            time.sleep(0.5)
            process.stdin.write(b"\n")
            process.stdin.flush()
        assert process.wait(10) == 7


def test_processes_have_time_to_end_by_themselves(path: str | None, token: str, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    command = f"trap 'echo yes >{saved}; exit 0' TERM; while :; do sleep 0.05; done"
    with session(Task(0, command), token=token, path=path) as process:
        wait_until_marked(token, 1)
        time.sleep(0.2)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(15)
    assert saved.read_text() == "yes\n"


def test_what_a_command_leaves_in_the_background_stays(path: str | None, token: str) -> None:
    status, _, _ = run(Task(0, "setsid sleep 3 >/dev/null 2>&1 &"), token=token, path=path)
    assert status == 0
    assert len(marked(token)) == 1


def test_what_a_job_leaves_in_the_background_is_ended_on_request(path: str | None, token: str) -> None:
    status, _, _ = run(Task(0, "setsid sleep 300 >/dev/null 2>&1 &"), token=token, path=path, sweep=True)
    assert status == 0
    assert marked(token) == []


@pytest.mark.parametrize("command", ["exit 3", ["sh", "-c", "exit 3"]])
def test_the_exit_status_is_that_of_the_command(command: str | list[str], path: str | None, token: str) -> None:
    assert run(Task(0, command), token=token, path=path)[0] == 3


def test_a_command_that_does_not_exist_has_the_status_of_the_shell(path: str | None, token: str) -> None:
    status, _, stderr = run(Task(0, ["no-such-program"]), token=token, path=path)
    assert status == 127
    assert b"no-such-program" in stderr


def test_a_folder_that_does_not_exist_keeps_the_command_from_running(path: str | None, token: str) -> None:
    status, stdout, stderr = run(Task(0, ["echo", "ran"], cwd="/no/such/folder"), token=token, path=path)
    assert status != 0
    assert stdout == b""
    assert b"/no/such/folder" in stderr


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
def test_input_arrives_complete_and_ends(size: int, path: str | None, token: str) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    status, stdout, _ = run(Task(0, ["cat"], input=data), token=token, path=path)
    assert (status, stdout) == (0, data)


def test_a_command_without_input_finds_the_end_of_its_stdin(path: str | None, token: str) -> None:
    assert run(Task(0, ["cat"]), token=token, path=path)[:2] == (0, b"")


def test_input_that_is_cut_off_keeps_the_command_from_running(path: str | None, token: str) -> None:
    whole = Task(0, "cat; echo ran", input=b"x" * 1000)
    with session(Task(0, whole.command, input=b"x" * 1000), token=token, path=path):
        pass
    # The same with the connection closed in the middle.
    from multicompute.remote import command

    request = command.run_request(
        whole, token=token, grace=timedelta(seconds=1), alive=timedelta(seconds=60), sweep=False
    )
    import subprocess

    done = subprocess.run(
        ["/bin/sh", "-c", command.BOOTSTRAP], input=request + b"x" * 999, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 255
    assert done.stdout == b""


def test_a_command_line_may_be_longer_than_the_system_allows_for_one_argument(path: str | None, token: str) -> None:
    padding = "x" * 400_000
    status, stdout, _ = run(Task(0, f"a={padding}; printf %s ${{#a}}"), token=token, path=path)
    assert (status, stdout) == (0, b"400000")


def test_variables_are_on_no_command_line(token: str) -> None:
    secret = uuid.uuid4().hex
    task = Task(
        0,
        f"test $KEY = {secret[:8]}{secret[8:]} && grep -c {secret[:4]} /proc/self/cmdline; sleep 300",
        env={"KEY": secret},
    )
    with session(task, token=token) as process:
        wait_until_marked(token, 2)
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert not any(secret.encode() in line for line in lines)
        assert process.poll() is None


def test_a_scratch_folder_is_made_and_removed(path: str | None, token: str) -> None:
    scratch = f"/tmp/mc-test-{token[:10]}"
    task = Task(0, "cd $MULTICOMPUTE_SCRATCH && pwd && stat -c %a . && touch file", scratch=scratch)
    _, stdout, _ = run(task, token=token, path=None)
    assert stdout.split() == [scratch.encode(), b"700"]
    assert not Path(scratch).exists()


def test_a_scratch_folder_that_is_there_already_is_left_alone(token: str, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    status, stdout, _ = run(Task(0, "echo ran", scratch=str(tmp_path)), token=token)
    assert (status, stdout) == (255, b"")
    assert (tmp_path / "mine").exists()


def test_commands_do_not_ignore_interrupts(token: str) -> None:
    _, stdout, _ = run(Task(0, ["grep", "SigIgn", "/proc/self/status"]), token=token)
    # Bit 0 is HUP, 1 is INT, 2 is QUIT. What these tests were started with, such as `nohup`, is inherited.
    inherited = re.search(r"^SigIgn:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert inherited is not None
    assert int(stdout.split()[1], 16) & 0b111 & ~int(inherited[1], 16) == 0
