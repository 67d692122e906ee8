"""Turns commands into what is sent to a node: quoted, encoded, with environment and working folder. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from multicompute.errors import SpecError

Command = str | Sequence[str]
"""A shell line, or a list of arguments that no shell interprets."""

BOOTSTRAP: Final = 'exec sh -c \'IFS= read -r s && eval "$(printf %b "$s")"\''
"""The command line of every session: runs the script in the first line of stdin.

It says the same to sh, bash, zsh, csh and fish, one of which is the login shell: one line, no backslash and no `!`
inside the single quotes. `read` takes no byte beyond the line. Nothing of the user's is on a command line, where other
users of the node could read it.
"""

# Through a variable, so that lists of processes stay readable.
_IN_BASH: Final = b"""
if command -v bash >/dev/null 2>&1; then
export script
exec bash --norc -c 'export -n script; eval "$script"' multicompute
fi
eval "$script"
"""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN: Final = re.compile(rb"[A-Za-z0-9_@%+=:,./-]+")
_ESCAPED: Final = re.compile(rb"[^ -\[\]-~]")


@dataclass(frozen=True, slots=True)
class Task:
    """One command on one node.

    Attributes:
        rank: The rank of the node.
        command: A shell line (run by bash where the node has it, else by sh), or a list of arguments.
        env: Variables to set.
        cwd: The folder to run in; relative to the login user's home, None for the home itself.
        input: What the command reads from stdin; None for an empty stdin.
        scratch: The path of a folder to make for the command, `$MULTICOMPUTE_SCRATCH`, and to remove afterwards; "" for
            none. It must not exist yet. Short, because socket paths end at 107 characters.
        is_service: Whether the command only serves others: it is not waited for, and stopped when the others ended.
    """

    rank: int
    command: Command
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    cwd: str | None = None
    input: bytes | None = None
    scratch: str = ""
    is_service: bool = False


def quote(text: str) -> bytes:
    """Quote one argument for sh; bytes that Python could not decode come out as they were."""
    data = text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise SpecError(f"{text[:40]!r}: a NUL character can't be passed to a command")
    if _PLAIN.fullmatch(data):
        return data
    return b"'" + data.replace(b"'", b"'\\''") + b"'"


def encode_line(script: bytes) -> bytes:
    """Encode a script as one line of ASCII that `printf %b` decodes.

    Not every shell's `read` passes bytes above 127 through unchanged, and none passes a newline.
    """
    return _ESCAPED.sub(_escape, script)


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match[0]
    return b"\\\\" if byte == b"\\" else b"\\0%03o" % byte[0]


def job_of(task: Task) -> bytes:
    """Return the shell text that sets the variables, enters the folder and runs the command.

    Raises:
        SpecError: The command is empty, a variable has an impossible name, or something contains a NUL character.
    """
    lines = [] if task.scratch else [b"unset MULTICOMPUTE_SCRATCH"]
    for name, value in task.env.items():
        if not _NAME.fullmatch(name):
            raise SpecError(f"env: {name!r} can't be the name of a variable", hint="use letters, digits and _")
        lines.append(b"export %s=%s" % (name.encode(), quote(value)))
    # A session starts at home already.
    folder = (task.cwd or "").removeprefix("~").lstrip("/") if (task.cwd or "").startswith("~/") else task.cwd or ""
    if folder not in ("", "~"):
        # Without CDPATH, which would lead elsewhere and print where.
        lines.append(b"CDPATH= cd -- %s || exit" % quote(folder))
    lines.append(_run(task.command))
    return b"\n".join(lines)


def _run(command: Command) -> bytes:
    if isinstance(command, str):
        if not command.strip():
            raise SpecError("the command is empty")
        data = command.encode("utf-8", "surrogateescape")
        if b"\0" in data:
            raise SpecError("the command contains a NUL character")
        return data
    words = list(command)
    if not words or not words[0]:
        raise SpecError("the command is empty")
    return b"exec " + b" ".join(quote(word) for word in words)


def describe(command: Command, *, width: int = 60) -> str:
    """Return the start of a command for messages."""
    text = command if isinstance(command, str) else " ".join(command)
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def run_request(task: Task, *, token: str, grace: timedelta, alive: timedelta, sweep: bool) -> bytes:
    """Return the two lines that open a session: the script that watches over the command, and the command.

    Args:
        task: What to run; its input is sent after these lines.
        token: Names the run in the environment of all its processes.
        grace: How long processes have between TERM and KILL.
        alive: How long the client may be silent.
        sweep: Whether to end what the command left in the background.
    """
    settings = {
        "token": token,
        "input": str(-1 if task.input is None else len(task.input)),
        "grace": str(round(grace.total_seconds())),
        "alive": str(round(alive.total_seconds())),
        "sweep": str(int(sweep)),
        "scratch": task.scratch,
    }
    return script_line("run", settings) + encode_line(job_of(task)) + b"\n"


def script_line(name: str, settings: Mapping[str, str]) -> bytes:
    """Return a packaged script, with its variables set, as the first line of a session; bash runs it where there is one."""
    set_first = b"".join(b"%s=%s\n" % (key.encode(), quote(value)) for key, value in settings.items())
    return (
        encode_line(b"script=" + quote((set_first + _script(name)).decode("utf-8", "surrogateescape")) + _IN_BASH)
        + b"\n"
    )


@cache
def _script(name: str) -> bytes:
    text = files("multicompute.remote").joinpath("scripts", f"{name}.sh").read_bytes()
    lines = (line.strip() for line in text.splitlines())
    # Comments stay here: the node reads the script byte by byte.
    return b"\n".join(line for line in lines if line and not line.startswith(b"#"))
