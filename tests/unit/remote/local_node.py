"""A node's side of a session, run on this machine by a shell of choice, without SSH."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from multicompute.remote.command import BOOTSTRAP, Task, run_request

SHORT = timedelta(seconds=2)


def folder_without_bash(folder: Path) -> str:
    """Return a PATH that has what the script needs, and no bash."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("cat", "env", "grep", "head", "mkdir", "mktemp", "printf", "rm", "setsid", "sh", "sleep", "wc"):
        for place in ("/usr/bin", "/bin"):
            if Path(place, name).exists() and not (tools / name).exists():
                (tools / name).symlink_to(Path(place, name))
    return str(tools)


@contextmanager
def session(
    task: Task,
    *,
    token: str,
    path: str | None = None,
    grace: timedelta = timedelta(seconds=1),
    alive: timedelta = timedelta(seconds=60),
    sweep: bool = False,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a session as sshd would; its stdin is the lifeline."""
    environment: Mapping[str, str] = {**os.environ, **({"PATH": path} if path else {})}
    with subprocess.Popen(
        ["/bin/sh", "-c", BOOTSTRAP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(run_request(task, token=token, grace=grace, alive=alive, sweep=sweep))
        process.stdin.write(task.input or b"")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(30)


def run(task: Task, *, token: str, path: str | None = None, sweep: bool = False) -> tuple[int, bytes, bytes]:
    """Run a session to its end; return status, stdout and stderr."""
    with session(task, token=token, path=path, sweep=sweep) as process:
        assert process.stdout is not None and process.stderr is not None
        stdout, stderr = process.stdout.read(), process.stderr.read()
        return process.wait(30), stdout, stderr


def marked(token: str) -> list[int]:
    """Return the processes that carry a run's mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"MULTICOMPUTE_RUN={token}".encode() in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def wait_until_marked(token: str, count: int) -> None:
    """Wait until at least so many processes carry the mark."""
    deadline = time.monotonic() + 20
    while len(marked(token)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
