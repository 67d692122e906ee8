"""The records of a request in the logger "multicompute"."""

import logging
from collections.abc import Iterator

import pytest

from multicompute import Cluster, errors
from multicompute.testing import FakeCloud, LocalClouds, local_clouds


@pytest.fixture(name="clouds", scope="module")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds() as clouds:
        yield clouds


def test_every_step_of_a_request_is_an_info_with_cluster_attempt_and_place(
    fake_cloud: FakeCloud, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="multicompute")
    fake_cloud.set_capacity("p5.48xlarge", "us-east-1a", 0)
    with Cluster.request(nodes=1, type="p5.48xlarge", name="train", clouds=["aws"]) as cluster:
        events = cluster.events()
    steps = [vars(record) for record in caplog.records if hasattr(record, "event")]
    assert [step["event"] for step in steps[: len(events)]] == [event.kind for event in events]
    assert {step["levelname"] for step in steps} == {"INFO"}
    assert {(step["name"], step["cluster"], step["cluster_id"]) for step in steps} == {
        ("multicompute", "train", cluster.id)
    }
    tried = {step["event"]: step for step in steps if step["event"] in ("capacity", "launched", "ready")}
    assert tried["capacity"]["place"] == "aws us-east-1a"
    assert tried["launched"]["place"] == tried["ready"]["place"] == "aws us-east-1b"
    assert tried["capacity"]["attempt"] != tried["launched"]["attempt"] == tried["ready"]["attempt"]
    assert tried["ready"]["attempt"].startswith("mc-")
    assert all(step["message"].startswith("train: ") for step in steps)
    assert [step["event"] for step in steps[-2:]] == ["terminating", "terminated"]


@pytest.mark.parametrize(
    ("cloud", "call"),
    [("aws", "RunInstances"), ("gcp", "instances.bulkInsert"), ("azure", "virtualMachineScaleSets.createOrUpdate")],
)
def test_every_call_of_a_cloud_is_a_debug_with_its_duration_and_id(
    clouds: LocalClouds, caplog: pytest.LogCaptureFixture, cloud: str, call: str
) -> None:
    caplog.set_level(logging.DEBUG, logger="multicompute")
    Cluster.request(gpus=8, type="h100", clouds=[cloud]).terminate()
    calls = [
        vars(record) for record in caplog.records if record.name == f"multicompute.{cloud}" and hasattr(record, "call")
    ]
    assert {record["levelname"] for record in calls} == {"DEBUG"}
    assert call in {record["operation"] for record in calls}
    assert len({record["call"] for record in calls}) == len(calls)
    assert all(record["seconds"] >= 0 and record["outcome"] and record["provider"] == cloud for record in calls)
    launch = next(record for record in calls if record["operation"] == call)
    assert f"{call}: ok in {launch['seconds']:.3f} s" in launch["message"]
    if cloud != "azure":
        assert launch["request_ids"]


def test_a_call_that_fails_is_logged_with_the_code_of_the_cloud(
    clouds: LocalClouds, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="multicompute")
    clouds.aws.set_capacity("p5.48xlarge", "us-east-1a", 0)
    with pytest.raises(errors.CapacityError):
        Cluster.request(nodes=1, type="p5.48xlarge", clouds=["aws"], regions=["us-east-1a"])
    outcomes = {vars(record).get("outcome") for record in caplog.records}
    assert "InsufficientInstanceCapacity" in outcomes


def test_without_a_level_nothing_is_printed(fake_cloud: FakeCloud, capfd: pytest.CaptureFixture[str]) -> None:
    Cluster.request(gpus=8, type="h100", clouds=["aws"]).terminate()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
