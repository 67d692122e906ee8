"""A proxy command through Azure Bastion: `python -m multicompute_azure._bastion BASTION-ID MACHINE-ID PORT`.

`az network bastion tunnel` listens on a port and can't be a proxy command itself (Azure/azure-cli#27999), so this relays stdin and stdout to
that port. https://learn.microsoft.com/azure/bastion/connect-vm-native-client-linux describes the command.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import IO, Final

from multicompute.clock import Clock, SystemClock
from multicompute_azure._names import parse_id

_SECONDS: Final = 60.0
_STEP: Final = 0.2
_CHUNK: Final = 64 * 1024


def command(bastion: str, machine: str, port: str, local_port: int) -> list[str]:
    """Return the command that listens on a local port and leads to a port of a machine."""
    host = parse_id(bastion)
    return [
        *("az", "network", "bastion", "tunnel", "--only-show-errors", "--subscription", host.subscription),
        *("--name", host.name, "--resource-group", host.group),
        *("--target-resource-id", machine, "--resource-port", port, "--port", str(local_port)),
    ]


def main(arguments: Sequence[str], clock: Clock | None = None) -> int:
    """Open the tunnel and relay until either side closes; return the exit status."""
    bastion, machine, port = arguments
    local_port = _free_port()
    tunnel = subprocess.Popen(
        command(bastion, machine, port, local_port), stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno()
    )
    try:
        connection = _connect(tunnel, local_port, clock or SystemClock())
        if connection is None:
            sys.stderr.write("az network bastion tunnel did not open its port\n")
            return 1
        with connection:
            _relay(connection, sys.stdin.buffer, sys.stdout.buffer)
        return 0
    finally:
        tunnel.terminate()
        tunnel.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _connect(tunnel: "subprocess.Popen[bytes]", port: int, clock: Clock) -> socket.socket | None:
    """Return a connection to the tunnel as soon as it listens; None if it ends, or does not listen in time."""
    for _ in range(int(_SECONDS / _STEP)):
        if tunnel.poll() is not None:
            return None
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port))
        clock.sleep(timedelta(seconds=_STEP))
    return None


def _relay(connection: socket.socket, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
    def send() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(incoming.fileno(), _CHUNK):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    with contextlib.suppress(OSError):
        while data := connection.recv(_CHUNK):
            outgoing.write(data)
            outgoing.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
