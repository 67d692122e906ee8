"""The options of a request."""

import re
from datetime import timedelta
from typing import Any

import pytest

from multicompute.cli.arguments import request_arguments
from multicompute.cli.parser import parse
from multicompute.cli.spelling import as_options
from multicompute.errors import SpecError
from multicompute.spec import ClusterSpec


def given(*argv: str) -> dict[str, Any]:
    return request_arguments(parse(["plan", *argv]))


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
        (["--estimates", "--wait", "--progress"], {"estimates": True, "wait": True, "progress": True}),
        (["--no-flex-start", "--no-private"], {"flex_start": False, "private": False}),
        (["--no-spot"], {"spot": False}),
        (["--ttl", "none"], {"ttl": "none"}),
        (["--ttl", "12h", "--attempt-timeout", "5m"], {"ttl": "12h", "attempt_timeout": "5m"}),
        (["--min-gpu-memory", "80GiB", "--memory", "512"], {"min_gpu_memory": "80GiB", "memory": 512.0}),
        (["--max-price", "2.5", "--budget", "1000"], {"max_price": 2.5, "budget": 1000.0}),
        (["--gpus-per-node", "8", "--order", "given"], {"gpus_per_node": 8, "order": "given"}),
    ],
)
def test_an_option_gives_the_same_value_as_a_call_of_the_library(argv: list[str], expected: dict[str, Any]) -> None:
    assert given(*argv) == expected


def test_omitted_options_are_left_to_the_library() -> None:
    assert given() == {}


def test_the_spec_accepts_the_values_of_options() -> None:
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
def test_a_wrong_value_is_refused_by_the_spec(argv: list[str], message: str) -> None:
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
def test_a_typo_in_the_command_line_is_named_with_the_nearest_name(argv: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        parse(argv)


def test_arguments_after_two_dashes_belong_to_the_other_command() -> None:
    assert parse(["local", "--", "pytest", "-q", "--", "x"]).command == ["pytest", "-q", "--", "x"]


@pytest.mark.parametrize(
    ("python", "options"),
    [
        ("max_price=nan: must be a positive amount in USD", "--max-price nan: must be a positive amount in USD"),
        ("max_hourly=55.04 would have one: aws p5", "--max-hourly 55.04 would have one: aws p5"),
        ("regions=['eu-west-1', 'eu-west-2'] would", "--region eu-west-1 --region eu-west-2 would"),
        ("clouds=['aws'] with spot='prefer'", "--cloud aws with --spot=prefer"),
        ("estimates=True with flex_start=True", "--estimates with --flex-start"),
        ("estimates=False", "--no-estimates"),
        ("set keep_trying, such as keep_trying='2h'", "set keep_trying, such as --keep-trying 2h"),
        ("use ttl=None for no limit", "use --ttl none for no limit"),
        ("name='a b': must be", "--name 'a b': must be"),
        ("without regions would have one", "without --region would have one"),
        ('type: missing; specify an accelerator such as type="h100"', "--type: missing; specify an accelerator such as --type h100"),
        ("gpus=64 is not a multiple of gpus_per_node=6; gpus=66 would be", "--gpus 64 is not a multiple of --gpus-per-node 6; --gpus 66 would be"),
        ("8 nodes of type p5 in zone a", "8 nodes of type p5 in zone a"),
    ],
)  # fmt: skip
def test_messages_name_options_instead_of_arguments(python: str, options: str) -> None:
    assert as_options(python) == options
