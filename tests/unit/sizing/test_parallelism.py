"""Layouts and the smallest count that fits, against all of them tried."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multicompute.sizing import Finetuning, Inference, Training
from multicompute.sizing.memory import Footprint, footprint, usable_memory
from multicompute.sizing.parallelism import (
    LayoutFinder,
    divisors,
    layouts,
    min_accelerators,
    spans_nodes,
    splits,
    tightest_layout,
)
from multicompute.workloads.description import Workload

WORKLOADS = st.builds(
    lambda params, zero, recompute, seq_len: Training.model_validate(
        {"params": params, "tokens": 1e9, "zero": zero, "recompute": recompute, "seq_len": seq_len}
    ),
    st.floats(1e8, 3e11),
    st.integers(0, 3),
    st.sampled_from(("none", "selective", "full")),
    st.sampled_from((512, 4096, 16384)),
) | st.builds(
    lambda params, context: Inference(params=params, context=context), st.floats(1e8, 3e11), st.integers(1, 100_000)
)


def every_split(count: int, workload: Workload) -> list[tuple[int, int, int]]:
    shape = workload.shape
    return [
        (tensor, pipeline, count // (tensor * pipeline))
        for tensor in range(1, min(shape.heads, 128) + 1)
        if shape.heads % tensor == 0
        for pipeline in range(1, shape.layers + 1)
        if count % (tensor * pipeline) == 0
    ]


def zero_of(workload: Workload) -> int:
    return getattr(workload, "zero", 0)


def fits(memory: Footprint, count: int, workload: Workload, room: float) -> bool:
    return any(memory.bytes_on(*split, zero_of(workload)) <= room for split in every_split(count, workload))


@settings(max_examples=60, deadline=None)
@given(workload=WORKLOADS, memory_gib=st.sampled_from((16, 40, 80, 192)))
def test_the_smallest_count_is_the_first_for_which_any_split_fits(workload: Workload, memory_gib: float) -> None:
    memory, room = footprint(workload), usable_memory(memory_gib)
    least = min_accelerators(memory, heads=workload.shape.heads, zero=zero_of(workload), room=room)
    if least is None:
        # Activations of one sequence are too much however far they are split.
        assert not any(fits(memory, count, workload, room) for count in (workload.shape.heads, 64, 512, 4096))
    else:
        assert fits(memory, least, workload, room)
        assert not any(fits(memory, count, workload, room) for count in range(max(1, least - 24), least))


@settings(max_examples=60, deadline=None)
@given(
    workload=WORKLOADS,
    count=st.integers(1, 1024),
    memory_gib=st.sampled_from((16, 80, 192)),
    per_node=st.sampled_from((1, 4, 8)),
)
def test_a_layout_is_found_whenever_one_fits(workload: Workload, count: int, memory_gib: float, per_node: int) -> None:
    memory, room, zero = footprint(workload), usable_memory(memory_gib), zero_of(workload)
    found = LayoutFinder(memory, heads=workload.shape.heads, zero=zero).find(count, per_node, room)
    assert (found is not None) == fits(memory, count, workload, room)
    if found is not None:
        assert found.accelerators == count
        assert found.zero == zero
        assert memory.per_accelerator(found) <= room
        assert (found.tensor, found.pipeline, found.data) in every_split(count, workload)


@settings(max_examples=60, deadline=None)
@given(workload=WORKLOADS.filter(lambda each: isinstance(each, Training)), count=st.sampled_from((8, 64, 512, 96)))
def test_a_higher_zero_stage_needs_no_more_memory(workload: Training, count: int) -> None:
    memory, room = footprint(workload), usable_memory(80)
    needed = []
    for zero in range(3):
        found = LayoutFinder(memory, heads=workload.shape.heads, zero=zero).find(count, 8, room)
        needed.append(memory.per_accelerator(found) if found else math.inf)
    assert needed == sorted(needed, reverse=True)


def test_model_parallelism_is_as_small_as_memory_allows() -> None:
    small = footprint(Training(params=1e9, tokens=1e9))
    found = LayoutFinder(small, heads=16, zero=1).find(64, 8, usable_memory(80))
    assert found is not None
    assert (found.data, found.tensor, found.pipeline) == (64, 1, 1)


def test_tensor_parallelism_stays_inside_of_a_node_if_a_pipeline_fits_too() -> None:
    job = Training(params=175e9, layers=96, hidden=12288, heads=96, vocab=50257, tokens=1e9, seq_len=2048)
    found = LayoutFinder(footprint(job), heads=96, zero=0).find(64, 8, usable_memory(80))
    assert found is not None
    assert found.tensor <= 8
    assert found.tensor * found.pipeline == 64


def test_llama_3_1_405b_is_split_as_it_was_trained() -> None:
    job = Training(
        params=405.853e9, layers=126, hidden=16384, heads=128, kv_heads=8, vocab=128256, tokens=1e9, seq_len=8192
    )
    finder = LayoutFinder(footprint(job), heads=128, zero=job.zero)
    # Llama Team 2024 (arXiv 2407.21783), Table 4: tensor 8, pipeline 16, data 128.
    found = finder.find(16384, 8, usable_memory(80))
    assert found is not None
    assert (found.data, found.tensor, found.pipeline) == (128, 8, 16)


def test_no_data_parallel_rank_is_left_without_work_if_another_split_fits() -> None:
    memory = footprint(Training(params=7e9, tokens=1e9))
    found = LayoutFinder(memory, heads=32, zero=1, max_data=100).find(512, 8, usable_memory(80))
    assert found is not None
    assert found.data <= 100


def test_five_accelerators_are_a_pipeline() -> None:
    assert {
        (each.tensor, each.pipeline, each.data) for each in layouts(5, heads=32, layers=80, per_node=8, zero=0)
    } == {
        (1, 1, 5),
        (1, 5, 1),
    }


def test_the_tightest_layout_needs_the_least_memory() -> None:
    job = Finetuning(params=70e9, tokens=1e9)
    memory = footprint(job)
    found = tightest_layout(memory, 8, heads=job.shape.heads, per_node=8, zero=1)
    assert memory.per_accelerator(found) == min(memory.bytes_on(*split, 1) for split in every_split(8, job))


@pytest.mark.parametrize(
    ("number", "expected"), [(1, (1,)), (12, (1, 2, 3, 4, 6, 12)), (49, (1, 7, 49)), (97, (1, 97))]
)
def test_divisors(number: int, expected: tuple[int, ...]) -> None:
    assert divisors(number) == expected


def test_tensor_groups_do_not_straddle_nodes() -> None:
    assert not spans_nodes(8, per_node=8, accelerators=64)
    assert not spans_nodes(6, per_node=8, accelerators=6)
    assert spans_nodes(6, per_node=8, accelerators=48)
    assert spans_nodes(16, per_node=8, accelerators=64)
    found = splits(48, 72, 80, 8)
    assert {tensor for tensor, _, _ in found.inside} == {1, 2, 4, 8}
    assert {3, 6, 12, 24} <= {tensor for tensor, _, _ in found.across}
