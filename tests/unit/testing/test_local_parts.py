"""The parts that local clouds are built from: the chassis with its services, the schedule, limits, foreign resources."""

import http.client
from collections.abc import Mapping
from datetime import timedelta

import pytest

from multicompute.node import Metric
from multicompute.provider import Resource
from multicompute.testing import FakeClock, Faults, LocalCloud, LocalClouds
from multicompute.testing.local.chassis import Chassis
from multicompute.testing.local.foreign import ForeignResources
from multicompute.testing.local.forwarded import Duration
from multicompute.testing.local.measurements import MINUTE, Measurements
from multicompute.testing.local.server import Request, Response
from multicompute.testing.local.timing import Limits, Schedule, Timing


class SmallCloud(LocalCloud):
    """A local cloud with nothing but what the protocol requires."""

    name = "small"

    def __init__(self) -> None:
        self.faults = Faults()
        self.lag = self.boot_delay = self.shutdown_delay = timedelta(0)

    @property
    def endpoint_url(self) -> str:
        return "http://127.0.0.1:1"

    @property
    def environment(self) -> Mapping[str, str]:
        return {}

    def start(self) -> None:
        return

    def stop(self) -> None:
        return

    def set_capacity(self, instance_type: str, place: str, nodes: int | None) -> None:
        return

    def preempt(self, node_id: str) -> None:
        return

    def seed_foreign(self) -> None:
        return

    def alive(self) -> list[Resource]:
        return []

    def running_ids(self) -> list[str]:
        return []

    def foreign_intact(self) -> bool:
        return True


def get(url: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def service(text: str) -> Response:
    return Response(200, text.encode())


def test_each_service_answers_the_paths_below_its_prefix() -> None:
    def rest(request: Request) -> Response:
        return service(f"rest {request.path}")

    chassis = Chassis("Small")
    with pytest.raises(RuntimeError, match="the local Small is not started"):
        _ = chassis.endpoint_url
    chassis.start({"/api/": rest, "/api/prices/": lambda request: service("prices")})
    try:
        found = [get(chassis.endpoint_url, path) for path in ("/api/x", "/api/prices/x", "/elsewhere")]
        assert found == [(200, b"rest /api/x"), (200, b"prices"), (404, b"")]
        folder = chassis.folder
        assert folder.is_dir()
    finally:
        chassis.stop()
    assert not folder.exists() and not chassis.is_running


def test_scheduled_actions_run_in_order_when_they_are_due() -> None:
    clock, ran = FakeClock(), list[str]()
    schedule = Schedule(clock.now)
    schedule.add(clock.now() + timedelta(seconds=2), lambda: ran.append("second"))
    schedule.add(clock.now() + timedelta(seconds=1), lambda: ran.append("first"))
    schedule.add(clock.now() + timedelta(seconds=1), lambda: schedule.add(clock.now(), lambda: ran.append("added")))
    schedule.run_due()
    assert ran == []
    clock.advance("1s")
    schedule.run_due()
    assert ran == ["first", "added"]
    clock.advance("1s")
    schedule.run_due()
    assert ran == ["first", "added", "second"]


def test_a_limit_of_none_removes_the_limit() -> None:
    limits: Limits[int] = Limits()
    limits.set("zone-a", "big", 3)
    assert limits.get(("zone-a", "big")) == 3
    limits.set("zone-a", "big", None)
    limits.set("zone-b", "big", None)
    assert limits == {}


def test_a_foreign_resource_that_is_deleted_or_retagged_is_noticed() -> None:
    def resource(id_: str, **tags: str) -> Resource:
        return Resource("small", "node", id_, "r", billable=True, tags=tags)

    existing = [resource("ours")]
    foreign = ForeignResources(lambda: existing)
    with foreign.registering():
        existing.append(resource("theirs", name="database"))
    assert foreign.others() == [resource("ours")]
    assert foreign.has("node", "r", "theirs") and not foreign.has("node", "other-region", "theirs")
    assert foreign.are_intact()
    existing[1] = resource("theirs")
    assert not foreign.are_intact()
    existing[1] = resource("theirs", name="database")
    assert foreign.are_intact()
    del existing[1]
    assert not foreign.are_intact()
    foreign.clear()
    assert foreign.are_intact()


def test_measurements_are_one_for_each_minute_in_the_order_of_time() -> None:
    now = FakeClock().now()
    measurements = Measurements()
    measurements.add("node", {"cpu": 40}, until=now, minutes=2)
    measurements.add("node", {Metric.CPU: 10}, until=now - 5 * MINUTE, minutes=1, accelerator=3)
    found = [(one.end, one.load, one.accelerator) for one in measurements.of("node")]
    assert found == [
        (now - 5 * MINUTE, {Metric.CPU: 10}, 3),
        (now - MINUTE, {Metric.CPU: 40}, 0),
        (now, {Metric.CPU: 40}, 0),
    ]
    assert measurements.of("another") == ()
    with pytest.raises(ValueError, match="colour"):
        measurements.add("node", {"colour": 1}, until=now, minutes=1)


def test_a_forwarded_attribute_reads_and_writes_its_owner() -> None:
    class Cloud:
        lag = Duration("timing.lag")

        def __init__(self) -> None:
            self.timing = Timing()

    cloud = Cloud()
    cloud.lag = timedelta(seconds=3)
    assert cloud.timing.lag == cloud.lag == timedelta(seconds=3)


def test_a_local_cloud_refuses_what_it_does_not_have_by_name() -> None:
    cloud = SmallCloud()
    cloud.set_delays(lag=1, boot=2)
    assert (cloud.lag, cloud.boot_delay, cloud.shutdown_delay) == (
        timedelta(seconds=1),
        timedelta(seconds=2),
        timedelta(0),
    )
    with pytest.raises(NotImplementedError, match="the local cloud of small has no metrics"):
        cloud.measure("node", {"cpu": 40})
    with pytest.raises(NotImplementedError, match="no reservations"):
        cloud.add_reservation("big", "zone-a", 1)


def test_a_cloud_is_found_by_its_class() -> None:
    cloud = SmallCloud()
    clouds = LocalClouds({"small": cloud}, {})
    assert clouds.of(SmallCloud) is clouds.small is clouds["small"] is cloud
    with pytest.raises(LookupError, match="no dict is running; running are small"):
        clouds.of(dict)
