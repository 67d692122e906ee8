"""How commands are quoted and encoded on their way to a node."""

import shutil
import subprocess
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multicompute.errors import SpecError
from multicompute.remote.command import BOOTSTRAP, Task, describe, encode_line, job_of, quote
from tests.unit.remote.local_node import run

# Bytes that are not UTF-8 come to Python as surrogates, as file names do.
ANYTHING = (
    st.binary(max_size=40)
    .filter(lambda data: b"\0" not in data)
    .map(lambda data: data.decode("utf-8", "surrogateescape"))
)
SHELLS = [name for name in ("sh", "dash", "bash", "zsh") if shutil.which(name)]
LOGIN_SHELLS = [name for name in ("sh", "dash", "bash", "zsh", "fish", "tcsh", "csh") if shutil.which(name)]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ANYTHING, max_size=6), ANYTHING)
def test_arguments_and_variables_arrive_unchanged(arguments: list[str], value: str) -> None:
    task = Task(0, ["sh", "-c", 'printf "%s\\0" "$VALUE" "$@"', "sh", *arguments], env={"VALUE": value})
    status, stdout, stderr = run(task, token=uuid.uuid4().hex)
    assert (status, stderr) == (0, b"")
    assert [part.decode("utf-8", "surrogateescape") for part in stdout.split(b"\0")[:-1]] == [value, *arguments]


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=ANYTHING)
def test_every_shell_decodes_a_line_to_the_same_bytes(shell: str, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    line = encode_line(data)
    assert line.isascii() and b"\n" not in line
    done = subprocess.run(
        [shell, "-c", 'IFS= read -r s && printf "%b" "$s"'], input=line + b"\n", capture_output=True, check=True
    )
    assert done.stdout == data


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_every_login_shell_understands_the_command_line_of_a_session(shell: str) -> None:
    script = encode_line(b"printf '%s|' 'a b' \"it's\" '$HOME!' '\\n'") + b"\n"
    done = subprocess.run([shell, "-c", BOOTSTRAP], input=script, capture_output=True, check=True)
    assert done.stdout == b"a b|it's|$HOME!|\\n|"


@pytest.mark.parametrize("text", ["a\0b", "\0"])
def test_a_nul_character_is_refused(text: str) -> None:
    for task in (Task(0, ["echo", text]), Task(0, f"echo {text}"), Task(0, ["echo"], env={"A": text})):
        with pytest.raises(SpecError, match="NUL"):
            job_of(task)


@pytest.mark.parametrize("command", ["", "  ", [], [""]])
def test_an_empty_command_is_refused(command: str | list[str]) -> None:
    with pytest.raises(SpecError, match="empty"):
        job_of(Task(0, command))


@pytest.mark.parametrize("name", ["", "a b", "1a", "a=b", "a;b", "é"])
def test_an_impossible_name_of_a_variable_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="variable"):
        job_of(Task(0, "true", env={name: "x"}))


def test_plain_words_are_not_quoted() -> None:
    assert quote("torchrun") == b"torchrun"
    assert quote("") == b"''"
    assert quote("~") == b"'~'"


@pytest.mark.parametrize("cwd", [None, "~", "~/"])
def test_home_is_where_a_session_starts(cwd: str | None) -> None:
    assert b"cd " not in job_of(Task(0, "true", cwd=cwd))


def test_a_long_command_is_shortened_in_messages() -> None:
    assert describe(["echo", "x" * 100], width=10) == "echo xxxx…"
    assert describe("echo\n  hi") == "echo hi"
