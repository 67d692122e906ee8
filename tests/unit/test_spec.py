"""A spec: the forms in which people may write it, what it refuses, and its use as a pydantic model."""

import copy
import json
import pickle
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from multicompute import ClusterSpec
from multicompute.errors import SpecError
from multicompute.node import Event
from multicompute.units import format_duration, parse_duration, parse_gib

WRITTEN_BY_EARLIER_VERSIONS = {
    "gpus": 16,
    "type": ["h100", "h200"],
    "order": "given",
    "reservations": ["cr-1"],
    "name": "train-1",
    "nodes": 2,
    "gpus_per_node": 8,
    "min_gpu_memory": 80.0,
    "vcpus": 96,
    "memory": 1024.0,
    "spot": "prefer",
    "flex_start": True,
    "estimates": False,
    "clouds": ["aws"],
    "regions": ["us-*", "eu"],
    "exclude": ["us-east-1"],
    "placement": "region",
    "interconnect": "rdma",
    "max_price": 12.5,
    "max_hourly": 200.0,
    "budget": 1000.0,
    "ttl": "12h",
    "idle_timeout": "30m",
    "disk": 200.0,
    "image": "ami-1",
    "setup": "echo hi",
    "ssh_key": "~/.ssh/id.pub",
    "private": True,
    "tags": {"a": "2", "b": "1"},
    "wait": False,
    "timeout": "1h",
    "attempt_timeout": "90s",
    "keep_trying": "2h",
}
"""A spec as ledgers have it; changing it means that ledgers need an upgrade."""


def spec(**arguments: object) -> ClusterSpec:
    return ClusterSpec.of({"gpus": 8, "type": "h100", **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        {"reservations": [None]},
        {"wait": 1},
        {"flex_start": "yes"},
        {"progress": "always"},
        {"vcpus": 2.0},
        {"gpus": 0},
        {"gpus": -1},
        {"gpus": 10**9},
        {"gpus": "64"},
        {"gpus": 1.5},
        {"gpus": True},
        {"nodes": 0},
        {"type": ""},
        {"type": 7},
        {"type": ["h100", ""]},
        {"type": None},
        {"max_price": float("nan")},
        {"max_price": float("inf")},
        {"max_price": 0},
        {"max_price": "2"},
        {"max_hourly": -1.0},
        {"budget": 0},
        {"ttl": "soon"},
        {"ttl": "366d"},
        {"ttl": "-1h"},
        {"ttl": 12},
        {"timeout": None},
        {"timeout": "0s"},
        {"name": "Train"},
        {"name": "t"},
        {"name": "1st"},
        {"name": "a" * 41},
        {"name": "train-"},
        {"name": "train\n"},
        {"spot": "maybe"},
        {"placement": "rack"},
        {"interconnect": "fast"},
        {"order": "random"},
        {"clouds": []},
        {"min_gpu_memory": "80 elephants"},
        {"memory": -1},
        {"disk": 0},
        {"tags": {"a": 1}},
        {"tags": ["a"]},
        {"tags": {"": "x"}},
        {"tags": {"multicompute-id": "x"}},
        {"gpus": 64, "gpus_per_node": 6},
        {"gpus": 64, "nodes": 4, "gpus_per_node": 8},
        {"gpus": 2, "nodes": 3},
        {"setup": ""},
        {"image": "  "},
    ],
    ids=repr,
)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_argument(arguments: dict[str, object]) -> None:
    with pytest.raises(SpecError) as caught:
        spec(**arguments)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    assert any(name in str(caught.value) for name in arguments)


@pytest.mark.parametrize(("wrong", "right"), [("gpu", "gpus"), ("region", "regions"), ("max_prize", "max_price")])
def test_an_unknown_argument_is_refused_with_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(SpecError, match=f"{wrong}: unknown argument; did you mean {right}"):
        spec(**{wrong: 1})


def test_the_error_names_the_argument_for_programs_too() -> None:
    for wrong in ({"gpus": 0}, {"regoins": ["eu"]}, {"tags": {"a": 1}}):
        with pytest.raises(SpecError) as caught:
            spec(**wrong)
        assert caught.value.argument == next(iter(wrong))


def test_a_contradiction_names_a_number_that_works() -> None:
    with pytest.raises(SpecError, match="gpus=66 would be"):
        spec(gpus=64, gpus_per_node=6)


def test_people_may_write_texts_and_lists_of_one() -> None:
    found = spec(regions="eu", ttl="1h30m", disk="1TiB", min_gpu_memory=80, timeout=timedelta(minutes=5), clouds="aws")
    assert found.type == ("h100",)
    assert found.regions == ("eu",)
    assert found.clouds == ("aws",)
    assert found.ttl == timedelta(minutes=90)
    assert found.disk == 1024
    assert found.min_gpu_memory == 80


def test_setup_is_a_file_or_the_text(tmp_path: Path) -> None:
    script = tmp_path / "boot.sh"
    script.write_text("echo hi\n", encoding="utf-8")
    found = spec(setup=script)
    assert found.setup == "echo hi\n"
    script.write_text("echo later\n", encoding="utf-8")
    assert found.setup == "echo hi\n"
    assert found.identity() == spec(setup="echo hi\n").identity()
    script.write_bytes(b"\xff")
    for wrong in (tmp_path / "missing.sh", tmp_path, script):
        with pytest.raises(SpecError, match="can't be read"):
            spec(setup=wrong)


def test_the_default_ttl_is_not_the_same_as_none() -> None:
    assert spec().ttl == "default"
    assert spec(ttl=None).ttl is None
    assert spec(ttl="none").ttl is None


def test_a_spec_survives_the_ledger() -> None:
    for made in (spec(), spec(ttl=None, tags={"b": "1", "a": "2"}, spot="prefer", disk="200GiB", keep_trying="2h")):
        assert ClusterSpec.of(json.loads(json.dumps(made.to_dict()))) == made


def test_ledgers_of_earlier_versions_are_read_and_the_form_has_not_changed() -> None:
    found = ClusterSpec.of(WRITTEN_BY_EARLIER_VERSIONS)
    younger: dict[str, Any] = {"strict_ttl": False, "reservations_only": False, "allow_surplus": False}
    younger |= {"hours": None, "data": [], "interruption_cost_hours": 0.0, "workload": None, "deadline": None}
    assert found.to_dict() == WRITTEN_BY_EARLIER_VERSIONS | younger
    assert [name for name in found.to_dict() if name not in younger] == list(WRITTEN_BY_EARLIER_VERSIONS)
    how = {"name", "wait", "timeout", "attempt_timeout", "keep_trying"}
    what = {name: value for name, value in WRITTEN_BY_EARLIER_VERSIONS.items() if name not in how}
    assert found.identity() == what | {"setup": f"sha256:{sha256(b'echo hi').hexdigest()}"}
    defaults = {name: value for name, value in spec().to_dict().items() if value not in (None, [], {}, False, 0.0)}
    assert defaults == {
        "gpus": 8,
        "type": ["h100"],
        "order": "price",
        "estimates": True,
        "placement": "zone",
        "interconnect": "auto",
        "ttl": "default",
        "wait": True,
        "timeout": "30m",
    }


def test_how_to_wait_does_not_make_it_another_request() -> None:
    assert spec(wait=False, timeout="1h", name="one", progress=print).identity() == spec(name="one").identity()
    assert spec(ttl="1h").identity() != spec().identity()
    assert spec(strict_ttl=True).identity() != spec().identity()
    assert spec(allow_surplus=True).identity() != spec().identity()


def test_a_spec_does_not_change_and_a_changed_copy_is_checked() -> None:
    made = spec(nodes=1)
    with pytest.raises(ValueError, match="frozen"):
        made.gpus = 16
    assert made.replace(gpus=4, nodes=None) == spec(gpus=4)
    with pytest.raises(SpecError, match="must be at least 1"):
        made.replace(gpus=0)
    with pytest.raises(SpecError, match="some nodes would have no accelerator"):
        made.replace(nodes=16)


def test_two_specs_share_no_tags() -> None:
    spec().tags["a"] = "1"
    assert spec().tags == {}


def test_script_and_callback_are_not_shown() -> None:
    assert "token" not in repr(spec(setup="export TOKEN=token", progress=print))
    assert "print" not in repr(spec(progress=print))


def test_a_spec_can_be_pickled_and_copied() -> None:
    made = spec(ttl="12h", tags={"team": "nlp"}, regions=["eu"])
    for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), copy.copy(made)):
        assert (twin, twin.model_fields_set) == (made, made.model_fields_set)
    assert made != spec(ttl="13h", tags={"team": "nlp"}, regions=["eu"])


class Job(BaseModel):
    """A model of a user with a spec in it."""

    command: str
    cluster: ClusterSpec


PEOPLE_WRITE: dict[str, Any] = {"gpus": 16, "type": "h100", "regions": "eu", "ttl": "12h", "disk": "1TiB", "spot": True}


def test_a_spec_is_a_field_of_a_users_own_model() -> None:
    job = Job.model_validate({"command": "train", "cluster": PEOPLE_WRITE})
    assert job.cluster == ClusterSpec.of(PEOPLE_WRITE)
    assert Job(command="train", cluster=job.cluster).cluster is job.cluster
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert Job.model_validate(job.model_dump()) == job
    assert json.loads(job.model_dump_json())["cluster"] == job.cluster.to_dict()
    assert TypeAdapter(list[ClusterSpec]).validate_json(json.dumps([PEOPLE_WRITE])) == [job.cluster]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gpus": 0}, "gpus=0: must be at least 1"),
        ({"regoins": ["us"]}, "regoins: unknown argument; did you mean regions?"),
        ({"nodes": 32}, "nodes=32 is more than gpus=16"),
    ],
)
def test_a_wrong_spec_in_a_users_model_is_an_error_of_that_model_in_our_words(wrong: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Job.model_validate({"command": "train", "cluster": PEOPLE_WRITE | wrong})
    (error,) = caught.value.errors()
    assert error["loc"] == ("cluster",)
    assert message in error["msg"]


@pytest.mark.parametrize("wrong", [{"gpus": 0}, {"gpus": 8, "type": "h100", "regoins": []}, {}, 3, None])
def test_pydantics_own_ways_to_make_a_spec_raise_our_error(wrong: Any) -> None:
    with pytest.raises(SpecError):
        ClusterSpec.model_validate(wrong)
    with pytest.raises(SpecError):
        ClusterSpec.model_validate_json(json.dumps(wrong))
    with pytest.raises(SpecError, match="JSON"):
        ClusterSpec.model_validate_json("{")
    assert ClusterSpec.model_validate(PEOPLE_WRITE) == ClusterSpec.model_validate_json(json.dumps(PEOPLE_WRITE))


def test_the_json_schema_describes_what_people_may_write() -> None:
    schema = Job.model_json_schema()["$defs"]["ClusterSpec"]
    fields = schema["properties"]
    assert schema["additionalProperties"] is False
    assert fields["gpus"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 1_000_000}
    assert {item["type"] for item in fields["type"]["anyOf"]} == {"string", "array"}
    assert {item["type"] for item in fields["min_gpu_memory"]["anyOf"]} == {"string", "number", "null"}
    assert (fields["timeout"]["type"], fields["timeout"]["default"]) == ("string", "30m")
    assert (fields["ttl"]["default"], fields["regions"]["default"]) == ("default", [])
    assert fields["spot"]["anyOf"] == [{"type": "boolean"}, {"const": "prefer", "type": "string"}]
    assert fields["placement"]["enum"] == ["zone", "region", "cloud", "any"]


def test_a_callback_is_called_with_events_and_left_out_of_json() -> None:
    def callback(event: Event) -> None:
        """Do nothing."""

    assert spec(progress=callback).progress is callback
    assert "progress" not in spec(progress=callback).to_dict()
    assert "progress" not in spec(progress=callback).model_dump()


def test_only_public_keys_are_read(tmp_path: Path) -> None:
    key = tmp_path / "id.pub"
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@here\n")
    assert spec(ssh_key=str(key)).ssh_public_key() == "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@here"
    assert spec().ssh_public_key() is None
    for text in ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", "", "ssh-ed25519 AAAA x\nssh-ed25519 AAAA y"):
        key.write_text(text)
        with pytest.raises(SpecError, match="no OpenSSH public key"):
            spec(ssh_key=str(key)).ssh_public_key()
    with pytest.raises(SpecError, match="can't be read"):
        spec(ssh_key=str(tmp_path / "none")).ssh_public_key()


@given(st.timedeltas(timedelta(microseconds=1), timedelta(days=3000)))
def test_durations_are_written_as_they_are_read(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration), what="ttl") == duration


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_spec_error(text: str) -> None:
    try:
        assert parse_duration(text, what="ttl") > timedelta(0)
    except SpecError as error:
        assert "ttl" in str(error)


@given(st.one_of(st.text(max_size=12), st.floats(), st.integers(), st.none(), st.booleans()))
def test_any_value_is_a_size_or_a_spec_error(value: object) -> None:
    try:
        assert parse_gib(value, what="disk") > 0  # type: ignore[arg-type]
    except SpecError as error:
        assert "disk" in str(error)


@pytest.mark.parametrize(
    ("text", "gib"), [("80GiB", 80), ("80", 80), ("1TiB", 1024), ("1 tb", 1e12 / 2**30), ("512MiB", 0.5), (40, 40)]
)
def test_sizes_have_units(text: str | float, gib: float) -> None:
    assert parse_gib(text, what="disk") == pytest.approx(gib)
