"""The shells of a local cloud's nodes: one sshd for each on a port of 127.0.0.1, started when somebody first asks for it."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from multicompute.provider_kit.access import LOCAL_SHELL, NO_SHELL
from multicompute.testing.local.cloud import LocalCloud
from multicompute.testing.local.server import Request, Response, json_response

PREFIX: Final = LOCAL_SHELL
_LOOPBACK: Final = ("127.0.0.1", "localhost")
_FOLDERS: Final = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/bin")
_INTERVAL: Final = 0.3
"""The interval between searches for nodes that have ended, in seconds."""
_TRIES: Final = 100
_PAUSE: Final = 0.05
# ForceCommand gives each node a home folder of its own; everything else is that of this machine and user.
_SETTINGS: Final = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
ForceCommand {folder}/shell
Subsystem sftp {sftp}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
LogLevel ERROR
"""
_SHELL: Final = """\
#!/bin/sh
HOME={home}
export HOME
cd "$HOME" || exit 1
if [ -n "$SSH_ORIGINAL_COMMAND" ]; then exec "${{SHELL:-/bin/sh}}" -c "$SSH_ORIGINAL_COMMAND"; fi
exec "${{SHELL:-/bin/sh}}" -l
"""
# The end of stdin ends sshd: when the local cloud stops, and when its process is killed.
_GUARD: Final = 'exec 3<&0; "$@" </dev/null 3<&- & p=$!; cat <&3 >/dev/null; kill -s KILL $p'
# As root, the processes of a node are in a namespace of their own, so that none outlives the node.
_ISOLATED: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_SFTP_SERVERS: Final = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server")


@dataclass(frozen=True, slots=True)
class _Shell:
    """A running sshd."""

    port: int
    host_key: str
    process: "subprocess.Popen[bytes]"


class Shells:
    """The HTTP service that reports how to log in to the nodes of a local cloud, and starts their SSH servers.

    A server accepts the keys that the launch of the node gave it, and ends with the node and with the cloud.
    """

    def __init__(self, cloud: LocalCloud) -> None:
        """Serve the nodes of a cloud; nothing is started before the first request."""
        self._cloud = cloud
        self._shells: dict[str, _Shell] = {}
        self._folder: Path | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    def __call__(self, request: Request) -> Response:
        """Answer with the fields of an `Access`."""
        # Refuses a web page whose host name resolves to 127.0.0.1 (DNS rebinding).
        if urlsplit("//" + request.headers.get("host", "")).hostname not in _LOOPBACK:
            return json_response(403, {"error": "the host must be 127.0.0.1 or localhost"})
        return json_response(200, self.access(unquote(request.path.removeprefix(PREFIX))))

    def access(self, node_id: str) -> dict[str, object]:
        """Return the fields of the `Access` of a node, whose server is started if it does not run."""
        if node_id not in self._cloud.running_ids():
            return {"address": "", "problem": f"{node_id} does not run"}
        sshd = _program("sshd")
        if sshd is None or _program("ssh-keygen") is None:
            return {"address": "", "problem": f"{NO_SHELL}: sshd is not installed (Debian: openssh-server)"}
        try:
            shell = self._shell(node_id, sshd)
        except (OSError, subprocess.SubprocessError) as error:
            return {"address": "", "problem": f"{NO_SHELL}: sshd can't be started: {error}"}
        user = pwd.getpwuid(os.geteuid()).pw_name
        address = "127.0.0.1"
        return {
            "address": address,
            "port": shell.port,
            "user": user,
            "internal": address,
            "host_key": shell.host_key,
            "is_configured": True,
        }

    def stop(self) -> None:
        """End every server with what runs in it."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
        with self._lock:
            for shell in self._shells.values():
                _end(shell)
            self._shells.clear()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = self._watcher = None
            self._stopping = threading.Event()

    def _shell(self, node_id: str, sshd: str) -> _Shell:
        with self._lock:
            known = self._shells.get(node_id)
            if known is not None and known.process.poll() is None:
                return known
            self._shells[node_id] = shell = self._start(node_id, sshd)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="local-shells", daemon=True)
                self._watcher.start()
            return shell

    def _start(self, node_id: str, sshd: str) -> _Shell:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="multicompute-shells-"))
        folder = self._folder / str(sum(node_id.encode()) % 100_000) / node_id.replace("/", "_")[-60:]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "home").mkdir(exist_ok=True)
        if not (folder / "host_key").exists():
            # A node that was stopped and started keeps its host key.
            keygen = [_program("ssh-keygen") or "", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key")]
            subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
        keys = self._cloud.authorized_keys(node_id)
        (folder / "authorized_keys").write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
        (folder / "shell").write_text(_SHELL.format(home=folder / "home"), encoding="utf-8")
        (folder / "shell").chmod(0o755)
        port = _free_port()
        sftp = next((path for path in _SFTP_SERVERS if Path(path).exists()), "internal-sftp")
        settings = folder / "sshd_config"
        settings.write_text(_SETTINGS.format(port=port, folder=folder, sftp=sftp), encoding="utf-8")
        shell = _Shell(port, _public(folder / "host_key.pub"), _spawn([sshd, "-D", "-e", "-f", str(settings)], folder))
        _wait_for(shell, folder / "log")
        return shell

    def _watch(self) -> None:
        """End the servers of nodes that have ended."""
        stopping = self._stopping
        while not stopping.wait(_INTERVAL):
            running = set(self._cloud.running_ids())
            with self._lock:
                for node_id in [node_id for node_id in self._shells if node_id not in running]:
                    _end(self._shells.pop(node_id))


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_FOLDERS))


def _public(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8").split()[:2])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _spawn(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    isolated: tuple[str, ...] = ()
    if os.geteuid() == 0:
        # sshd's separation of privileges needs it, and distributions make it at boot only.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        tried = subprocess.run([*_ISOLATED, "true"], capture_output=True, check=False) if _program("unshare") else None
        isolated = _ISOLATED if tried is not None and tried.returncode == 0 else ()
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "sh", *isolated, *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_for(shell: _Shell, log: Path) -> None:
    waiting = threading.Event()
    for _ in range(_TRIES):
        if shell.process.poll() is not None:
            break
        with suppress(OSError), socket.create_connection(("127.0.0.1", shell.port), timeout=1):
            return
        waiting.wait(_PAUSE)
    _end(shell)
    raise OSError(log.read_text(encoding="utf-8", errors="replace").strip()[-300:] or "it does not answer")


def _end(shell: _Shell) -> None:
    """End a server, and all processes below it."""
    processes = [shell.process.pid, *_below(shell.process.pid)]
    for pid in processes:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    if shell.process.stdin is not None:
        shell.process.stdin.close()
    shell.process.wait()


def _below(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found
