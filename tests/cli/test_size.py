"""`size`: the figures of a model, the options for doing the job, and what is refused."""

import csv
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from multicompute.cli.parser import parser_of
from multicompute.cli.size import FIELDS
from multicompute.cli.spelling import workload_flag
from multicompute.testing import FakeCloud
from tests.unit.sizing.configs import PUBLISHED

Run = Callable[..., Any]
FACTS = Path(__file__).parents[1] / "unit" / "sizing" / "facts"
JOB = ("--params", "70e9", "--tokens", "2e12", "--deadline", "30d")


def facts(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((FACTS / name).read_text(encoding="utf-8").splitlines()))


OPTION = {"mfu", "mfu_low", "mfu_high", "hours", "total_usd", "accelerator_hours", "fits", "parallelism", "goodput"}


@pytest.fixture(autouse=True)
def _clouds(fake_cloud: FakeCloud) -> FakeCloud:
    return fake_cloud


def sized(run: Run, *arguments: str) -> Any:
    done = run("size", *arguments, "--json")
    assert done.status == 0, done.err
    return done.document


def front(options: list[dict[str, Any]]) -> list[int]:
    """Return the options that no other one beats in hours or USD without being worse in the other."""
    fit = [(index, each) for index, each in enumerate(options) if each["fits"]]
    return [
        index
        for index, each in fit
        if not any(
            other["hours"] <= each["hours"]
            and other["total_usd"] <= each["total_usd"]
            and (other["hours"], other["total_usd"], position) < (each["hours"], each["total_usd"], index)
            and ((other["hours"], other["total_usd"]) != (each["hours"], each["total_usd"]) or position < index)
            for position, other in fit
        )
    ]


def test_the_document_has_the_figures_and_the_options(run: Run) -> None:
    found = sized(run, *JOB, "--type", "h100")
    assert {"workload", "flops", "accelerator_hours", "memory", "min_accelerators", "options", "pareto"} <= set(found)
    assert found["workload"]["params"] == 70e9
    assert found["workload"]["assumed"][:2] == ["layers", "hidden"]
    assert found["memory"]["per_accelerator_gib"] <= 80
    parts = ("weights_gib", "gradients_gib", "optimizer_gib", "activations_gib", "kv_cache_gib")
    assert found["memory"]["total_gib"] == pytest.approx(sum(found["memory"][name] for name in parts))
    options = found["options"]
    assert options
    assert all(set(option) >= OPTION for option in options)
    assert [option["total_usd"] for option in options] == sorted(option["total_usd"] for option in options)
    assert all(option["hours"] <= 720 * (1 + 1e-9) and option["fits"] for option in options)
    assert found["pareto"] == front(options)
    for option in options:
        split = option["parallelism"]
        assert math.prod(split[name] for name in ("data", "tensor", "pipeline")) == option["accelerators"]


def test_at_a_given_mfu_hours_and_cost_follow_from_the_accelerator_hours(run: Run) -> None:
    found = sized(run, *JOB, "--type", "h100", "--mfu", "0.45")
    assert found["accelerator_hours"] == pytest.approx(found["flops"] / (989.4e12 * 0.45 * 3600))
    for option in found["options"]:
        assert option["hours"] == pytest.approx(found["accelerator_hours"] / option["accelerators"])
        assert option["total_usd"] == pytest.approx(option["hours"] * option["hourly_usd"], rel=1e-6)


def test_each_option_stands_in_the_plan_for_its_accelerators(run: Run) -> None:
    for option in sized(run, *JOB, "--type", "h100", "--region", "us-*")["options"][::8]:
        planned = run("plan", "--gpus", f"{option['accelerators']:g}", "--type", "h100", "--region", "us-*", "--json")
        keys = ("provider", "region", "zone", "instance_type", "nodes", "hourly_usd")
        assert [option[key] for key in keys] in [[each[key] for key in keys] for each in planned.document["candidates"]]


def test_recompute_and_zero_change_memory_and_not_hours(run: Run) -> None:
    job = ("--params", "70e9", "--tokens", "2e12", "--type", "h100", "--mfu", "0.4", "--gpus", "512")
    plain, less = sized(run, *job), sized(run, *job, "--recompute", "full", "--zero", "3")
    assert less["memory"]["activations_gib"] < plain["memory"]["activations_gib"]
    assert less["memory"]["per_accelerator_gib"] < plain["memory"]["per_accelerator_gib"]
    assert [each["hours"] for each in less["options"]] == [each["hours"] for each in plain["options"]]


def test_without_a_type_the_figures_are_those_of_the_first_option(run: Run) -> None:
    found = sized(run, *JOB, "--spot=prefer")
    assert len({option["instance_type"] for option in found["options"]}) > 10
    assert found["accelerator"] != "h100"
    assert {option["purchase"] for option in found["options"]} == {"spot", "on_demand"}


def test_inference_has_throughput_and_replicas(run: Run) -> None:
    arguments = ("--params", "70e9", "--inference", "--context", "8192", "--concurrency", "64", "--type", "h100")
    found = sized(run, *arguments, "--quantization", "fp8", "--tokens-per-second", "50000")
    assert found["memory"]["kv_cache_gib"] > 100
    assert found["throughput"]["bound_by"] == "memory bandwidth"
    best = found["options"][0]
    assert best["parallelism"]["data"] > 1
    assert best["accelerators"] % 8 == 0
    latent = sized(run, *arguments, "--kv-lora-rank", "512", "--kv-precision", "fp8")
    assert latent["memory"]["kv_cache_gib"] < found["memory"]["kv_cache_gib"] / 2


def test_a_configuration_gives_the_shape(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(PUBLISHED["DeepSeek-V3"].config))
    found = sized(
        run, "--config", str(path), "--tokens", "14.8T", "--precision", "fp8", "--type", "h100", "--gpus", "2048"
    )
    assert found["workload"]["params"] == pytest.approx(671e9, rel=0.01)
    assert found["workload"]["active_params"] == pytest.approx(37.5e9, rel=0.03)
    assert found["workload"]["assumed"] == []


def test_a_file_describes_the_job_and_options_override_it(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text(
        'type = "h100"\ndeadline = "30d"\nregions = ["us-*"]\n[workload]\ntask = "training"\nparams = "70B"\ntokens = "2T"\n'
    )
    found = sized(run, "--file", str(file))
    assert found["options"] == sized(run, *JOB, "--type", "h100", "--region", "us-*")["options"]
    other = sized(run, "--file", str(file), "--tokens", "1e12", "--deadline", "40d")
    assert other["flops"] == pytest.approx(found["flops"] / 2)
    planned = run("plan", "--file", str(file), "--json")
    assert planned.document["options"] == found["options"]
    # What the first option costs is what `up` would buy first.
    first = planned.document["candidates"][0]
    assert (first["nodes"], first["total_usd"]) == (found["options"][0]["nodes"], found["options"][0]["total_usd"])


def test_the_hint_names_the_file_only_if_nothing_overrides_it(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('type = "h100"\n[workload]\ntask = "training"\nparams = "7B"\ntokens = "100B"\n')
    assert f"`multicompute up --file {file}`" in run("size", "--file", str(file), "--limit", "3").err
    overridden = run("size", "--file", str(file), "--tokens", "1T")
    assert "`multicompute up --gpus " in overridden.err
    assert re.search(r" --ttl \d+[hd]`", overridden.err)
    file.write_text('[workload]\nparams = "7B"\ntokens = "100B"\n')
    assert "task: missing" in run("size", "--file", str(file)).err


def test_up_launches_the_first_option_of_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    workload = {"task": "finetuning", "method": "qlora", "params": "8B", "tokens": "1B"}
    file.write_text(json.dumps({"type": "l40s", "deadline": "2d", "workload": workload}))
    first = sized(run, "--file", str(file))["options"][0]
    done = run("up", "--file", str(file), "--name", "tune", "--yes", "--json")
    assert done.status == 0, done.err
    assert done.document["gpus"] == first["accelerators"]
    assert {node["instance_type"] for node in done.document["nodes"]} == {first["instance_type"]}
    assert run("down", "tune", "--yes").status == 0


def test_the_table_says_what_to_buy_and_why(run: Run) -> None:
    done = run("size", *JOB, "--type", "h100", "--type", "a100-80gb")
    assert done.status == 0
    for text in (
        "memory: 1,139 GiB before any split: weights 130.4",
        "fit: at least",
        "MFU of 40% (",
        "does not hold the job up",
        "why not fewer:",
        "a100-80gb: +",
        "guessed from the parameter count",
    ):
        assert text in done.out
    # The deadline and a tenth: the default ttl of a day would end the job.
    assert re.fullmatch(r"`multicompute up --gpus \d+ --type \S+ --cloud \w+ --region \S+ --ttl 33d` .*\n", done.err)
    assert max(map(len, done.out.splitlines())) <= 80


def test_every_number_of_the_document_is_explained(run: Run) -> None:
    found = sized(run, *JOB, "--type", "h100", "--explain")
    explained = {figure["name"]: figure for figure in found["explained"]}
    assert explained["flops"]["value"] == found["flops"]
    assert explained["min_accelerators"]["value"] == found["min_accelerators"]
    assert explained["total_usd"]["value"] == pytest.approx(found["options"][0]["total_usd"])
    assert all(figure["formula"] for figure in found["explained"])
    text = run("size", *JOB, "--type", "h100", "--explain").out
    assert "source: Chowdhery et al. 2022 (PaLM, arXiv 2204.02311), appendix B" in text


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_picture_is_drawn(run: Run, tmp_path: Path, ending: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"options.{ending}"
    assert run("size", *JOB, "--type", "h100", "--plot", str(path)).status == 0
    assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize(
    "row",
    [row for row in facts("training_runs.csv") if row["tolerance_pct"] and row["mfu"]],
    ids=lambda row: row["model"],
)
def test_published_runs_take_the_published_hours(run: Run, row: Mapping[str, str]) -> None:
    found = sized(
        run,
        *shape_of(row),
        "--tokens",
        row["tokens"],
        "--precision",
        row["peak"],
        "--seq-len",
        row["seq_len"],
        "--mfu",
        row["mfu"],
        "--type",
        row["accelerator"],
    )
    off = found["accelerator_hours"] / float(row["accelerator_hours"]) - 1
    assert abs(100 * off) <= float(row["tolerance_pct"])


@pytest.mark.parametrize(
    "row",
    [row for row in facts("memory_fits.csv") if row["hard"] == "yes"],
    ids=lambda row: row["id"],
)
def test_documented_fits_are_found(run: Run, row: Mapping[str, str]) -> None:
    arguments = [*shape_of(row), "--type", row["accelerator"], "--precision", row["precision"]]
    given = {"--quantization": row["quantization"], "--recompute": row["recompute"], "--zero": row["zero"]}
    if row["task"] == "inference":
        arguments += ["--inference", "--context", row["context"], "--concurrency", row["batch"]]
    else:
        arguments += ["--tokens", "1e9", "--seq-len", row["context"], "--micro-batch", row["batch"]]
        arguments += ["--finetune", row["method"]] if row["task"] == "finetuning" else []
    if row["method"] == "qlora":
        del given["--quantization"]
    arguments += [part for flag, value in given.items() if value for part in (flag, value)]
    found = sized(run, *arguments)
    fits = found["min_accelerators"] is not None and found["min_accelerators"] <= int(row["count"])
    assert fits == (row["verdict"] == "fits")


def shape_of(row: Mapping[str, str]) -> list[str]:
    names = ("params", "active_params", "layers", "hidden", "heads", "kv_heads", "vocab")
    return [part for name in names if row.get(name) for part in (workload_flag(name), row[name])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--params", "7e9"), "--tokens: missing: tokens that the model is trained on"),
        (("--params", "x", "--tokens", "1"), "--params x: must be a number, such as --params 70e9"),
        (("--params", "7e9", "--tokens", "1e9", "--context", "5"), "--context: training has no such argument; it goes with --inference"),
        (("--params", "7e9", "--inference", "--zero", "3"), "--zero: inference has no such argument; it goes with training or --finetune"),
        (("--params", "7e9", "--tokens", "1e9", "--mfu", "40"), "--mfu 40: must be at most 1"),
        (("--params", "7e9", "--tokens", "1e9", "--type", "h1000"), "--type h1000: no such accelerator or instance type; did you mean h100"),
        (("--params", "7e9", "--tokens", "1e9", "--type", "m7i.large"), "--type m7i.large: has no accelerator"),
        (("--params", "7e9", "--tokens", "1e9", "--type", "a100", "--precision", "fp8"), "--type a100: no dense peak in fp8"),
        (("--params", "7e9", "--tokens", "1e9", "--plot", "a.txt"), "--plot a.txt: must end in .png or .svg"),
        (("--params", "7e9", "--tokens", "1e9", "--limit", "-1"), "--limit -1: must be 0 (for all) or more"),
        (("--params", "7e9", "--tokens", "1e9", "--hours", "5"), "--hours: the workload itself says how long it takes"),
        (("--params", "7e9", "--inference", "--deadline", "3d"), "--deadline: a model that is served without a number of tokens is never done"),
        (("--params", "7e9", "--tokens", "1e9", "--nodes", "3"), "--nodes: unknown argument"),
        (("--config", "none.json", "--tokens", "1e9"), "--config none.json: can't be read"),
        (("--file", "none.toml"), "none.toml: can't be read"),
        (("--params", "7e9", "--tokens", "1e9", "--cloud", "awz"), "--cloud awz: no such cloud; did you mean aws?"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(run: Run, arguments: tuple[str, ...], message: str) -> None:
    done = run("size", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"multicompute: {message}")
    assert len(done.err) <= 400


def test_a_file_is_named_in_what_is_wrong_with_it(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('regions = ["moon-*"]\n[workload]\ntask = "training"\nparams = "7B"\ntokens = "1T"\n')
    done = run("size", "--file", str(file))
    assert done.status == 2
    assert "moon-*" in done.err
    file.write_text("workload = 5\n")
    assert "workload: must be a table" in run("size", "--file", str(file)).err


def test_a_deadline_that_nothing_keeps_is_an_error_with_the_nearest_one(run: Run) -> None:
    done = run("size", "--params", "405e9", "--tokens", "15e12", "--type", "h100", "--deadline", "1d", "--json")
    assert done.status == 3
    assert done.document["options"] == []
    assert done.document["min_accelerators"] > 8
    assert "--deadline" in done.err
    days = done.err.partition("--deadline ")[2].partition("would have one")[2]
    assert "h100" in done.err
    assert days


def test_a_model_that_does_not_fit_is_an_answer(run: Run) -> None:
    done = run("size", "--params", "405e9", "--inference", "--type", "h100", "--gpus", "8", "--json")
    assert done.status == 0
    assert done.document["min_accelerators"] == 11
    assert {option["fits"] for option in done.document["options"]} == {False}
    assert done.document["pareto"] == []
    assert "the model does not fit on --gpus 8 (--gpus 11 would have one: " in done.err


def test_every_field_of_a_workload_is_an_option_with_its_description() -> None:
    actions = {action.dest: action for action in parser_of("size")._actions}
    for name, field in FIELDS.items():
        action = actions[f"workload_{name}"]
        assert workload_flag(name) in action.option_strings
        sentence = (field.description or "").removesuffix(".").replace("%", "%%")
        assert sentence[1:] in (action.help or "")
