"""Port 22 is opened for the configured addresses, else for the caller, else not at all."""

import http.server
import logging
import threading
from collections.abc import Iterator

import pytest

from multicompute.provider_kit.ssh import SshSources
from multicompute.provider_kit.vendor_errors import Place

PLACE = Place("example", "north")


class AddressService(http.server.BaseHTTPRequestHandler):
    answer = b"203.0.113.7\n"
    calls = 0

    def do_GET(self) -> None:
        type(self).calls += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(name="service")
def _service() -> Iterator[str]:
    AddressService.answer, AddressService.calls = b"203.0.113.7\n", 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), AddressService)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def sources(service: str, *, configured: tuple[str, ...] = (), endpoint: str | None = None) -> SshSources:
    return SshSources(configured, endpoint=endpoint, address_service=service)


def test_configured_addresses_are_used_and_nothing_is_asked(service: str) -> None:
    assert sources(service, configured=("10.0.0.0/8",)).blocks(PLACE) == ("10.0.0.0/8",)
    assert AddressService.calls == 0


def test_on_a_local_cloud_the_caller_is_this_machine(service: str) -> None:
    assert sources(service, endpoint="http://127.0.0.1:5").blocks(PLACE) == ("127.0.0.1/32",)
    assert AddressService.calls == 0


def test_the_callers_own_address_is_asked_for_once(service: str) -> None:
    found = sources(service)
    assert [found.blocks(PLACE), found.blocks(PLACE)] == [("203.0.113.7/32",)] * 2
    assert AddressService.calls == 1


@pytest.mark.parametrize("answer", [b"<html>", b"2001:db8::1", b""])
def test_an_answer_that_is_no_address_leaves_the_port_closed_with_a_warning(
    service: str, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    AddressService.answer = answer
    with caplog.at_level(logging.WARNING):
        assert sources(service).blocks(PLACE) == ()
    assert "port 22 stays closed" in caplog.text


def test_behind_another_endpoint_than_the_vendors_nothing_is_asked(service: str) -> None:
    assert sources(service, endpoint="https://proxy.example.com").blocks(PLACE) == ()
    assert AddressService.calls == 0
