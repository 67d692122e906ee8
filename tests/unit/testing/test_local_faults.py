"""Faults of a local cloud happen on the wire: connections break, and responses arrive incomplete or never."""

import http.client
import json
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from multicompute.testing import FakeClock, Faults
from multicompute.testing.local.fault_injection import FaultInjector
from multicompute.testing.local.server import Request, Response, Server

BODY = json.dumps({"done": True}).encode()


class Cloud:
    """A server with one operation that counts how often it was done."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.injector = FaultInjector(self.faults, FakeClock())
        self.done = 0
        self.server = Server(self)

    def __call__(self, request: Request) -> Response | None:
        return self.injector.answer("work", {}, answer=self.work, refuse=lambda fault: Response(fault.status))

    def work(self) -> Response:
        self.done += 1
        return Response(200, BODY)

    def ask(self, *, timeout: float = 10) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(self.server.url.removeprefix("http://"), timeout=timeout)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    cloud.server.start()
    yield cloud
    cloud.server.stop()


def test_a_dropped_call_does_no_work_and_a_lost_answer_comes_after_the_work(cloud: Cloud) -> None:
    for way, done in ((cloud.faults.drop, 0), (cloud.faults.lose_answer, 1)):
        way("work")
        with pytest.raises(http.client.RemoteDisconnected):
            cloud.ask()
        assert cloud.done == done


def test_a_reset_connection_has_half_an_answer_and_no_more(cloud: Cloud) -> None:
    cloud.faults.reset("work")
    with pytest.raises((ConnectionResetError, http.client.HTTPException)):
        cloud.ask()
    assert cloud.done == 1
    assert cloud.ask()[1] == BODY


def test_a_truncated_body_looks_like_a_complete_response(cloud: Cloud) -> None:
    cloud.faults.truncate("work")
    answer, body = cloud.ask()
    assert (answer.status, body, cloud.done) == (200, BODY[: len(BODY) // 2], 1)


def test_a_hanging_call_is_never_answered(cloud: Cloud) -> None:
    cloud.faults.hang("work")
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        cloud.ask(timeout=0.1)
    assert time.monotonic() - begun >= 0.1
    assert cloud.done == 1


def test_a_server_stops_although_a_client_still_waits_for_an_answer(cloud: Cloud) -> None:
    cloud.faults.hang("work")
    connection = http.client.HTTPConnection(cloud.server.url.removeprefix("http://"), timeout=10)
    connection.request("GET", "/")
    while not cloud.done:
        time.sleep(0.001)
    cloud.server.stop()
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        connection.getresponse()
    connection.close()


def test_a_page_of_a_proxy_has_a_status_and_no_code(cloud: Cloud) -> None:
    cloud.faults.fail("work", "", status=429, retry_after=timedelta(seconds=7))
    answer, body = cloud.ask()
    assert (answer.status, answer.headers["Retry-After"], cloud.done) == (429, "7", 0)
    assert b"<html>" in body
