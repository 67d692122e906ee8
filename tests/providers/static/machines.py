"""Real machines for the tests of own machines: hosts with sshd, whose accelerators are a script that reads a file."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from multicompute.provider import TAG_EXPIRES_AT
from tests.remote.hosts import Host, missing, started

# Answers like nvidia-smi, one line for each GPU; `gpus` in the home folder says how many.
NVIDIA_SMI = """#!/bin/sh
count=$(cat "$HOME/gpus" 2>/dev/null || echo 8)
[ "$count" != hang ] || exec sleep 600
[ "$count" != none ] || { echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."; exit 9; }
while [ "$count" -gt 0 ]; do echo "NVIDIA H100 80GB HBM3"; count=$((count - 1)); done
"""
# Does what mv does. Where the file `lose` says so, the connection ends before or after the marker is in its place.
MV = """#!/bin/sh
cut() {
    pid=$$
    while [ "$pid" -gt 1 ]; do
        read -r name </proc/$pid/comm
        case $name in sshd*) kill -s KILL "$pid"; exit 1 ;; esac
        pid=$(sed 's/.*) . \\([0-9]*\\) .*/\\1/' /proc/$pid/stat)
    done
}
case $3 in
    */lease)
        when=$(cat "$HOME/lose" 2>/dev/null)
        rm -f "$HOME/lose"
        [ "$when" != before ] || cut
        real=/bin/mv
        $real "$@" || exit
        [ "$when" != after ] || cut
        ;;
    *) exec /bin/mv "$@" ;;
esac
"""


@dataclass
class Machines:
    """Hosts that run, and the folder with their tools and keys."""

    hosts: list[Host]
    folder: Path

    def home(self, index: int) -> Path:
        """Return the home folder of a host."""
        return self.hosts[index].folder / f"home_{index}"

    def id(self, index: int) -> str:
        """Return the id of the node that the host is."""
        host = self.hosts[index]
        return host.address if host.port == 22 else f"{host.address}:{host.port}"

    def index(self, node_id: str) -> int:
        """Return which host a node is."""
        return next(index for index in range(len(self.hosts)) if self.id(index) == node_id)

    def set_gpus(self, index: int, count: int | str) -> None:
        """Let nvidia-smi on a host find so many GPUs; "none" and "hang" are what it does without a driver, or with a broken GPU."""
        (self.home(index) / "gpus").write_text(f"{count}\n")

    def lose(self, index: int, when: str) -> None:
        """Cut the connection to a host the next time when a marker is made there, "before" or "after" that."""
        (self.home(index) / "lose").write_text(when)

    def marker(self, index: int) -> tuple[str, dict[str, str]] | None:
        """Return the token and the tags in the marker on a host; None if there is no marker."""
        for lease in self.home(index).glob(".multicompute/*/lease"):
            try:
                token, _, tags, *_ = lease.read_text().splitlines()
                expires = (lease.parent / f"expires-{token}").read_text().strip()
            except FileNotFoundError:
                continue
            return token, {**json.loads(tags), TAG_EXPIRES_AT: expires}
        return None

    def remove_marker(self, index: int) -> None:
        """Remove the marker from a host, as a user can."""
        for lease in self.home(index).glob(".multicompute/*/lease"):
            lease.unlink()

    def reach_expiry(self) -> None:
        """Let the end of every lease be in the past, and wait until the machines have noticed."""
        before = {index: self.marker(index) for index in range(len(self.hosts))}
        for index in before:
            for path in self.home(index).glob(".multicompute/*/expires-*"):
                if path.read_text().strip() != "never":
                    path.write_text("1\n")
        ending = [index for index, marker in before.items() if marker and marker[1][TAG_EXPIRES_AT] != "never"]
        deadline = time.monotonic() + 30
        while any(self.marker(index) for index in ending) and time.monotonic() < deadline:
            time.sleep(0.1)

    def reset(self) -> None:
        """Leave every host as it was at first."""
        for index, host in enumerate(self.hosts):
            host.restore()
            shutil.rmtree(self.home(index) / ".multicompute", ignore_errors=True)
            for name in ("gpus", "lose"):
                (self.home(index) / name).unlink(missing_ok=True)

    def inventory(self, path: Path, entries: Sequence[tuple[int, str]]) -> Path:
        """Write an inventory with these hosts, each with the lines that it has in addition to its address."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(self.entry(index, lines) for index, lines in entries))
        return path

    def entry(self, index: int, lines: str) -> str:
        """Return the entry of a host."""
        target = self.hosts[index].target().host
        return (
            f'[[hosts]]\naddress = "{target.address}"\nport = {target.port}\nuser = "{target.user}"\n'
            f'identity_file = "{target.identity}"\n{lines}\n\n'
        )


@contextmanager
def machines(count: int) -> Iterator[Machines]:
    """Start hosts; the test is skipped where there is no sshd."""
    if reason := missing():
        pytest.skip(reason)
    with ExitStack() as stack:
        folder = Path(subprocess.check_output(["mktemp", "-d", "/var/tmp/multicompute-own-XXXXXX"], text=True).strip())
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        for name, text in (("nvidia-smi", NVIDIA_SMI), ("mv", MV)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        path = f"SetEnv PATH={folder}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        hosts = stack.enter_context(started(count, settings=[path]))
        yield Machines(hosts, folder)


def run(machine: Host, line: str) -> str:
    """Run a command line on a host over SSH, as its user would, and return its output."""
    host = machine.target().host
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    command = ["ssh", *options, "-i", str(host.identity), "-p", str(host.port), f"{host.user}@{host.address}", line]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    return done.stdout.decode()
