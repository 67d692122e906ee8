"""The options of a request."""

import re
from datetime import timedelta
from pathlib import Path
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
        (["--setup", "boot.sh"], {"setup": Path("boot.sh")}),
        (["--setup-text", "echo hi"], {"setup": "echo hi"}),
        (["--ttl", "-1h"], {"ttl": "-1h"}),
        (["--allow-surplus"], {"allow_surplus": True}),
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
        (["--gpus", "8", "--type", "h100", "--ttl", "-1h"], "ttl='-1h': must be longer than zero"),
        (["--gpus", "8", "--type", "h100", "--budget", "-5"], "budget=-5.0: must be a positive amount"),
        (["--gpus", "8", "--type", "h100", "--setup", "missing.sh"], "setup='missing.sh': can't be read: No such file"),
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
        (["plan", "--spot", "h100"], "did you mean --spot --type h100?"),
        (["plan", "--spot=prefre"], "did you mean prefer?"),
        (["plan", "--placement", "zoen"], "did you mean zone?"),
        (["plan", "8", "h100"], "8: unknown argument; did you mean --gpus 8?"),
        (["plan", "h100"], "h100: unknown argument; did you mean --type h100?"),
        (["help", "plans"], "plans: no such command; did you mean plan?"),
        (["plan", "--setup", "a", "--setup-text", "b"], "--setup-text: not allowed with argument --setup"),
        (["ls", "train-1"], "train-1: unknown argument"),
        (["ls", "--", "true"], "--: unknown argument"),
        (["local", "pytest"], "pytest: unknown argument"),
    ],
)
def test_a_typo_in_the_command_line_is_named_with_the_nearest_name(argv: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        parse(argv)


@pytest.mark.parametrize(
    ("options", "field", "expected"),
    [
        (["--cloud", "aws,gcp"], "clouds", ("aws", "gcp")),
        (["--cloud", "aws, gcp,", "--cloud", "azure"], "clouds", ("aws", "gcp", "azure")),
        (["--region", "us-*,eu"], "regions", ("us-*", "eu")),
        (["--exclude", "us-east-1,p5.*"], "exclude", ("us-east-1", "p5.*")),
        (["--type", "h200,a100"], "type", ("h100", "h200", "a100")),
    ],
)
def test_lists_may_have_commas(options: list[str], field: str, expected: tuple[str, ...]) -> None:
    assert getattr(ClusterSpec.of(given("--gpus", "8", "--type", "h100", *options)), field) == expected


@pytest.mark.parametrize("argv", [["help"], ["help", "up"], ["version"], ["-V"], ["up", "--help"]])
def test_help_and_version_are_shown_as_other_tools_show_them(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(argv)
    assert not caught.value.code
    shown = capsys.readouterr().out
    assert shown.startswith("usage: multicompute up" if "up" in argv else ("usage: multicompute", "multicompute "))


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
        ("raise max_hourly", "raise --max-hourly"),
        ("raise `max_hourly` in the configuration", "raise `max_hourly` in the configuration"),
        ("name the file that ends in .pub", "name the file that ends in .pub"),
        ("name: must be text", "--name: must be text"),
        ("without regions would have one", "without --region would have one"),
        ('type: missing; specify an accelerator such as type="h100"', "--type: missing; specify an accelerator such as --type h100"),
        ("gpus=64 is not a multiple of gpus_per_node=6; gpus=66 would be", "--gpus 64 is not a multiple of --gpus-per-node 6; --gpus 66 would be"),
        ("8 nodes of type p5 in zone a", "8 nodes of type p5 in zone a"),
    ],
)  # fmt: skip
def test_messages_name_options_instead_of_arguments(python: str, options: str) -> None:
    assert as_options(python) == options
