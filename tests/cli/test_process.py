"""The command as a process: its exit status and its streams."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from multicompute.cli import main, status
from multicompute.cli.parser import COMMANDS
from multicompute.errors import CapacityError
from tests.cli.processes import SCRIPT, started


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "TERM": "xterm-256color",
    }


@pytest.mark.parametrize("command", [[SCRIPT], [sys.executable, "-m", "multicompute"]], ids=["script", "module"])
def test_the_script_and_the_module_are_the_same_command(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run([*command, "--version"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("multicompute ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"example:\n  multicompute {command}" in shown


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [command for command in COMMANDS if f"  {command} " not in shown] == []


def test_json_is_alone_on_stdout(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [SCRIPT, "offers", "h100", "--json"], env=environment, capture_output=True, text=True, check=True
    )
    assert len(json.loads(done.stdout)) == 20
    assert "\x1b" not in done.stdout


def test_a_plan_leaves_nothing_in_the_home_of_its_user(environment: dict[str, str], tmp_path: Path) -> None:
    subprocess.run([SCRIPT, "plan", "--gpus", "8", "--type", "h100"], env=environment, capture_output=True, check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_reader_causes_no_traceback(environment: dict[str, str]) -> None:
    with started("offers", "h100", "--limit", "0", "--json", environment=environment) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.wait(timeout=30) == 141
        assert child.stderr.read() == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_is_no_error(environment: dict[str, str], closed: str) -> None:
    shell = ["bash", "-c", f"{SCRIPT} ls {closed}"]
    done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_a_full_disk_is_one_line(environment: dict[str, str]) -> None:
    shell = ["bash", "-c", f"{SCRIPT} offers h100 --json > /dev/full"]
    done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "multicompute: [Errno 28] No space left on device"


def test_an_error_is_one_line_without_a_traceback(environment: dict[str, str]) -> None:
    done = subprocess.run([SCRIPT, "plan", "--gpu", "8"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        done.stderr == "multicompute: --gpu: unknown argument; did you mean --gpus? (see `multicompute plan --help`)\n"
    )


def test_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(argv: list[str]) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(status, "parse", interrupted)
    assert main([]) == 130
    assert capsys.readouterr().err == "multicompute: interrupted\n"


def test_notes_on_an_incomplete_teardown_are_printed_however_the_command_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, expected in ((KeyboardInterrupt(), 130), (SystemExit(143), 143), (CapacityError("none left"), 4)):
        error.add_note("train-1 is not torn down yet: the network is down")

        def ended(argv: list[str], error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(status, "parse", ended)
        assert main([]) == expected
        assert "train-1 is not torn down yet: the network is down\n" in capsys.readouterr().err


def test_a_bug_surfaces_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(argv: list[str]) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(status, "parse", wrong)
    with pytest.raises(ZeroDivisionError):
        main([])


def test_a_list_of_attempts_is_printed_on_one_line() -> None:
    error = CapacityError("no capacity in any of 2 tries:\n  aws a: no\n  aws b: no", hint="wait")
    assert status.one_line(error) == "no capacity in any of 2 tries: aws a: no; aws b: no (wait)"
