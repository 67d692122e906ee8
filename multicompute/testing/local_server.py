"""A small HTTP server on 127.0.0.1 that leaves no thread behind and can break a connection on purpose."""

import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from http.client import responses
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

HOST = "127.0.0.1"
_MAXIMUM_BODY = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class Cut(Enum):
    """How the delivery of an answer goes wrong."""

    RESET = "reset"
    """Half of it is sent, and the connection is reset."""
    SILENCE = "silence"
    """Nothing is sent, for as long as the client waits."""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; `cut` is how its delivery goes wrong, if it does."""

    status: int
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: Cut | None = None


Application = Callable[[Request], Response | None]
"""Answers a request; None breaks the connection without an answer."""
# struct linger {on, seconds}: closing then sends RST and not FIN (socket(7)).
_AT_ONCE = struct.pack("ii", 1, 0)


class Server:
    """Serves an application on a free port of 127.0.0.1, each connection in a thread of its own."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it is reached; only after `start`."""
        if self._server is None:
            raise RuntimeError("the server is not started")
        return f"http://{HOST}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Begin to serve."""
        self._server = _Server(self._application)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="local-cloud", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and wait until all threads have ended."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()
        self._server = self._thread = None


class _Server(HTTPServer):
    request_queue_size = 256

    def __init__(self, application: Application) -> None:
        self.application = application
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        super().__init__((HOST, 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        # Not ThreadingMixIn: its threads either keep the process alive when nobody calls stop(), or can't be waited for.
        thread = threading.Thread(target=self._serve, args=(request, client_address), name="local-cloud", daemon=True)
        with self._lock:
            self._connections[request] = thread
        thread.start()

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except ConnectionError:
            # A client that went away is no news.
            return
        finally:
            self.shutdown_request(request)
            with self._lock:
                self._connections.pop(request, None)

    def close_connections(self) -> None:
        """Wake the threads that wait for the next request of a connection that is kept open, and wait for their end."""
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            _hang_up(connection)
        for thread in connections.values():
            thread.join()

    def server_bind(self) -> None:
        # Not HTTPServer's: it looks up the machine's full name, which may ask a name server.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = HOST, self.server_address[1]


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The client was faster.
        return


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        length = min(int(self.headers.get("Content-Length") or 0), _MAXIMUM_BODY)
        body = self.rfile.read(length)
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        response = self.server.application(Request(self.command, path, query, headers, body))
        if response is None:
            self.close_connection = True
            _hang_up(self.connection)
        elif response.cut is Cut.SILENCE:
            self.close_connection = True
            # Comes back when the client hangs up, or the server is stopped.
            self.connection.recv(1)
        elif response.cut is Cut.RESET:
            self.close_connection = True
            self._reset(self._bytes(response))
        else:
            self.wfile.write(self._bytes(response))

    def _reset(self, answer: bytes) -> None:
        self.wfile.write(answer[: len(answer) // 2])
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        # Not connection.close(): that waits for the files that were made of the socket.
        os.close(self.connection.detach())

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _serve

    def _bytes(self, response: Response) -> bytes:
        lines = [
            f"HTTP/1.1 {response.status} {responses.get(response.status, '')}",
            *(f"{name}: {value}" for name, value in response.headers.items()),
        ]
        if response.status != HTTPStatus.NO_CONTENT:
            lines += [f"Content-Type: {response.content_type}", f"Content-Length: {len(response.body)}"]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        has_body = self.command != "HEAD" and response.status != HTTPStatus.NO_CONTENT
        return head + response.body if has_body else head

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what was called is in the record of calls."""
