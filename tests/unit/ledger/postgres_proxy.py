"""A proxy between a ledger and its server that breaks the connection at a COMMIT: before it, or before its answer."""

import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from tests.unit.ledger.postgres_server import PORT, Server


class Proxy:
    """A socket that forwards everything to a server.

    Attributes:
        cut: where to break the connection at the next COMMIT, once: before it reaches the server, or after that but before
            the answer arrives; None for nowhere.
        is_dead: whether every new connection is refused.
    """

    def __init__(self, server: Server) -> None:
        self.cut: Literal["before", "after"] | None = None
        self.is_dead = False
        self._server = server
        self._folder = tempfile.TemporaryDirectory(prefix="proxy-")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{self._folder.name}/.s.PGSQL.{PORT}")
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]

    def url(self) -> str:
        """Return the URL of a new ledger behind this proxy."""
        return self._server.url().replace(quote(str(self._server.folder), safe=""), quote(self._folder.name, safe=""))

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()
        self._folder.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_dead:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(Path(self._server.folder) / f".s.PGSQL.{PORT}"))
            for work, ends in ((self._up, (client, server)), (self._down, (server, client))):
                self._threads.append(threading.Thread(target=work, args=ends))
                self._threads[-1].start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        while data := _received(client):
            if b"COMMIT\0" in data and self.cut == "before":
                self.cut = None
                break
            if b"COMMIT\0" in data and self.cut == "after":
                # From now on `_down` discards the answers.
                self.cut = None
                client.shutdown(socket.SHUT_WR)
            server.sendall(data)
        for end in (client, server):
            _shut_down(end)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        while data := _received(server):
            try:
                client.sendall(data)
            except OSError:
                # The server has answered, but the answer is lost.
                break
        for end in (client, server):
            _shut_down(end)
        for end in (client, server):
            end.close()


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(65536)
    except OSError:
        return b""


def _shut_down(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
