"""Reads the shape of a model from the `config.json` of a Hugging Face repository."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from multicompute.errors import SpecError
from multicompute.workloads.architecture import Architecture, check

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Family:
    """The values that the code of a model type fixes, so that its configuration omits them.

    Attributes:
        gated: Whether the MLP has a gate.
        tied: The default of `tie_word_embeddings` in the configuration class of transformers.
        positions: Whether there are learned position embeddings.
        kv_heads: The default of `num_key_value_heads`, 0 for as many as there are heads.
        ffn: Multiple of the hidden size where no width is given.
        window_every: Of so many layers all but one have a sliding window; 0 for all of them where one is configured.
    """

    gated: bool = True
    tied: bool = False
    positions: bool = False
    kv_heads: int = 0
    ffn: int = 4
    window_every: int = 0


_LLAMA: Final = _Family()
_GPT: Final = _Family(gated=False, tied=True, positions=True)
_PLAIN: Final = _Family(gated=False)
_TIED: Final = _Family(tied=True)

# Defaults of the configuration classes in transformers, src/transformers/models/*/configuration_*.py (read 2026-11).
FAMILIES: Final[Mapping[str, _Family]] = {
    "llama": _LLAMA,
    "mistral": _Family(kv_heads=8),
    "ministral": _Family(kv_heads=8),
    "mixtral": _Family(kv_heads=8),
    "qwen2": _LLAMA,
    "qwen2_moe": _LLAMA,
    "qwen3": _LLAMA,
    "qwen3_moe": _LLAMA,
    "gemma": _TIED,
    "gemma2": _Family(tied=True, window_every=2),
    "gemma3": _Family(tied=True, window_every=6),
    "gemma3_text": _Family(tied=True, window_every=6),
    "gpt2": _GPT,
    "gpt_neo": _GPT,
    "gpt_neox": _PLAIN,
    "gptj": _PLAIN,
    "gpt_bigcode": _GPT,
    "opt": _GPT,
    "bloom": _Family(gated=False, tied=True),
    "falcon": _Family(gated=False, tied=True),
    "RefinedWeb": _Family(gated=False, tied=True),
    "RefinedWebModel": _Family(gated=False, tied=True),
    "mpt": _Family(gated=False, tied=True),
    "phi": _PLAIN,
    "phi3": _LLAMA,
    "phimoe": _LLAMA,
    "deepseek": _LLAMA,
    "deepseek_v2": _LLAMA,
    "deepseek_v3": _LLAMA,
    "starcoder2": _Family(gated=False, tied=True),
    "nemotron": _PLAIN,
    "cohere": _TIED,
    "cohere2": _TIED,
    "stablelm": _LLAMA,
    "olmo": _LLAMA,
    "olmo2": _LLAMA,
    "granite": _LLAMA,
    "glm4": _LLAMA,
    "gpt_oss": _Family(window_every=2),
    "llama4_text": _LLAMA,
}

_LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HIDDEN: Final = ("hidden_size", "n_embd", "d_model", "n_embed")
_HEADS: Final = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS: Final = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
_FFN: Final = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "ffn_size")
_POSITIONS: Final = ("n_positions", "max_position_embeddings")
_EXPERTS: Final = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
_PER_TOKEN: Final = ("num_experts_per_tok", "num_experts_per_token", "moe_top_k")


def read_config(source: str | Path | Config) -> Architecture:
    """Read the shape of a model from a Hugging Face configuration.

    Unknown keys are ignored. Of a model for several media, the text model is read (`text_config`).

    Args:
        source: The path of a `config.json`, or its content.

    Returns:
        The shape; nothing in it is guessed.

    Raises:
        SpecError: The file can't be read, is no JSON object, or lacks a count that the shape needs.
    """
    where = "config"
    if isinstance(source, (str, Path)):
        where = f"config={str(source)!r}"
        try:
            source = json.loads(Path(source).expanduser().read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"{where}: can't be read: {error}", hint="name the config.json of the model") from error
        except json.JSONDecodeError as error:
            raise SpecError(f"{where}: is no JSON: {error}") from error
    if not isinstance(source, Mapping):
        raise SpecError(f"{where}: must hold a JSON object, as config.json of a Hugging Face model does")
    text = source.get("text_config")
    config = {**source, **text} if isinstance(text, Mapping) else source
    shape = _Reader(config, where).shape()
    check(shape)
    return shape


class _Reader:
    """Reads one configuration; `where` begins the messages."""

    def __init__(self, config: Config, where: str) -> None:
        self._config = config
        self._where = where
        self._family = FAMILIES.get(str(config.get("model_type", "")), _LLAMA)

    def shape(self) -> Architecture:
        """Return the shape that the configuration describes."""
        layers = self._required("layers", _LAYERS)
        hidden = self._required("hidden size", _HIDDEN)
        heads = self._required("attention heads", _HEADS)
        head_dim = self._count("head_dim") or hidden // heads
        rope = self._count("qk_rope_head_dim")
        latent = self._count("kv_lora_rank")
        if latent:
            head_dim = self._count("qk_nope_head_dim") + rope
        window, window_layers = self._window(layers)
        experts = self._first(_EXPERTS)
        return Architecture(
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=self._kv_heads(heads),
            head_dim=head_dim,
            v_head_dim=(self._count("v_head_dim") or head_dim) if latent else head_dim,
            vocab=self._required("vocabulary", ("vocab_size",)),
            ffn=self._ffn(hidden),
            gated=self._gated(),
            tied=bool(self._config.get("tie_word_embeddings", self._family.tied)),
            positions=self._first(_POSITIONS) if self._family.positions else 0,
            experts=experts,
            experts_per_token=self._first(_PER_TOKEN) if experts else 0,
            expert_ffn=self._expert_ffn(hidden) if experts else 0,
            shared_ffn=self._shared_ffn(hidden) if experts else 0,
            dense_layers=self._dense_layers(layers) if experts else 0,
            window=window,
            window_layers=window_layers,
            kv_lora_rank=latent,
            q_lora_rank=self._count("q_lora_rank") if latent else 0,
            rope_head_dim=rope if latent else 0,
            stored=self._stored(),
        )

    def _stored(self) -> str:
        """Return the format of quantized weights: DeepSeek-V3 is published in fp8, GPT-OSS in mxfp4."""
        found = self._config.get("quantization_config")
        if not isinstance(found, Mapping):
            return ""
        method = str(found.get("quant_method", ""))
        if method in ("fp8", "mxfp4"):
            return method
        return {8: "int8", 4: "int4"}.get(found.get("bits", 0), "")

    def _count(self, name: str) -> int:
        """Return a count, 0 where the configuration has none.

        Raises:
            SpecError: It is not a whole number.
        """
        value = self._config.get(name)
        if value is None or isinstance(value, bool):
            return 0
        # Some models have one value for each layer.
        if isinstance(value, Sequence) and not isinstance(value, str) and value:
            value = max(value)
        if not isinstance(value, int) or value < 0:
            raise SpecError(f"{self._where}: {name}={value!r}: must be a whole number")
        return value

    def _first(self, names: Sequence[str]) -> int:
        return next((found for name in names if (found := self._count(name))), 0)

    def _required(self, what: str, names: Sequence[str]) -> int:
        found = self._first(names)
        if not found:
            raise SpecError(
                f"{self._where}: no {what}; expected {' or '.join(names)}",
                hint="give params, layers, hidden, heads and vocab instead",
            )
        return found

    def _kv_heads(self, heads: int) -> int:
        config = self._config
        attention = config.get("attn_config")
        if isinstance(attention, Mapping) and attention.get("kv_n_heads"):
            return int(attention["kv_n_heads"])
        # Falcon 7B: one key-value head, and a num_kv_heads that does not apply.
        if config.get("multi_query") and not config.get("new_decoder_architecture"):
            return 1
        return self._first(_KV_HEADS) or min(self._family.kv_heads, heads) or heads

    def _ffn(self, hidden: int) -> int:
        ratio = self._count("expansion_ratio") or self._family.ffn
        # Llama 4 gives the dense MLP a width of its own.
        return self._count("intermediate_size_mlp") or self._first(_FFN) or ratio * hidden

    def _gated(self) -> bool:
        ffn = self._config.get("ffn_config")
        if isinstance(ffn, Mapping) and ffn.get("ffn_type"):
            return "glu" in str(ffn["ffn_type"])
        return self._family.gated

    def _expert_ffn(self, hidden: int) -> int:
        return self._count("moe_intermediate_size") or self._first(_FFN) or self._family.ffn * hidden

    def _shared_ffn(self, hidden: int) -> int:
        if width := self._count("shared_expert_intermediate_size"):
            return width
        shared = self._count("n_shared_experts")
        # Llama 4 has one shared expert, of the width of the others, which its configuration does not count.
        if self._config.get("model_type") == "llama4_text":
            shared = 1
        return shared * self._expert_ffn(hidden)

    def _dense_layers(self, layers: int) -> int:
        first = self._count("first_k_dense_replace")
        step = self._first(("decoder_sparse_step", "moe_layer_freq", "interleave_moe_layer_step")) or 1
        listed = self._config.get("mlp_only_layers")
        dense = len(listed) if isinstance(listed, Sequence) and not isinstance(listed, str) else 0
        sparse = (layers - first) // step
        return min(layers, layers - sparse + dense)

    def _window(self, layers: int) -> tuple[int, int]:
        window = self._count("sliding_window")
        if not window or self._config.get("use_sliding_window") is False:
            return 0, 0
        kinds = self._config.get("layer_types")
        if isinstance(kinds, Sequence) and not isinstance(kinds, str) and kinds:
            return window, sum("sliding" in str(kind) or "chunked" in str(kind) for kind in kinds)
        every = self._count("sliding_window_pattern") or self._family.window_every
        return window, layers - layers // every if every else layers
