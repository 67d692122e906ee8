"""Shapes read from configurations of published models."""

import json
from pathlib import Path

import pytest

from multicompute.errors import SpecError
from multicompute.workloads.architecture import active_parameter_count, parameter_count
from multicompute.workloads.huggingface import FAMILIES, read_config
from tests.unit.sizing.configs import PUBLISHED, Published


@pytest.mark.parametrize("model", PUBLISHED.values(), ids=PUBLISHED)
def test_the_parameters_counted_from_a_configuration_are_those_of_the_makers(model: Published) -> None:
    shape = read_config(model.config)
    assert parameter_count(shape) / 1e9 == pytest.approx(model.params, rel=0.005)
    assert active_parameter_count(shape) / 1e9 == pytest.approx(model.active, rel=0.02)


def test_every_published_family_is_known() -> None:
    used = {str(model.config.get("text_config", model.config)["model_type"]) for model in PUBLISHED.values()}
    assert used <= set(FAMILIES)


def test_unknown_keys_and_families_are_read_like_llama() -> None:
    config = PUBLISHED["Llama 3.1 8B"].config
    assert read_config(config | {"model_type": "new", "anything": {"deep": [1]}}) == read_config(config)


def test_latent_attention_is_read() -> None:
    shape = read_config(PUBLISHED["DeepSeek-V3"].config)
    assert (shape.kv_lora_rank, shape.rope_head_dim, shape.head_dim, shape.v_head_dim) == (512, 64, 192, 128)
    assert shape.dense_layers == 3


def test_sliding_windows_are_counted_by_layer() -> None:
    assert read_config(PUBLISHED["Mistral 7B"].config).window_layers == 32
    assert read_config(PUBLISHED["Qwen2.5 7B"].config).window == 0
    assert read_config(PUBLISHED["GPT-OSS 120B"].config).window_layers == 18
    gemma = read_config(PUBLISHED["Gemma 3 27B, text"].config)
    assert (gemma.window, gemma.window_layers) == (1024, 52)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "must hold a JSON object"),
        ('{"hidden_size": 8}', "no layers; expected num_hidden_layers"),
        ('{"num_hidden_layers": "many", "hidden_size": 8}', "num_hidden_layers='many': must be a whole number"),
        (json.dumps(PUBLISHED["Llama 3.1 8B"].config | {"num_key_value_heads": 5}), "kv_heads=5: must divide heads=32"),
    ],
)
def test_a_configuration_that_can_not_be_read_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(SpecError, match=message):
        read_config(path)
