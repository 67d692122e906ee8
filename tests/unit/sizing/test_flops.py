"""FLOPs against the figures of papers."""

import pytest

from multicompute.sizing import Finetuning, Inference, Training
from multicompute.sizing.flops import (
    attention_flops,
    attention_share,
    decode_flops,
    prefill_flops,
    total_flops,
    training_flops_per_token,
)
from tests.unit.sizing.configs import PUBLISHED

GPT3 = {"params": 174.6e9, "layers": 96, "hidden": 12288, "heads": 96, "vocab": 50257, "seq_len": 2048}


def test_gpt_3_takes_what_its_makers_say_and_attention() -> None:
    job = Training.model_validate({**GPT3, "tokens": 300e9})
    # Brown et al. 2020, Table D.1: 3.14e23 with six FLOPs for each parameter and token.
    assert 6 * 174.6e9 * 300e9 == pytest.approx(3.14e23, rel=0.002)
    assert total_flops(job) == pytest.approx(3.14e23 * (1 + 4 * 96 * 12288 * 2048 / (2 * 174.6e9)), rel=0.01)
    assert attention_share(job) == pytest.approx(0.027, abs=0.001)


def test_the_formula_of_narayanan_gives_the_same() -> None:
    # Equation 3 without recomputation: 72 B s L h^2 (1 + s / 6h + V / 16 L h), for 96 layers of 12 h^2 and a tied embedding.
    layers, hidden, vocab, seq_len = 96, 12288, 51200, 2048
    params = 12 * layers * hidden**2 + vocab * hidden
    job = Training(params=params, tokens=seq_len, layers=layers, hidden=hidden, heads=96, vocab=vocab, seq_len=seq_len)
    expected = 72 * seq_len * layers * hidden**2 * (1 + seq_len / (6 * hidden) + vocab / (12 * layers * hidden))
    assert total_flops(job) == pytest.approx(expected, rel=1e-6)


def test_attention_can_be_half_of_the_flops() -> None:
    job = Training(params=13.011e9, tokens=1e9, layers=40, hidden=5120, heads=40, vocab=50368, seq_len=32768)
    assert attention_share(job) == pytest.approx(0.51, abs=0.01)


def test_heads_times_head_size_count_and_not_the_hidden_size() -> None:
    palm = Training(
        params=540e9, tokens=1, layers=118, hidden=18432, heads=48, head_dim=256, kv_heads=1, vocab=256000, seq_len=2048
    )
    assert attention_flops(palm.shape, 2048) == 4 * 118 * 48 * 256 * 2048


def test_latent_attention_takes_almost_three_times_what_the_hidden_size_suggests() -> None:
    shape = Training.model_validate({"config": PUBLISHED["DeepSeek-V3"].config, "tokens": 1}).shape
    assert attention_flops(shape, 4096) == 61 * 2 * 128 * (192 + 128) * 4096
    assert attention_flops(shape, 4096) / (4 * 61 * 7168 * 4096) == pytest.approx(2.86, abs=0.01)


def test_a_sliding_window_ends_the_growth_of_attention() -> None:
    job = Training(params=7e9, tokens=1e9, sliding_window=4096)
    assert attention_flops(job.shape, 32768) == attention_flops(job.shape, 4096)


def test_a_mixture_takes_what_its_active_parameters_take() -> None:
    mixture = Training(params=671e9, active_params=37e9, tokens=1e9)
    dense = Training(params=37e9, tokens=1e9)
    assert total_flops(mixture) == pytest.approx(total_flops(dense))


def test_adapters_save_the_gradients_of_the_frozen_weights() -> None:
    full = Finetuning(params=70e9, tokens=1e9)
    lora = Finetuning(params=70e9, tokens=1e9, method="lora")
    attention = 3 * attention_flops(lora.shape, 4096)
    assert training_flops_per_token(full) == 6 * 70e9 + attention
    assert training_flops_per_token(lora) == pytest.approx(4 * 70e9 + attention + 6 * lora.adapter_params)
    assert lora.adapter_params / 70e9 == pytest.approx(0.003, abs=0.002)


def test_recomputation_and_zero_do_not_change_the_flops() -> None:
    jobs = [
        Training.model_validate({"params": 7e9, "tokens": 1e9, "recompute": recompute, "zero": zero})
        for recompute in ("none", "selective", "full")
        for zero in range(4)
    ]
    assert len({total_flops(job) for job in jobs}) == 1


def test_inference_takes_two_flops_for_a_parameter_and_attention_over_the_context() -> None:
    job = Inference(params=8.03e9, layers=32, hidden=4096, heads=32, kv_heads=8, vocab=128256, context=8192, tokens=1e6)
    assert decode_flops(job) == 2 * 8.03e9 + 4 * 32 * 4096 * 8192
    assert total_flops(job) == 1e6 * decode_flops(job)
    assert prefill_flops(job, 1000) == 1000 * (2 * 8.03e9 + 4 * 32 * 4096 * 1000)
