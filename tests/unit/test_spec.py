"""A spec: what people may write, and what is refused before anything is asked of any cloud."""

import typing
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute import ClusterSpec
from multicompute.errors import SpecError
from multicompute.spec import Default, SpecArguments
from multicompute.units import format_duration, parse_duration, parse_gib


def spec(**arguments: object) -> ClusterSpec:
    return ClusterSpec.of({"gpus": 8, "type": "h100", **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
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
def test_what_makes_no_sense_is_refused_in_one_line_that_names_the_argument(arguments: dict[str, object]) -> None:
    with pytest.raises(SpecError) as caught:
        spec(**arguments)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    assert any(name in str(caught.value) for name in arguments)


@pytest.mark.parametrize(("wrong", "right"), [("gpu", "gpus"), ("region", "regions"), ("max_prize", "max_price")])
def test_an_unknown_argument_is_refused_with_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(SpecError, match=f"{wrong}: unknown argument; did you mean {right}"):
        spec(**{wrong: 1})


def test_a_contradiction_says_what_would_do() -> None:
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


def test_the_default_ttl_is_told_apart_from_none() -> None:
    assert spec().ttl is Default.TTL
    assert spec(ttl=None).ttl is None


def test_a_spec_survives_the_ledger() -> None:
    for made in (spec(), spec(ttl=None, tags={"b": "1", "a": "2"}, spot="prefer", disk="200GiB", keep_trying="2h")):
        assert ClusterSpec.of(made.to_dict()) == made


def test_how_it_is_waited_for_does_not_make_it_another_request() -> None:
    assert spec(wait=False, timeout="1h", name="one", progress=print).identity() == spec(name="one").identity()
    assert spec(ttl="1h").identity() != spec().identity()


def test_the_typed_arguments_are_those_of_the_spec() -> None:
    named = set(typing.get_type_hints(SpecArguments)) | {"gpus", "type"}
    assert named == {field.name for field in fields(ClusterSpec)}


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


@given(st.integers(1, 10**8))
def test_durations_are_written_as_they_are_read(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
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
