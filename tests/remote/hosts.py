"""Hosts to run commands on: each with its own sshd, and where the tests run as root with its own network and processes.

As root, a host is a network namespace with an address of its own, a process namespace, its own `/tmp` and its own home
folder. Otherwise it is an sshd on a port of 127.0.0.1, and all hosts share the rest of the machine.
"""

import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from multicompute.remote.target import SshHost, Target

SSHD = shutil.which("sshd", path=f"/usr/sbin:/usr/local/sbin:{os.environ.get('PATH', '')}")
ROOT = Path(__file__).parents[2]
_count = itertools.count()
WORKER, WORKER_ID = "worker", 61234
SETTINGS = """
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AuthorizedKeysFile {folder}/authorized_keys
HostKey {folder}/host_key_{index}
LogLevel ERROR
"""
BOOT = """
set -e
# The interpreters of the checkout stay visible, also where it is below /tmp.
mount --bind "$4" /mnt
mount -t tmpfs tmpfs /tmp
chmod 1777 /tmp
if [ ! -d "$4" ]; then
    mkdir -p "$4"
    mount --bind /mnt "$4"
fi
umount /mnt
mount -t tmpfs tmpfs /dev/shm
mount --bind "$1/passwd_$2" /etc/passwd
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1/shadow" /etc/shadow
if [ -e /etc/sudoers ]; then mount --bind "$1/sudoers" /etc/sudoers; fi
mkdir -p "$1/home_$2"
hostname "host$2"
exec "$3" -D -e -f "$1/sshd_config_$2"
"""


def missing() -> str:
    """Return what keeps hosts from being started here; "" for nothing."""
    if SSHD is None:
        return "sshd is not installed (Debian: openssh-server): nothing was run over a real SSH connection"
    return ""


def has_namespaces() -> bool:
    """Return whether hosts can have networks of their own, and are not asked to do without."""
    if os.environ.get("MULTICOMPUTE_LOOPBACK_HOSTS"):
        return False
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def _key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)


@dataclass
class Host:
    """One host that runs."""

    index: int
    address: str
    port: int
    folder: Path
    process: "subprocess.Popen[bytes]"
    link: str = ""
    stopped: list[int] = field(default_factory=list)

    @property
    def host_key(self) -> str:
        """The public host key, as it is pinned."""
        return " ".join((self.folder / f"host_key_{self.index}.pub").read_text().split()[:2])

    def target(self, **changes: object) -> Target:
        """Return the host as a target; its index is its rank."""
        fields: dict[str, object] = {
            "address": self.address,
            "port": self.port,
            "user": "root" if os.geteuid() == 0 else os.environ.get("USER", ""),
            "identity": self.folder / "id",
            "host_key": self.host_key,
            **changes,
        }
        return Target(self.index, SshHost(**fields), name=self.address)  # type: ignore[arg-type]

    def pids(self) -> list[int]:
        """Return the processes below the host's own, as this machine counts them."""
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        found, todo = [], [self.process.pid]
        while todo:
            below = children.get(todo.pop(), [])
            found += below
            todo += below
        return found

    def cut(self) -> None:
        """Cut the host off: what is sent to it vanishes, and nothing comes back."""
        if self.link:
            subprocess.run(["ip", "link", "set", self.link, "down"], check=True)
        else:
            self.stopped = [pid for pid in (self.process.pid, *self.pids()) if _signal(pid, signal.SIGSTOP)]

    def restore(self) -> None:
        """Undo `cut`."""
        if self.link:
            subprocess.run(["ip", "link", "set", self.link, "up"], check=True)
        for pid in self.stopped:
            _signal(pid, signal.SIGCONT)
        self.stopped = []

    def commands(self) -> list[str]:
        """Return the command lines of the processes that run on the host, without sshd's."""
        lines = []
        for pid in self.pids():
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
            except OSError:
                continue
            if line and "sshd" not in line.split()[0]:
                lines.append(line)
        return lines


def _signal(pid: int, number: signal.Signals) -> bool:
    """Send a signal; return whether there was a process to take it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_for(host: Host) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if host.process.poll() is not None:
            raise RuntimeError(f"sshd of host {host.index} ended: {(host.folder / f'log_{host.index}').read_text()}")
        try:
            with socket.create_connection((host.address, host.port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"host {host.index} does not answer")


def _write_settings(folder: Path, index: int, lines: Sequence[str]) -> Path:
    _key(folder / f"host_key_{index}")
    path = folder / f"sshd_config_{index}"
    # The first of two that contradict each other holds.
    path.write_text("\n".join(lines) + SETTINGS.format(folder=folder, index=index))
    return path


def _start(command: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    # Ends with the tests, also when they are killed.
    guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with log.open("wb") as stream:
        return subprocess.Popen([*guard, *command], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)


def _end(host: Host) -> None:
    host.restore()
    processes = host.pids()
    host.process.kill()
    host.process.wait()
    for pid in processes:
        _signal(pid, signal.SIGKILL)


def _remove_stale() -> None:
    """Remove what tests that were killed have left: its names have the ids of their processes."""
    for name in os.listdir("/run/netns") if Path("/run/netns").exists() else []:
        owner = re.fullmatch(r"mc((\d+)n\d)h\d+", name)
        if owner and not Path(f"/proc/{owner[2]}").exists():
            subprocess.run(["ip", "netns", "del", name], check=False)
            subprocess.run(["ip", "link", "del", f"mc{owner[1]}b"], check=False, capture_output=True)


@contextmanager
def _network(name: str, subnet: str) -> Iterator[None]:
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", f"{subnet}.1/24", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)


@contextmanager
def _namespace(name: str, bridge: str, address: str) -> Iterator[str]:
    """A network namespace with one interface; yields the name of that interface's other end."""
    outer = f"{name}o"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        inside = ["ip", "netns", "exec", name, "ip"]
        subprocess.run(["ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name], check=True)
        subprocess.run(["ip", "link", "set", outer, "master", bridge], check=True)
        subprocess.run(["ip", "link", "set", outer, "up"], check=True)
        subprocess.run([*inside, "addr", "add", f"{address}/24", "dev", "eth0"], check=True)
        subprocess.run([*inside, "link", "set", "eth0", "up"], check=True)
        subprocess.run([*inside, "link", "set", "lo", "up"], check=True)
        yield outer
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@contextmanager
def _namespaced(
    stack: ExitStack, folder: Path, count: int, settings: Sequence[str], shell: str
) -> Iterator[list[Host]]:
    Path("/run/sshd").mkdir(exist_ok=True)
    _remove_stale()
    unique = f"{os.getpid()}n{next(_count) % 10}"
    number = 10 * os.getpid() + int(unique[-1])
    bridge, subnet = f"mc{unique}b", f"10.{64 + number // 256 % 128}.{number % 256}"
    stack.enter_context(_network(bridge, subnet))
    hosts = []
    folder.chmod(0o755)
    sudoers = folder / "sudoers"
    sudoers.write_text(f"root ALL=(ALL) ALL\n{WORKER} ALL=(ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    (folder / "shadow").write_text(f"root:*:20000::::::\n{WORKER}:*:20000::::::\n")
    (folder / "shadow").chmod(0o600)
    names = [f"{subnet}.{10 + index} host{index}" for index in range(count)]
    (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names]) + "\n")
    for index in range(count):
        address = f"{subnet}.{10 + index}"
        name = f"mc{unique}h{index}"
        link = stack.enter_context(_namespace(name, bridge, address))
        _write_settings(folder, index, [f"ListenAddress {address}:22", *settings])
        users = Path("/etc/passwd").read_text().splitlines()
        home = f"{folder}/home_{index}"
        changed = [
            ":".join([*line.split(":")[:5], home, shell]) if line.startswith("root:") else line for line in users
        ]
        # Not root, but may do what root may, as the users of clouds' images.
        changed.append(f"{WORKER}:x:{WORKER_ID}:{WORKER_ID}::/tmp:{shell}")
        (folder / f"passwd_{index}").write_text("\n".join(changed) + "\n")
        isolated = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        boot = ["sh", "-c", BOOT, "boot", str(folder), str(index), str(SSHD), str(ROOT)]
        process = _start(["ip", "netns", "exec", name, *isolated, *boot], folder / f"log_{index}")
        host = Host(index, address, 22, folder, process, link=link)
        stack.callback(_end, host)
        hosts.append(host)
    yield hosts


@contextmanager
def _on_loopback(
    stack: ExitStack, folder: Path, count: int, settings: Sequence[str], shell: str
) -> Iterator[list[Host]]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    hosts = []
    for index in range(count):
        port = _free_port()
        home = folder / f"home_{index}"
        home.mkdir()
        # A home folder of its own; that of the user's account stays as it is.
        forced = f'ForceCommand HOME={home}; export HOME; cd {home}; eval "$SSH_ORIGINAL_COMMAND"'
        path = _write_settings(folder, index, [f"ListenAddress 127.0.0.1:{port}", forced, *settings])
        process = _start([str(SSHD), "-D", "-e", "-f", str(path)], folder / f"log_{index}")
        host = Host(index, "127.0.0.1", port, folder, process)
        stack.callback(_end, host)
        hosts.append(host)
    yield hosts


@contextmanager
def started(
    count: int, *, isolated: bool | None = None, settings: Sequence[str] = (), shell: str = "/bin/bash"
) -> Iterator[list[Host]]:
    """Start hosts for the length of the block.

    Args:
        count: how many.
        isolated: whether each has a network and processes of its own; by default where that is possible.
        settings: further lines for the configuration of each sshd.
        shell: the login shell, of hosts that are isolated.
    """
    with ExitStack() as stack:
        # Not below /tmp: there the hosts have folders of their own.
        folder = Path(tempfile.mkdtemp(prefix="multicompute-hosts-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _key(folder / "id")
        shutil.copy(folder / "id.pub", folder / "authorized_keys")
        use = _namespaced if (has_namespaces() if isolated is None else isolated) else _on_loopback
        hosts = stack.enter_context(use(stack, folder, count, settings, shell))
        for host in hosts:
            _wait_for(host)
        yield hosts
