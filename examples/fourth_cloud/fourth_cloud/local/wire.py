"""The HTTP server of the local Fourth: routes, credentials, and the faults that a test injects."""

import json
import socket
import socketserver
import threading
from collections.abc import Mapping
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit

from fourth_cloud.local.rules import STATUS, Refusal
from multicompute.clock import Clock
from multicompute.testing import Fault, Faults
from multicompute.testing.faults import FaultKind

_ROUTES: Final = {
    ("POST", "/v1/servers"): "CreateServers",
    ("GET", "/v1/servers"): "ListServers",
    ("PATCH", "/v1/servers"): "UpdateServers",
    ("POST", "/v1/servers/delete"): "DeleteServers",
    ("POST", "/v1/firewalls"): "CreateFirewall",
    ("GET", "/v1/firewalls"): "ListFirewalls",
    ("GET", "/v1/account"): "GetAccount",
}


class Answering(Protocol):
    """The cloud that answers the calls."""

    faults: Faults
    clock: Clock

    def answer(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]: ...


class Wire:
    """The server, on a free port of 127.0.0.1."""

    def __init__(self, cloud: Answering) -> None:
        self._cloud = cloud
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The URL of the server, "" while it does not run."""
        return f"http://127.0.0.1:{self._server.server_address[1]}" if self._server else ""

    def start(self) -> None:
        """Listen, and answer in a thread."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.cloud = self._cloud
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="fourth-local", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop the server if it runs."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = self._thread = None


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    cloud: Answering


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def _answer(self) -> None:
        cloud = self.server.cloud
        try:
            operation, body = self._read()
            cloud.faults.record(operation, str(body.get("region") or ""), body)
            fault = cloud.faults.take(operation, body)
            if fault is not None and fault.kind is FaultKind.DROP:
                return self._hang_up()
            _refuse(fault)
            if fault is not None and fault.kind is FaultKind.DELAY:
                cloud.clock.sleep(fault.duration)
            status, answer = 200, cloud.answer(operation, body)
            if fault is not None and fault.kind is FaultKind.LOSE_ANSWER:
                return self._hang_up()
        except Refusal as refusal:
            return self._refused(refusal)
        self._send(status, answer, {})

    def _read(self) -> tuple[str, dict[str, Any]]:
        url = urlsplit(self.path)
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.headers.get("Authorization", "").removeprefix("Bearer "):
            raise Refusal("unauthorized", "no key was sent")
        folder, _, last = url.path.rpartition("/")
        if (self.command, folder) == ("DELETE", "/v1/firewalls"):
            return "DeleteFirewall", {"id": last}
        operation = _ROUTES.get((self.command, url.path))
        if operation is None:
            raise Refusal("not_found", f"{self.command} {url.path}: no such call")
        if self.command != "GET":
            return operation, json.loads(text)
        query = parse_qs(url.query, strict_parsing=bool(url.query))
        return operation, {name: values if name == "label" else values[0] for name, values in query.items()}

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _refused(self, refusal: Refusal) -> None:
        headers = {"Retry-After": f"{refusal.retry_after:g}"} if refusal.retry_after is not None else {}
        self._send(refusal.status, {"error": {"code": refusal.code, "message": refusal.message}}, headers)

    def _send(self, status: int, answer: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)


def _refuse(fault: Fault | None) -> None:
    """Inject the fault of a test.

    Raises:
        Refusal: the fault is a refusal.
    """
    if fault is None or fault.kind not in (FaultKind.FAIL, FaultKind.THROTTLE):
        return
    code = "rate_limited" if fault.kind is FaultKind.THROTTLE else fault.code
    wait = fault.retry_after or (timedelta(seconds=1) if code == "rate_limited" else None)
    status = STATUS.get(code, fault.status)
    raise Refusal(code, fault.message or code, status=status, retry_after=wait.total_seconds() if wait else None)
