"""How Airflow sees the provider and its connection, and the names and tags of a task's cluster."""

import json
from typing import Any

import pytest

from multicompute.integrations.airflow.naming import cluster_name, tag, tags_of
from multicompute.spec import ClusterSpec
from tests.integrations.airflow.airflow_site import HERE, AirflowSite, needs_airflow

CONNECTION = {
    "conn_type": "multicompute",
    "password": "p@ss/word",
    "extra": {"state": "postgresql://me@127.0.0.1:1/fleets", "default_ttl": "90m", "clouds": "aws, gcp", "config": ""},
}
EMPTY = "from airflow.sdk import dag\n\n@dag(schedule=None)\ndef empty():\n    pass\n\nempty()\n"


@pytest.fixture(scope="module", name="seen")
def _seen(prepared: AirflowSite, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    empty = tmp_path_factory.mktemp("parse") / "empty.py"
    empty.write_text(EMPTY)
    example = prepared.home / "dags" / "airflow_fleet.py"
    probe = [str(HERE / "provider_probe.py"), str(empty), str(example)]
    shown = prepared.python(*probe, AIRFLOW_CONN_MINE=json.dumps(CONNECTION))
    found: dict[str, Any] = json.loads(shown.splitlines()[-1])
    return found


@needs_airflow
def test_airflow_finds_the_provider_its_connection_and_its_link(seen: dict[str, Any]) -> None:
    # The probe has validated the description against the schema of Airflow.
    assert seen["is_known"]
    assert seen["hook"] == "multicompute.integrations.airflow.hook.MulticomputeHook"
    fields = ("clouds", "config", "dashboard", "default_ttl", "state")
    assert seen["fields"] == [f"extra__multicompute__{field}" for field in fields]
    assert "host" in seen["hidden"]
    assert seen["links"] == ["multicompute.integrations.airflow.operators.ClusterLink"]


@needs_airflow
def test_the_fields_of_a_connection_become_variables(seen: dict[str, Any]) -> None:
    assert seen["variables"] == {
        "MULTICOMPUTE_STATE": "postgresql://me:p%40ss%2Fword@127.0.0.1:1/fleets",
        "MULTICOMPUTE_DEFAULT_TTL": "90m",
    }
    assert seen["clouds"] == ["aws", "gcp"]


@needs_airflow
def test_the_test_of_a_connection_reports_whether_its_ledger_can_be_read_without_showing_the_password(
    seen: dict[str, Any],
) -> None:
    assert seen["works"][0] is True
    assert seen["unreachable"][0] is False
    assert "p@ss" not in seen["unreachable"][1]
    assert "p%40ss" not in seen["unreachable"][1]


@needs_airflow
def test_a_trigger_is_created_again_from_its_serialized_form(seen: dict[str, Any]) -> None:
    assert seen["trigger_again"]


@needs_airflow
def test_the_dag_processor_parses_the_example_in_little_time(seen: dict[str, Any]) -> None:
    assert seen["parsing"]["example"] - seen["parsing"]["empty"] < 0.2


def test_the_description_does_not_need_airflow() -> None:
    from multicompute.integrations.airflow.provider_info import get_provider_info

    assert get_provider_info()["name"] == "multicompute"


@pytest.mark.parametrize(
    "instance",
    [
        ("nightly", "manual__2027-01-01T00:00:00+00:00", "train", -1),
        ("9 Lives/über.dag", "r", "t", 3),
        ("x" * 250, "r" * 250, "t" * 250, 1000),
        ("_", "_", "_", -1),
    ],
)
def test_every_task_instance_has_a_name_and_tags_that_every_cloud_accepts(instance: tuple[str, str, str, int]) -> None:
    name = cluster_name(*instance)
    spec = ClusterSpec.of({"gpus": 8, "type": "h100", "name": name, "tags": tags_of(*instance[:3])})
    assert spec.name == name
    assert all(0 < len(value) <= 63 for value in spec.tags.values())


def test_the_name_is_the_same_for_each_try_and_another_for_each_instance() -> None:
    first = ("nightly", "run-1", "train", -1)
    others = [("nightly", "run-2", "train", -1), ("nightly", "run-1", "eval", -1), ("nightly", "run-1", "train", 0)]
    assert cluster_name(*first) == "nightly-train-" + cluster_name(*first)[-12:]
    assert len({cluster_name(*instance) for instance in [first, first, *others]}) == 4


def test_a_tag_that_must_be_changed_stays_distinct() -> None:
    assert tag("good_run") == "good_run"
    assert tag("A b") != tag("a b") != "a-b"
