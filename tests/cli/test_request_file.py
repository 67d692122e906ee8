"""`--file` of `up` and `plan`, and `schema`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multicompute.spec import ClusterSpec
from multicompute.testing import FakeCloud

Run = Callable[..., Any]
TOML = 'gpus = 16\ntype = "h100"\nregions = ["us-*"]\nttl = "none"\nwait = true\n[tags]\nteam = "nlp"\n'


@pytest.fixture(autouse=True)
def _clouds(fake_cloud: FakeCloud) -> FakeCloud:
    return fake_cloud


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a file and return its path."""

    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def planned(run: Run, *arguments: str) -> Any:
    """Return the spec of a plan."""
    done = run("plan", *arguments, "--json")
    assert done.status == 0, done.err
    return done.document["spec"]


def test_toml_and_json_give_the_same_request_as_options(run: Run, write: Callable[[str, str], str]) -> None:
    options = ("--gpus", "16", "--type", "h100", "--region", "us-*", "--ttl", "none", "--tag", "team=nlp")
    expected = planned(run, *options)
    assert planned(run, "--file", write("job.toml", TOML)) == expected
    assert planned(run, "--file", write("job.json", json.dumps(expected))) == expected


def test_options_override_the_file(run: Run, write: Callable[[str, str], str]) -> None:
    file = write("job.toml", "spot = true\nprivate = true\n" + TOML)
    spec = planned(run, "--file", file, "--gpus", "8", "--region", "eu", "--tag", "a=b", "--no-spot", "--no-private")
    assert (spec["gpus"], spec["regions"], spec["tags"]) == (8, ["eu"], {"a": "b"})
    assert (spec["spot"], spec["private"], spec["type"]) == (False, False, ["h100"])


def test_up_launches_what_the_file_describes(run: Run, write: Callable[[str, str], str]) -> None:
    done = run("up", "--file", write("job.toml", TOML), "--name", "train-1", "--yes", "--no-progress", "--json")
    assert (done.status, len(done.document["nodes"]), done.document["tags"]) == (0, 2, {"team": "nlp"})
    assert run("down", "train-1", "--yes").status == 0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("job.toml", 'regoins = "eu"\n' + TOML, "job.toml: regoins: unknown argument; did you mean regions?"),
        ("job.toml", TOML.replace("16", '"16"'), "job.toml: gpus='16': must be a whole number"),
        ("job.toml", "gpus = 16\n", "job.toml: type: missing"),
        ("job.toml", "gpus = \n", "job.toml: not valid TOML"),
        ("job.json", "{", "job.json: not valid JSON"),
        ("job.json", "[1]", "job.json: must be an object"),
        ("job.yaml", "gpus: 16", "job.yaml: must be a .toml or .json file"),
    ],
)
def test_an_error_in_the_file_names_the_file_and_the_key(
    run: Run, write: Callable[[str, str], str], name: str, text: str, message: str
) -> None:
    done = run("plan", "--file", write(name, text))
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_an_error_in_an_option_does_not_blame_the_file(run: Run, write: Callable[[str, str], str]) -> None:
    done = run("plan", "--file", write("job.toml", TOML), "--max-price", "0")
    assert done.status == 2
    assert done.err.startswith("multicompute: --max-price 0.0: must be a positive amount")


def test_a_file_that_does_not_exist_is_named(run: Run, tmp_path: Path) -> None:
    done = run("plan", "--file", str(tmp_path / "none.toml"))
    assert done.status == 2
    assert "none.toml: can't be read" in done.err


def test_schema_prints_the_json_schema_of_a_request(run: Run) -> None:
    document = run("schema").document
    assert document["$schema"].startswith("https://json-schema.org/")
    assert {key: value for key, value in document.items() if key != "$schema"} == ClusterSpec.model_json_schema()
