"""Hostile configuration, variables, locales and streams give one line that says what to do, and no traceback."""

import os
import socket
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute import Cluster
from multicompute.config import apply_environment
from multicompute.errors import SpecError
from multicompute.testing import FakeCloud, local_clouds
from tests.cli.conftest import Done
from tests.cli.processes import SCRIPT

Run = Callable[..., Done]
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
PLAN = ("plan", "--gpus", "8", "--type", "h100")


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """Return an environment without credentials, configuration and ledger."""
    return {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"}


def call(environment: dict[str, str], *arguments: str, shell: str = "") -> "subprocess.CompletedProcess[str]":
    """Run `multicompute ARGUMENTS...` in a process; `shell` follows it on the line of a shell."""
    command = ["bash", "-c", f'"$0" "$@" {shell}', SCRIPT, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[provider.aws]\nprofile = "lab"\n', "config.toml, line 1: [provider.aws]: unknown section; did you mean [providers.aws]?"),
        ('[aws]\nprofile = "lab"\n', "config.toml, line 1: [aws]: unknown section; the settings of a provider are in [providers.aws]"),
        ('provider.aws.profile = "lab"\n', "line 1: [provider.aws]: unknown section"),
        ('stat.x = 1\n', "line 1: [stat]: unknown section"),
        ('"" = 1\n', "'': unknown key"),
        ('"a b" = 1\n', "a b: unknown key"),
        ('"é.ü" = 1\n', "unknown key"),
        ("[[providers]]\nname = 'aws'\n", "providers: must be tables"),
        ("[[hosts]]\nname = 'a'\n", "line 1: hosts: unknown key"),
        ("confirm_above = 'much'\n", "line 1: confirm_above='much': must be an amount"),
        ("max_hourly = 0\n", "line 1: max_hourly=0: allows no request"),
        ("max_hourly = true\n", "line 1: max_hourly=True: must be an amount"),
    ],
)  # fmt: skip
def test_an_odd_key_or_section_of_the_configuration_is_named_with_its_line(
    run: Run, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "config.toml").write_text(text)
    with apply_environment({"MULTICOMPUTE_CONFIG": str(tmp_path / "config.toml")}):
        done = run("plan", "--gpus", "8", "--type", "h100")
    assert done.status == 2
    assert words in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("MULTICOMPUTE_STAET", "did you mean MULTICOMPUTE_STATE?"),
        ("MULTICOMPUTE_CONFIRM_ABOV", "did you mean MULTICOMPUTE_CONFIRM_ABOVE?"),
        ("MULTICOMPUTE_AWS_REGIONS", "did you mean MULTICOMPUTE_AWS__REGIONS?"),
        ("MULTICOMPUTE_PROVIDER__AWS__REGIONS", "did you mean MULTICOMPUTE_PROVIDERS__AWS__REGIONS?"),
        ("MULTICOMPUTE_AWS__REGION", "did you mean regions?"),
        ("MULTICOMPUTE_AWZ__REGIONS", "did you mean providers.aws?"),
        ("MULTICOMPUTE_XYZZY", "known are STATE"),
        ("MULTICOMPUTE_", "unknown variable"),
    ],
)
def test_a_misspelt_variable_is_an_error_with_the_nearest_name(run: Run, variable: str, meant: str) -> None:
    with apply_environment({variable: "x"}):
        done = run("plan", "--gpus", "8", "--type", "h100")
    assert done.status == 2
    assert f"{variable}: " in done.err
    assert meant in done.err


def test_the_variables_of_commands_on_nodes_are_no_error(run: Run) -> None:
    with apply_environment({"MULTICOMPUTE_RANK": "0", "MULTICOMPUTE_NODE_ADDRS": "10.0.0.1"}):
        assert run("plan", "--gpus", "8", "--type", "h100").status == 0


def test_a_configuration_file_that_does_not_exist_is_an_error_and_init_writes_it(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with local_clouds("aws"), apply_environment({"MULTICOMPUTE_CONFIG": str(path)}):
        missing = run("ls")
        assert run("init", "--yes").status == 0
        assert run("ls").status == 0
    assert missing.status == 2
    assert f"MULTICOMPUTE_CONFIG={path}: no such file" in missing.err


@pytest.mark.parametrize("command", [("plan", "--gpus", "8", "--type", "h100"), ("offers", "h100"), ("doctor",)])
@pytest.mark.parametrize(
    ("variable", "value", "meant"),
    [
        ("MULTICOMPUTE_AWS__REGIONS", "mars", "aws has no such region"),
        ("MULTICOMPUTE_AWS__REGIONS", "us-east-1,us-esat-2", "did you mean us-"),
        ("MULTICOMPUTE_AZURE__LOCATIONS", "eastsu", "did you mean eastus"),
    ],
)
def test_a_configured_region_that_does_not_exist_is_an_error(
    run: Run, command: tuple[str, ...], variable: str, value: str, meant: str
) -> None:
    with local_clouds("aws", "azure"), apply_environment({variable: value}):
        done = run(*command)
    # `doctor` reports it as the state of the provider, and goes on with the others.
    assert done.status == (6 if command == ("doctor",) else 2)
    shown = " ".join((done.out + done.err).split())
    assert variable in shown
    assert meant in shown


@pytest.mark.parametrize("value", ['["us-east-1"]', "us-east-1", "us-east-1 , us-west-2", '["us-east-1", "us-west-2"]'])
def test_a_list_in_a_variable_is_json_or_has_commas(run: Run, value: str) -> None:
    with local_clouds("aws"), apply_environment({"MULTICOMPUTE_PROVIDERS__AWS__REGIONS": value}):
        found = run("plan", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--json").document["candidates"]
    assert {candidate["region"] for candidate in found} <= {"us-east-1", "us-west-2"}
    assert found


def test_a_broken_list_in_a_variable_is_an_error(run: Run) -> None:
    with local_clouds("aws"), apply_environment({"MULTICOMPUTE_AWS__REGIONS": '["us-east-1"'}):
        done = run("plan", "--gpus", "8", "--type", "h100")
    assert done.status == 2
    assert "must be a list of texts" in done.err


@pytest.mark.parametrize("by", ["99999999d", "999999999999999999999w"])
def test_a_duration_that_no_calendar_has_is_refused(run: Run, fake_cloud: FakeCloud, by: str) -> None:
    assert run("up", "--gpus", "8", "--type", "h100", "--name", "train-1", "--yes").status == 0
    for command in (("extend", "train-1", by), ("cost", "--since", by)):
        done = run(*command)
        assert done.status == 2
        assert "longer than 2,000 years" in done.err
    for longest in (timedelta(days=10**8), timedelta.max):
        with pytest.raises(SpecError, match="longer than 2,000 years"):
            Cluster.get("train-1").extend(longest)
    assert run("down", "train-1", "--yes").status == 0


def test_any_text_can_be_shown_in_a_locale_without_it(bare: dict[str, str]) -> None:
    environment = bare | ASCII
    with local_clouds("aws") as clouds:
        environment |= clouds.environment
        up = ("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--name", "train-1", "--yes", "--no-progress")
        done = call(environment, *up, "--tag", "équipe=ü€")
        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
        for command in (("show", "train-1"), ("ls",), ("events", "train-1"), ("cost", "--by", "tag:équipe")):
            done = call(environment, *command)
            assert (done.returncode, "Traceback" in done.stderr) == (0, False)
        assert r"\u20ac" in call(environment, "show", "train-1").stdout
        document = call(bare | clouds.environment, "show", "train-1", "--json").stdout
        assert r'"\u00e9quipe": "\u00fc\u20ac"' in document
        call(environment, "down", "train-1", "--yes")


@pytest.mark.parametrize(
    "arguments", [("show", "é"), (*PLAN, "--name", "é"), (*PLAN, "--region", "é"), ("é",), ("ls", "--é")]
)
def test_a_name_that_the_locale_lacks_is_no_traceback(bare: dict[str, str], arguments: tuple[str, ...]) -> None:
    done = call(bare | ASCII, *arguments)
    assert done.returncode in (2, 8)
    assert "Traceback" not in done.stderr


def test_an_argument_that_is_no_text_is_refused(bare: dict[str, str]) -> None:
    done = call(bare, "show", shell=r"$'\xff'")
    assert (done.returncode, "not text in UTF-8" in done.stderr) == (2, True)


@pytest.mark.parametrize("closed", ["2>&-", "2> /dev/full", "<&- 2>&-", "<&- >&- 2>&-", "2> >(exit 0)"])
def test_a_stderr_that_takes_nothing_changes_no_status(bare: dict[str, str], closed: str) -> None:
    assert call(bare, "offers", "h100", "--limit", "1", shell=closed).returncode == 0
    assert call(bare, *PLAN, "--ttl", "soon", shell=closed).returncode == 2
    assert call(bare, "down", "train-1", shell=closed).returncode == 8


def test_a_metrics_port_in_use_is_an_error_that_says_so(run: Run, fake_cloud: FakeCloud) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = run("supervise", "--once", "--metrics", address)
    assert done.status == 2
    assert f"--metrics {address}: in use by another process" in done.err
    done = run("supervise", "--once", "--metrics", "192.0.2.1:9464")
    assert (done.status, "can't be bound" in done.err) == (2, True)
