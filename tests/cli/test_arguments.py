"""The flags of a request."""

import argparse
import re
from dataclasses import field, fields, make_dataclass
from datetime import timedelta
from typing import Any

import pytest

from multicompute.cli.arguments import HELP, add_request_arguments, flag_of, request_arguments
from multicompute.cli.parser import parse
from multicompute.errors import SpecError
from multicompute.spec import ClusterSpec


def given(*argv: str) -> dict[str, Any]:
    return request_arguments(parse(["plan", *argv]))


def test_every_field_of_a_spec_has_a_flag_with_a_help_line() -> None:
    parser = argparse.ArgumentParser()
    add_request_arguments(parser)
    reached = {action.dest for action in parser._actions} - {"help"}
    assert reached == {item.name for item in fields(ClusterSpec)} == set(HELP)


def test_a_field_of_a_kind_that_no_flag_is_known_for_does_not_go_unnoticed() -> None:
    odd = make_dataclass("Odd", [("when", complex, field(default=0j))])
    with pytest.raises(TypeError, match=r"ClusterSpec\.when"):
        flag_of(fields(odd)[0])


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--gpus", "64", "--type", "h100"], {"gpus": 64, "type": ["h100"]}),
        (["--type", "h100", "--type=a100-80gb"], {"type": ["h100", "a100-80gb"]}),
        (["--cloud", "aws", "--cloud", "gcp"], {"clouds": ["aws", "gcp"]}),
        (["--region", "us-*", "--region", "eu"], {"regions": ["us-*", "eu"]}),
        (["--exclude", "aws:us-east-1"], {"exclude": ["aws:us-east-1"]}),
        (["--reservation", "cr-1"], {"reservations": ["cr-1"]}),
        (["--tag", "team=nlp", "--tag", "eq=a=b"], {"tags": {"team": "nlp", "eq": "a=b"}}),
        (["--spot"], {"spot": True}),
        (["--spot=prefer"], {"spot": "prefer"}),
        (["--flex-start", "--private"], {"flex_start": True, "private": True}),
        (["--no-estimates", "--no-wait", "--no-progress"], {"estimates": False, "wait": False, "progress": False}),
        (["--ttl", "none"], {"ttl": None}),
        (["--ttl", "12h", "--attempt-timeout", "5m"], {"ttl": "12h", "attempt_timeout": "5m"}),
        (["--min-gpu-memory", "80GiB", "--memory", "512"], {"min_gpu_memory": "80GiB", "memory": 512.0}),
        (["--max-price", "2.5", "--budget", "1000"], {"max_price": 2.5, "budget": 1000.0}),
        (["--gpus-per-node", "8", "--order", "given"], {"gpus_per_node": 8, "order": "given"}),
    ],
)
def test_a_flag_gives_what_a_caller_of_the_library_would_write(argv: list[str], expected: dict[str, Any]) -> None:
    assert given(*argv) == expected


def test_what_is_not_given_is_left_to_the_library() -> None:
    assert given() == {}


def test_every_flag_is_taken_by_the_spec() -> None:
    spec = ClusterSpec.of(
        given(
            *("--gpus", "16", "--type", "h100", "--nodes", "2", "--gpus-per-node", "8", "--name", "train-1"),
            *("--spot=prefer", "--ttl", "90m", "--timeout", "10m", "--keep-trying", "1h", "--disk", "200GiB"),
            *("--placement", "region", "--interconnect", "rdma", "--max-hourly", "500", "--vcpus", "8"),
        )
    )
    assert (spec.gpus, spec.nodes, spec.spot, spec.ttl) == (16, 2, "prefer", timedelta(minutes=90))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--gpus", "1.5", "--type", "h100"], "gpus='1.5': must be a whole number"),
        (["--gpus", "-1", "--type", "h100"], "gpus=-1: must be at least 1"),
        (["--gpus", "8", "--type", "h100", "--max-price", "nan"], "max_price=nan: must be a positive amount"),
        (["--gpus", "8", "--type", "h100", "--ttl", "soon"], "ttl='soon': not a duration"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_in_the_words_of_the_spec(argv: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ClusterSpec.of(given(*argv))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["plan", "--gpu", "64"], "--gpu: unknown argument; did you mean --gpus?"),
        (["plan", "--types=h100"], "--types: unknown argument; did you mean --type?"),
        (["plan", "--zzz"], "--zzz: unknown argument (see `multicompute plan --help`)"),
        (["plans"], "plans: no such command; did you mean plan?"),
        (["--json", "ls"], "--json: no such command"),
        ([], "no command given"),
        (["show"], "required: NAME"),
        (["plan", "--tag", "team"], "--tag: 'team' is not a pair; write --tag team=nlp"),
        (["plan", "--placement", "moon"], "--placement: invalid choice: 'moon'"),
        (["plan", "--spot=always"], "--spot: invalid choice: 'always'"),
        (["ls", "train-1"], "train-1: unknown argument"),
        (["ls", "--", "true"], "--: unknown argument"),
        (["local", "pytest"], "pytest: unknown argument"),
    ],
)
def test_a_slip_in_the_command_line_is_named_with_what_is_nearest(argv: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        parse(argv)


def test_what_stands_behind_two_dashes_belongs_to_the_other_command() -> None:
    assert parse(["local", "--", "pytest", "-q", "--", "x"]).command == ["pytest", "-q", "--", "x"]
