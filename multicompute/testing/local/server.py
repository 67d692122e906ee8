"""A small HTTP server on 127.0.0.1 that leaves no thread behind and can break connections on purpose."""

import json
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
from types import MappingProxyType
from typing import Any

HOST = "127.0.0.1"
_MAXIMUM_BODY = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class Cut(Enum):
    """A way in which the delivery of a response goes wrong."""

    RESET = "reset"
    """The server sends half of the response and resets the connection."""
    SILENCE = "silence"
    """The server sends nothing until the client gives up."""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response; `cut` is how its delivery fails; None if it succeeds."""

    status: int
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: Cut | None = None


Application = Callable[[Request], Response | None]
"""Returns the response to a request, or None to close the connection without a response."""
# struct linger {on, seconds}: close() then sends RST instead of FIN (socket(7)).
_NO_LINGER = struct.pack("ii", 1, 0)


def json_response(
    status: int,
    document: object,
    headers: Mapping[str, str] = MappingProxyType({}),
    content_type: str = "application/json; charset=utf-8",
) -> Response:
    """Return a response with a JSON document; values that JSON does not know are written as text."""
    return Response(status, json.dumps(document, default=str).encode(), content_type, headers)


class Server:
    """A server for one application on a free port of 127.0.0.1, with a thread for each connection."""

    def __init__(self, application: Application) -> None:
        """Serve `application`, which several threads may call at the same time."""
        self._application = application
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The URL of the server; only after `start`."""
        if self._server is None:
            raise RuntimeError("the server is not started")
        return f"http://{HOST}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Start to serve in a thread."""
        self._server = _Server(self._application)
        self._thread = threading.Thread(target=self._server.serve, name="local-cloud", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and wait until every thread has ended."""
        if self._server is None or self._thread is None:
            return
        self._server.stop_accepting()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()
        self._server = self._thread = None


class _Server(HTTPServer):
    request_queue_size = 256

    def __init__(self, application: Application) -> None:
        self.application = application
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._is_stopping = False
        super().__init__((HOST, 0), _Handler)

    def serve(self) -> None:
        """Accept connections until `stop_accepting`."""
        # Not serve_forever(): it wakes up many times a second to see whether it must stop, or stops late.
        while True:
            try:
                request, client_address = self.get_request()
            except OSError:
                # The client has given up before it was accepted.
                continue
            if self._is_stopping:
                self.shutdown_request(request)
                return
            self.process_request(request, client_address)

    def stop_accepting(self) -> None:
        """Let `serve` return; connections that it has accepted stay open."""
        self._is_stopping = True
        # Wakes the thread that waits for a connection.
        socket.create_connection((HOST, self.server_port)).close()

    def process_request(self, request: Any, client_address: Any) -> None:
        # Not ThreadingMixIn: its threads either keep a process alive that never calls stop(), or can't be joined.
        thread = threading.Thread(target=self._serve, args=(request, client_address), name="local-cloud", daemon=True)
        with self._lock:
            self._connections[request] = thread
        thread.start()

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except ConnectionError:
            # The client has closed the connection.
            return
        finally:
            self.shutdown_request(request)
            with self._lock:
                self._connections.pop(request, None)

    def close_connections(self) -> None:
        """Wake the threads that wait for the next request on a connection that is kept alive, and join them."""
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            _shut_down(connection)
        for thread in connections.values():
            thread.join()

    def server_bind(self) -> None:
        # HTTPServer's own method looks up the machine's full name, which may send a DNS query.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = HOST, self.server_address[1]


def _shut_down(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The client has closed it first.
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
            _shut_down(self.connection)
        elif response.cut is Cut.SILENCE:
            self.close_connection = True
            # Returns when the client closes the connection or the server stops.
            self.connection.recv(1)
        elif response.cut is Cut.RESET:
            self.close_connection = True
            self._reset(self._bytes(response))
        else:
            self.wfile.write(self._bytes(response))

    def _reset(self, response: bytes) -> None:
        self.wfile.write(response[: len(response) // 2])
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        # Not connection.close(): it defers until the files made from the socket are closed.
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
        """Log nothing: `Faults.calls` has the calls."""
