"""`completion`: shells complete the arguments of the parsers."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multicompute.cli.parser import COMMANDS, parser_of

Run = Callable[..., Any]


@pytest.fixture
def complete(run: Run, tmp_path: Path) -> Callable[..., list[str]]:
    """Return what bash offers for the words typed so far; the cursor is on the last."""
    done = run("completion", "bash")
    assert done.status == 0
    script = tmp_path / "completion.bash"
    script.write_text(done.out)

    def complete(*words: str) -> list[str]:
        typed = " ".join(f"'{word}'" for word in ("multicompute", *words))
        program = (
            f"source {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _multicompute; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        shown = subprocess.run(
            ["bash", "--norc", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return shown.stdout.split()

    return complete


def test_bash_completes_commands(complete: Callable[..., list[str]]) -> None:
    assert set(complete("")) == {*COMMANDS, "--help", "--version"}
    assert complete("do") == ["down", "doctor"]


def test_bash_completes_every_flag_of_every_command(complete: Callable[..., list[str]]) -> None:
    for name in ("up", "down", "cost", "init"):
        flags = {flag for action in parser_of(name)._actions for flag in action.option_strings if flag[:2] == "--"}
        assert set(complete(name, "--")) == flags


def test_bash_completes_values(complete: Callable[..., list[str]], tmp_path: Path) -> None:
    assert complete("up", "--placement", "") == ["zone", "region", "cloud", "any"]
    assert complete("completion", "") == ["bash", "zsh", "fish", "-h", "--help", "--verbose", "--debug"]
    (tmp_path / "id.pub").touch()
    assert complete("up", "--ssh-key", "id") == ["id.pub"]


def test_bash_completes_nothing_after_two_dashes(complete: Callable[..., list[str]]) -> None:
    assert complete("local", "--", "") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_know_every_command_and_flag(run: Run, shell: str) -> None:
    script = run("completion", shell).out
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", script)
        for action in parser_of(name)._actions:
            for flag in action.option_strings:
                assert (flag if shell == "zsh" else flag.lstrip("-")) in script


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_valid_for_its_shell(run: Run, shell: str, tmp_path: Path) -> None:
    script = run("completion", shell).out
    (tmp_path / "script").write_text(script)
    # If zsh is not installed, bash can check its script; fish has its own quoting.
    checker = shell if shutil.which(shell) else "bash"
    if checker == "bash" and shell == "fish":
        assert [line for line in script.splitlines() if line.replace("\\'", "").count("'") % 2] == []
        return
    done = subprocess.run([checker, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_shell_is_a_usage_error(run: Run) -> None:
    done = run("completion", "tcsh")
    assert done.status == 2
    assert "tcsh" in done.err
