"""Tests of failed calls that only Fourth's provider makes, which the conformance suite does not cover."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pytest
from fourth_cloud.local import FourthLocalCloud

from fourth_cloud import plugin
from multicompute import errors
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.provider import Provider, Selector, Settings
from multicompute.testing import FakeClock, launch_request

TYPE = InstanceType("fourth", "h100x8", "h100", 8, 80.0, vcpus=192, memory_gib=1920, fabric="infiniband")
HERE, THERE = (
    Offer(TYPE, "north-1", zone, "on_demand", Quote(19.12, date(2026, 11, 20), "test"))
    for zone in ("north-1a", "north-1b")
)
ALL = Selector(cluster_id="id-first")


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FourthLocalCloud]:
    cloud = FourthLocalCloud(clock=FakeClock())
    cloud.start()
    yield cloud
    cloud.stop()


@pytest.fixture(name="provider")
def _provider(cloud: FourthLocalCloud) -> Provider:
    return plugin.open(Settings(environment=cloud.environment))


def test_a_gang_that_could_not_be_rolled_back_is_not_reported_as_a_lack_of_capacity(
    cloud: FourthLocalCloud, provider: Provider
) -> None:
    cloud.set_capacity(TYPE.name, THERE.zone, 0)
    cloud.faults.drop("DeleteServers")
    request = replace(launch_request(HERE), parts=(Part(HERE, 1), Part(THERE, 1)))
    # CapacityError would mean that no node of the token exists.
    with pytest.raises(errors.TransientError, match="could not be taken back"):
        provider.launch(request)
    with pytest.raises(errors.CapacityError):
        provider.launch(request)
    cloud.clock.sleep(cloud.shutdown_delay)
    assert [resource.kind for resource in cloud.alive()] == ["firewall"]


def test_more_servers_than_one_call_takes_are_all_deleted(cloud: FourthLocalCloud, provider: Provider) -> None:
    provider.launch(launch_request(HERE, nodes=250))
    assert not provider.terminate(ALL).is_done
    assert cloud.faults.count("DeleteServers") == 3
    cloud.clock.sleep(cloud.shutdown_delay)
    assert provider.terminate(ALL).is_done
    assert cloud.alive() == []


def test_the_firewall_is_not_deleted_before_the_servers_are_gone(cloud: FourthLocalCloud, provider: Provider) -> None:
    provider.launch(launch_request(HERE))
    step = provider.terminate(ALL)
    assert cloud.faults.count("DeleteFirewall") == 0
    assert step.waiting_for == "3 to be deleted: firewall, server"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(502, errors.TransientError), (429, errors.ThrottledError), (418, errors.TransientError), (401, errors.AuthError)],
)
def test_an_answer_without_a_code_of_the_api_is_translated_by_its_status(
    cloud: FourthLocalCloud, provider: Provider, status: int, kind: type[errors.MulticomputeError]
) -> None:
    cloud.faults.fail("CreateServers", f"http_{status}", status=status)
    with pytest.raises(errors.MulticomputeError) as caught:
        provider.launch(launch_request(HERE))
    assert type(caught.value) is kind


def test_the_wait_that_the_cloud_asks_for_is_passed_on(cloud: FourthLocalCloud, provider: Provider) -> None:
    cloud.faults.throttle("ListServers")
    with pytest.raises(errors.ThrottledError) as caught:
        provider.nodes(ALL)
    assert caught.value.retry_after == 1.0


def test_a_key_that_is_not_accepted_is_a_finding_and_not_an_error(cloud: FourthLocalCloud, provider: Provider) -> None:
    cloud.faults.fail("GetAccount", "unauthorized")
    (finding,) = provider.check()
    assert not finding.ok and "FOURTH_API_KEY" in finding.hint
