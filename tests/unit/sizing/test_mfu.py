"""The expected MFU: its table, its range, and what count, network, layout and sequence length do to it."""

import math
from typing import Literal

import pytest

from multicompute import accelerators
from multicompute.accelerators import Accelerator
from multicompute.sizing import Training
from multicompute.sizing.memory import Layout
from multicompute.sizing.mfu import (
    attention_factor,
    base_mfu,
    batch_ranks,
    expected_mfu,
    fabric_factor,
    peak_tflops,
    pipeline_factor,
    published,
    scale_factor,
    workload_mfu,
)


def accelerator(name: str) -> Accelerator:
    found = accelerators.get(name)
    assert found is not None
    return found


H100 = accelerator("h100")
JOB = Training(params=70e9, tokens=1e12)


def test_every_published_utilization_has_a_source_and_a_date_and_is_of_a_known_accelerator() -> None:
    rows = published()
    assert len(rows) > 60
    assert [row for row in rows if not (row.source and row.as_of and 0 < row.mfu < 0.9)] == []
    assert [row.accelerator for row in rows if accelerators.get(row.accelerator) is None] == []


def test_every_published_utilization_is_inside_of_the_range_that_is_assumed() -> None:
    outside = []
    for row in published():
        precision: Literal["bf16", "fp16", "fp8"] = "fp8" if row.precision == "fp8" else "bf16"
        base = base_mfu(row.family, precision, row.kind, row.seq_len or 2048)
        if not base.low <= row.mfu <= base.high:
            outside.append((row.model, row.mfu, base.low, base.high))
    assert outside == []


def test_a_run_without_a_published_sequence_length_is_in_the_range_of_every_length() -> None:
    lamda = next(row for row in published() if row.model == "LaMDA 137B")
    assert lamda.seq_len == 0
    assert all(lamda in base_mfu("tpu-v3", "bf16", "dense", length).runs for length in (512, 2048, 32768))


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp8", "fp32"])
def test_every_accelerator_has_an_expectation_inside_of_a_range(
    precision: Literal["bf16", "fp16", "fp8", "fp32"], kind: Literal["dense", "moe"]
) -> None:
    for each in accelerators.known():
        base = base_mfu(each.family, precision, kind, 4096)
        assert 0 < base.low < base.expected < base.high < 1
        assert base.source


def test_an_expectation_without_published_runs_is_said_to_be_an_assumption() -> None:
    for name in ("mi300x", "l40s", "t4", "l4"):
        base = base_mfu(accelerator(name).family, "bf16", "dense", 4096)
        assert (base.basis, base.runs) == ("assumption", ())
    assert base_mfu("h100", "bf16", "dense", 4096).basis == "published"


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("h100", "bf16", 989.4),
        ("h100", "fp8", 1978.9),
        ("v100-32gb", "bf16", 125),
        ("tpu-v5p", "fp16", 459),
        ("a100", "fp8", None),
        ("h100", "fp32", 66.9),
    ],
)
def test_the_peak_is_the_dense_one_of_the_precision(
    name: str, precision: Literal["bf16", "fp16", "fp8", "fp32"], peak: float | None
) -> None:
    assert peak_tflops(accelerator(name), precision) == peak


def test_a_given_utilization_is_changed_by_nothing() -> None:
    job = Training(params=70e9, tokens=1e12, mfu=0.4)
    found = expected_mfu(job, H100, Layout(data=2048, pipeline=8), nodes=2048, per_node=8, fabric=False)
    assert (found.low, found.expected, found.high, found.factors) == (0.4, 0.4, 0.4, ())


def test_more_accelerators_never_reach_more() -> None:
    factors = [scale_factor(count) for count in (1, 8, 64, 512, 1024, 16384)]
    assert factors == sorted(factors, reverse=True)
    assert factors[:2] == [1.0, 1.0]
    # Llama 3.1 405B: 43 % on 8,192 and 41 % on 16,384 GPUs (arXiv 2407.21783, Table 4).
    assert scale_factor(16384) / scale_factor(8192) == pytest.approx(0.41 / 0.43, abs=0.01)


def test_long_sequences_cost_what_llm_foundry_measured() -> None:
    # MPT-7B on 8 A100: 64.2 % at 2K, 49.5 % at 32K tokens.
    short, long = (
        workload_mfu(
            Training(params=6.7e9, tokens=1e9, layers=32, hidden=4096, heads=32, vocab=50432, seq_len=length),
            accelerator("a100-80gb"),
        ).expected
        for length in (2048, 32768)
    )
    assert long / short == pytest.approx(49.5 / 64.2, abs=0.05)
    assert attention_factor(0.0) == 1.0


def test_a_pipeline_has_a_bubble_that_more_micro_batches_make_smaller() -> None:
    assert pipeline_factor(1, 4) == 1.0
    assert pipeline_factor(8, 8) == pytest.approx(1 / (1 + 7 / 16))
    assert pipeline_factor(8, 64) > pipeline_factor(8, 8)


def test_nodes_without_a_fabric_are_expected_to_reach_half() -> None:
    assert fabric_factor(1, fabric=False, slices=False) == 1.0
    assert fabric_factor(2, fabric=True, slices=False) == 1.0
    assert fabric_factor(2, fabric=False, slices=False) == 0.5
    # Two slices of v5e-256 in MaxText's table: 64.81 instead of 66.86 %.
    assert fabric_factor(2, fabric=False, slices=True) == pytest.approx(64.81 / 66.86, abs=0.01)


def test_the_range_has_the_expectation_in_it_and_names_every_factor() -> None:
    found = expected_mfu(JOB, H100, Layout(data=64, tensor=16, pipeline=2, zero=1), nodes=256, per_node=8, fabric=False)
    assert found.low <= found.expected <= found.high
    assert {name for name, _ in found.factors} == {
        "scale",
        "network between nodes",
        "pipeline bubble",
        "tensor parallelism across nodes",
    }
    assert found.expected == pytest.approx(found.base.expected * math.prod(factor for _, factor in found.factors))


def test_more_data_parallel_ranks_than_micro_batches_have_no_work() -> None:
    assert batch_ranks(JOB) == 4e6 / 4096
    found = expected_mfu(JOB, H100, Layout(data=2048), nodes=256, per_node=8, fabric=True)
    assert dict(found.factors)["more data-parallel ranks than micro-batches"] == pytest.approx(4e6 / 4096 / 2048)


def test_a_long_sequence_gives_work_to_as_many_ranks_as_can_share_it() -> None:
    job = JOB.model_copy(update={"seq_len": 131072})
    assert batch_ranks(job) == pytest.approx(4e6 / 131072 * 32)


def test_the_upper_end_of_the_range_does_not_depend_on_a_batch_that_is_assumed() -> None:
    layout = Layout(data=128, tensor=8, pipeline=16, zero=1)
    given = JOB.model_copy(update={"batch_tokens": 4e6})
    assumed, exact = (expected_mfu(job, H100, layout, nodes=2048, per_node=8, fabric=True) for job in (JOB, given))
    assert (assumed.low, assumed.expected) == (exact.low, exact.expected)
    assert assumed.high > exact.high
