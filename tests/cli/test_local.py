"""`local`: local clouds for one command, or until Ctrl-C."""

import os
import shlex
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cli.processes import SCRIPT, started

Run = Callable[..., Any]
PYTHON = (sys.executable, "-c")


def answers(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=5):
            return True
    except OSError:
        return False


def test_local_passes_the_environment_to_its_command_and_returns_its_status(run: Run, tmp_path: Path) -> None:
    note = tmp_path / "environment"
    script = f"import os; open({str(note)!r}, 'w').write(os.environ['AWS_ENDPOINT_URL']); raise SystemExit(3)"
    done = run("local", "--", *PYTHON, script)
    endpoint = note.read_text()
    assert done.status == 3
    assert urlsplit(endpoint).hostname == "127.0.0.1"
    assert not answers(endpoint)
    assert os.environ.get("AWS_ENDPOINT_URL") is None


def test_local_gives_its_command_no_access_to_the_accounts_and_ledger_of_the_user(run: Run, tmp_path: Path) -> None:
    note = tmp_path / "environment"
    names = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "MULTICOMPUTE_STATE", "MULTICOMPUTE_CONFIG")
    script = f"import os; open({str(note)!r}, 'w').write(' '.join(os.environ[n] for n in {names!r}))"
    assert run("local", "--", *PYTHON, script).status == 0
    assert str(Path.home()) not in note.read_text()


@pytest.mark.parametrize(("signal_number", "status"), [(signal.SIGKILL, 137), (signal.SIGINT, 130)])
def test_a_command_that_a_signal_terminated_has_the_status_of_a_shell(
    run: Run, signal_number: int, status: int
) -> None:
    # The default handler again, so that Python does not turn the signal into an exception.
    script = f"import os, signal; signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), {int(signal_number)})"
    assert run("local", "--", *PYTHON, script).status == status


def test_an_unknown_command_is_status_127(run: Run) -> None:
    done = run("local", "--", "no-such-command-anywhere")
    assert done.status == 127
    assert done.err == "multicompute: no-such-command-anywhere: no such command\n"


@pytest.mark.parametrize(("signal_number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_without_a_command_it_prints_the_environment_and_runs_until_a_signal(signal_number: int, status: int) -> None:
    with started("local") as child:
        assert child.stderr is not None
        message = child.stderr.readline()
        child.send_signal(signal_number)
        out, _ = child.communicate(timeout=30)
    variables = dict(shlex.split(line)[1].split("=", 1) for line in out.splitlines())
    assert "Ctrl-C stops them" in message
    assert all(line.startswith("export ") for line in out.splitlines())
    assert variables["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    assert not answers(variables["AWS_ENDPOINT_URL"])
    assert child.returncode == status


def test_a_process_under_local_works_on_the_local_cloud(run: Run, tmp_path: Path) -> None:
    note = tmp_path / "cluster.json"
    script = (
        f"{shlex.quote(SCRIPT)} up --gpus 16 --type h100 --cloud aws --name train-1 --yes --no-progress --json > {note}"
        f" && {shlex.quote(SCRIPT)} down train-1 --yes > /dev/null"
        f" && {shlex.quote(SCRIPT)} reconcile --dry-run"
    )
    assert run("local", "--", "bash", "-c", script).status == 0
    assert '"state": "READY"' in note.read_text()
