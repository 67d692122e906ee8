"""Memory against the figures of papers."""

import itertools
from typing import Literal

import pytest

from multicompute.errors import SpecError
from multicompute.sizing import Finetuning, Inference, Training
from multicompute.sizing.memory import GIB, Layout, cache_bytes, cache_bytes_per_token, footprint
from multicompute.workloads.formats import pruned_share, state_bytes
from tests.unit.sizing.configs import PUBLISHED

GPT3 = {"params": 175e9, "layers": 96, "hidden": 12288, "heads": 96, "vocab": 50257, "seq_len": 2048, "tokens": 1e9}


@pytest.mark.parametrize(
    ("precision", "optimizer", "master", "parts"),
    [
        ("bf16", "adamw", True, (2, 2, 12)),
        ("fp16", "adamw", True, (2, 2, 12)),
        ("fp32", "adamw", True, (4, 4, 8)),
        ("bf16", "adamw", False, (2, 2, 4)),
        ("bf16", "adamw8bit", True, (2, 2, 6)),
        ("bf16", "sgd", True, (2, 2, 8)),
        ("bf16", "lion", True, (2, 2, 8)),
        ("bf16", "adafactor", True, (2, 2, 4)),
        ("fp8", "adamw", True, (2, 2, 12)),
    ],
)
def test_bytes_of_a_trained_parameter(
    precision: Literal["bf16", "fp16", "fp32", "fp8"],
    optimizer: Literal["adamw", "adamw8bit", "sgd", "lion", "adafactor"],
    master: bool,
    parts: tuple[float, float, float],
) -> None:
    found = state_bytes(precision, optimizer, master_weights=master)
    assert (found.weights, found.gradients, found.optimizer) == parts


@pytest.mark.parametrize(("zero", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.88)])
def test_zero_shards_the_states_as_its_paper_says(zero: int, gigabytes: float) -> None:
    # Rajbhandari et al. 2020, Figure 1: 7.5B parameters on 64 ranks.
    memory = footprint(Training(params=7.5e9, tokens=1e9))
    states = memory.bytes_on(1, 1, 64, zero) - memory.activations - memory.logits
    gathered = 2 * memory.largest_layer if zero == 3 else 0
    assert (states - gathered) / 1e9 == pytest.approx(gigabytes, rel=0.005)


def test_a_plain_transformer_keeps_34_bytes_and_its_scores_per_layer() -> None:
    job = Training.model_validate({**GPT3, "recompute": "none"})
    per_layer = footprint(job).activations / 96 / (2048 * 12288)
    # Korthikanti et al. 2022, Table 2; the MLP is as wide as the parameters that are left allow.
    assert per_layer == pytest.approx(34 + 5 * 96 * 2048 / 12288, rel=0.01)


def test_selective_recomputation_saves_70_percent_of_gpt_3() -> None:
    none = footprint(Training.model_validate({**GPT3, "recompute": "none"}))
    selective = footprint(Training.model_validate({**GPT3, "recompute": "selective"}))
    full = footprint(Training.model_validate({**GPT3, "recompute": "full"}))
    assert 1 - selective.activations / none.activations == pytest.approx(0.70, abs=0.01)
    assert full.activations == 2 * 2048 * 12288 * 96
    assert full.total < selective.total < none.total


def test_fused_attention_keeps_no_scores() -> None:
    fused = footprint(Training.model_validate({**GPT3, "recompute": "none", "flash_attention": True}))
    assert fused == footprint(Training.model_validate({**GPT3, "recompute": "selective"}))


def test_tensor_parallelism_divides_everything_and_a_pipeline_the_states() -> None:
    memory = footprint(Training.model_validate(GPT3))
    alone = memory.bytes_on(1, 1, 1, 0)
    assert memory.bytes_on(8, 1, 1, 0) == pytest.approx(alone / 8)
    # The first stage keeps as many micro-batches as there are stages.
    assert memory.bytes_on(1, 8, 1, 0) == pytest.approx(memory.states / 8 + memory.activations)
    # 96 layers in 5 stages: the largest has 20.
    assert memory.bytes_on(1, 5, 1, 0) == pytest.approx(memory.states * 20 / 96 + memory.activations)


def test_no_split_and_no_stage_needs_more_than_a_lower_one() -> None:
    memory = footprint(Training.model_validate(GPT3))
    for tensor, pipeline, data in itertools.product((1, 2, 8), (1, 4, 8), (1, 8, 64)):
        stages = [memory.bytes_on(tensor, pipeline, data, zero) for zero in range(3)]
        assert stages == sorted(stages, reverse=True)
        assert memory.bytes_on(tensor, pipeline, data, 0) >= memory.bytes_on(2 * tensor, pipeline, data, 0)


def test_the_parts_are_the_total() -> None:
    for job in (
        Training.model_validate(GPT3),
        Finetuning(params=8e9, tokens=1e9, method="qlora"),
        Inference(params=8e9),
    ):
        parts = footprint(job).to_dict()
        assert sum(value for name, value in parts.items() if name != "total_gib") == pytest.approx(parts["total_gib"])


@pytest.mark.parametrize(
    ("model", "bytes_per_token"),
    [("Llama 3.1 8B", 131_072), ("Llama 3.1 405B", 516_096), ("OPT 13B", 819_200), ("DeepSeek-V3", 70_272)],
)
def test_the_cache_of_a_token_is_what_the_makers_say(model: str, bytes_per_token: int) -> None:
    job = Inference.model_validate({"config": PUBLISHED[model].config})
    assert cache_bytes_per_token(job) == bytes_per_token


def test_the_cache_is_what_the_hugging_face_blog_says() -> None:
    job = Inference(
        params=70.554e9, layers=80, hidden=8192, heads=64, kv_heads=8, vocab=128256, context=16000, kv_precision="fp16"
    )
    assert cache_bytes(job) / GIB == pytest.approx(4.88, abs=0.01)
    assert cache_bytes(job.model_copy(update={"concurrency": 3})) == 3 * cache_bytes(job)
    assert cache_bytes(job.model_copy(update={"kv_precision": "fp8"})) == cache_bytes(job) / 2


def test_layers_with_a_window_cache_their_window_only() -> None:
    gemma = PUBLISHED["Gemma 3 27B, text"].config
    short, long = (Inference.model_validate({"config": gemma, "context": context}) for context in (1024, 32768))
    assert cache_bytes(long) / cache_bytes(short) == pytest.approx((10 * 32 + 52) / 62)


def test_key_value_heads_limit_how_far_the_cache_is_divided() -> None:
    memory = footprint(Inference(params=70e9, context=131072, kv_heads=8, heads=64, hidden=8192, layers=80))
    split = memory.bytes_on(16, 1, 1, 0) - (memory.weights + memory.working + memory.logits) / 16
    assert split == pytest.approx(memory.kv_cache / 8)


@pytest.mark.parametrize(
    ("quantization", "gigabytes"),
    [(None, 141.1), ("fp8", 72.7), ("int8", 72.7), ("int4", 39.8), ("nf4", 39.5), ("mxfp4", 40.6)],
)
def test_quantization_leaves_the_embeddings_in_16_bits(quantization: str | None, gigabytes: float) -> None:
    llama = PUBLISHED["Llama 3.1 8B"].config | {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
    }
    memory = footprint(Inference.model_validate({"config": llama, "quantization": quantization}))
    assert memory.weights / 1e9 == pytest.approx(gigabytes, abs=0.2)


def test_weights_are_served_as_they_are_published_unless_another_format_is_given() -> None:
    config = PUBLISHED["DeepSeek-V3"].config
    # 625 GiB in the SGLang documentation, where 8 H200 are enough and 8 H100 are not.
    assert footprint(Inference.model_validate({"config": config})).weights / GIB == pytest.approx(626, abs=2)
    four = Inference.model_validate({"config": config, "quantization": "int4"})
    assert footprint(four).weights / GIB == pytest.approx(326, abs=3)


def test_qlora_of_65b_needs_less_than_48_gb() -> None:
    job = Finetuning(
        params=65.2e9,
        tokens=1e9,
        layers=80,
        hidden=8192,
        heads=64,
        kv_heads=64,
        vocab=32000,
        method="qlora",
        seq_len=512,
        recompute="full",
    )
    # Dettmers et al. 2023, abstract and Table 6: one 48 GB GPU, about 41 GB.
    assert footprint(job).total / 1e9 == pytest.approx(41, abs=4)


def test_lora_saves_states_but_not_activations() -> None:
    shape = {
        "params": 6.738e9,
        "tokens": 1e9,
        "layers": 32,
        "hidden": 4096,
        "heads": 32,
        "kv_heads": 32,
        "vocab": 32000,
        "seq_len": 1304,
    }
    lora = footprint(Finetuning.model_validate({**shape, "method": "lora", "recompute": "none"}))
    full = footprint(Finetuning.model_validate({**shape, "recompute": "none"}))
    assert lora.states < full.states / 7
    assert lora.activations > full.activations
    # LitGPT, tutorials/resource-tables.md: 21.3 GB with one sequence, 29.07 GB with two.
    assert lora.total / 1e9 == pytest.approx(21.3, rel=0.05)
    two = footprint(Finetuning.model_validate({**shape, "method": "lora", "recompute": "none", "micro_batch": 2}))
    assert two.total / 1e9 == pytest.approx(29.07, rel=0.05)


@pytest.mark.parametrize(
    ("pruning", "sparsity", "share"),
    [("structured", 0.25, 0.75), ("2:4", 0.5, 0.5625), ("unstructured", 0.5, 0.5625), ("unstructured", 0.01, 1.0)],
)
def test_pruning_leaves_values_and_what_says_where_they_are(
    pruning: Literal["structured", "2:4", "unstructured"], sparsity: float, share: float
) -> None:
    assert pruned_share(2.0, sparsity, pruning) == share


def test_a_layout_counts_its_accelerators() -> None:
    assert Layout(data=4, tensor=8, pipeline=2, zero=1).accelerators == 64


def test_frozen_weights_may_have_another_format() -> None:
    four, eight = (
        footprint(Finetuning(params=8e9, tokens=1e9, method="qlora", quantization=form)) for form in (None, "int8")
    )
    # A little less than twice as much: embeddings stay in 16 bits.
    assert 1.7 < eight.weights / four.weights < 1.95
    with pytest.raises(SpecError, match="quantization='nf4': goes with method='qlora'"):
        Finetuning(params=8e9, tokens=1e9, method="lora", quantization="nf4")
