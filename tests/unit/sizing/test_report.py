"""The figures of a workload, their JSON form, and where each of them is from."""

import json
from datetime import timedelta

import pytest

from multicompute.errors import SpecError
from multicompute.sizing import Finetuning, Inference, JobLimits, Training, Workload, explain, optimise, size
from tests.unit.sizing.machines import machine

JOBS: list[Workload] = [
    Training(params=7e9, tokens=1e11),
    Training(params=671e9, active_params=37e9, tokens=1e12, precision="fp8"),
    Finetuning(params=8e9, tokens=1e9, method="qlora"),
    Inference(params=70e9, concurrency=16, quantization="int4"),
    Inference(params=8e9, concurrency=16, output_tokens=512, tokens=1e9, mfu=0.1),
]
MACHINES = [
    machine("h100", 8, price=50.0, fabric="fast"),
    machine("h100", 8, price=20.0, fabric="fast", purchase="spot"),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.task} {job.params:.2g}")
def test_the_json_form_has_the_keys_of_the_contract_and_is_json(job: Workload) -> None:
    plan = optimise(job, MACHINES)
    found = json.loads(json.dumps(size(job, "h100").to_dict(plan)))
    keys = {"workload", "flops", "accelerator_hours", "memory", "min_accelerators", "options", "pareto"}
    keys |= {"accelerator", "mfu", "throughput" if isinstance(job, Inference) else "storage"}
    assert set(found) == keys
    names = {
        "weights_gib",
        "gradients_gib",
        "optimizer_gib",
        "activations_gib",
        "kv_cache_gib",
        "total_gib",
        "per_accelerator_gib",
    }
    assert set(found["memory"]) == names
    option = found["options"][0]
    assert set(option["parallelism"]) == {"data", "tensor", "pipeline", "zero"}
    assert {"provider", "instance_type", "nodes", "accelerators", "hourly_usd", "price_as_of"} <= set(option)
    assert {"mfu", "hours", "total_usd", "accelerator_hours", "fits"} <= set(option)
    assert option["fits"] is True
    assert option["mfu_low"] <= option["mfu"] <= option["mfu_high"]
    assert found["pareto"] == list(plan.pareto)
    assert found["workload"]["params"] == job.total_params


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.task} {job.params:.2g}")
def test_every_number_of_the_json_form_is_explained(job: Workload) -> None:
    sizing = size(job, "h100")
    plan = optimise(job, MACHINES)
    explained = {figure.name: figure for figure in explain(sizing, plan.best)}
    found = sizing.to_dict()
    memory = found["memory"]
    assert isinstance(memory, dict)
    for name, value in {**memory, "flops": found["flops"], "accelerator_hours": found["accelerator_hours"]}.items():
        assert explained[name].value == pytest.approx(value), name
    assert explained["min_accelerators"].value == sizing.min_accelerators
    assert plan.best is not None
    assert explained["hours"].value == plan.best.hours
    assert explained["total_usd"].value == plan.best.total_usd
    assert [figure.name for figure in explained.values() if not figure.formula] == []


def test_what_was_assumed_is_said() -> None:
    guessed = {figure.name: figure.assumption for figure in explain(size(Training(params=7e9, tokens=1e12), "mi300x"))}
    assert "layers" in guessed["params"]
    assert "nothing is published" in guessed["mfu"]
    assert "0.90 to 0.95" in guessed["usable_gib"]


def test_a_figure_is_written_with_its_formula_inputs_and_source() -> None:
    text = "\n".join(map(str, explain(size(Training(params=7e9, tokens=1e12), "h100"))))
    assert "flops_per_token = 4.9" in text
    assert "6 N + 3 A" in text
    assert "source: Chowdhery et al. 2022 (PaLM, arXiv 2204.02311), appendix B" in text


def test_accelerator_hours_are_flops_over_peak_and_mfu() -> None:
    found = size(Training(params=70e9, tokens=2e12, mfu=0.4), "h100", gpus=512)
    assert found.accelerator_hours == pytest.approx(found.job.flops / (989.4e12 * 0.4 * 3600))
    assert found.count == 512


def test_memory_is_of_the_smallest_count_unless_a_count_is_given() -> None:
    job = Training(params=70e9, tokens=2e12)
    least = size(job, "h100")
    assert least.count == least.min_accelerators
    assert least.fits
    assert size(job, "h100", gpus=512).per_accelerator < least.per_accelerator
    small = size(job, "h100", gpus=4)
    assert not small.fits
    assert small.per_accelerator > 80 * 2**30


def test_a_given_count_of_a_served_model_is_replicas() -> None:
    job = Inference(params=70e9, concurrency=16)
    one, four = size(job, "h100"), size(job, "h100", gpus=4 * (size(job, "h100").min_accelerators or 0))
    assert four.tokens_per_second == pytest.approx(4 * one.tokens_per_second)


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("h1000", "bf16", "type='h1000': no such accelerator; did you mean h100"),
        ("a100", "fp8", "type='a100': no dense peak in fp8 is published"),
        ("rtx-pro-4500", "bf16", "name another accelerator"),
    ],
)
def test_an_accelerator_that_can_not_be_sized_is_refused(name: str, precision: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        size(Training.model_validate({"params": 7e9, "tokens": 1e12, "precision": precision}), name)
    assert message in str(error.value)


def test_a_plan_for_a_number_of_accelerators_that_do_not_fit_says_so() -> None:
    plan = optimise(Training(params=70e9, tokens=1e12), MACHINES, JobLimits(gpus=8, deadline=timedelta(days=3650)))
    assert plan.best is not None
    assert plan.best.to_dict()["fits"] is False
    assert plan.pareto == ()
