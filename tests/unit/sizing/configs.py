"""Configurations of published models, with the parameters that their makers count."""

from typing import Any, NamedTuple


class Published(NamedTuple):
    """A configuration, all parameters in billions, and those that one token passes through."""

    config: dict[str, Any]
    params: float
    active: float


def _llama(hidden: int, width: int, layers: int, heads: int, kv_heads: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "rope_theta": 500000.0,
        "architectures": ["SomethingForCausalLM"],
        **more,
    }


_DEEPSEEK = {
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "moe_layer_freq": 1,
}

PUBLISHED: dict[str, Published] = {
    "Llama 3.1 8B": Published(_llama(4096, 14336, 32, 32, 8, 128256, tie_word_embeddings=False), 8.03, 8.03),
    "Llama 3.1 405B": Published(_llama(16384, 53248, 126, 128, 8, 128256), 405.85, 405.85),
    "Mistral 7B": Published(
        _llama(4096, 14336, 32, 32, 8, 32000, model_type="mistral", sliding_window=4096), 7.24, 7.24
    ),
    "Mixtral 8x7B": Published(
        _llama(
            4096,
            14336,
            32,
            32,
            8,
            32000,
            model_type="mixtral",
            num_local_experts=8,
            num_experts_per_tok=2,
            sliding_window=None,
        ),
        46.7,
        12.9,
    ),
    "Qwen2.5 7B": Published(
        _llama(3584, 18944, 28, 28, 4, 152064, model_type="qwen2", use_sliding_window=False, sliding_window=131072),
        7.62,
        7.62,
    ),
    "Qwen3 8B": Published(_llama(4096, 12288, 36, 32, 8, 151936, model_type="qwen3", head_dim=128), 8.19, 8.19),
    "Qwen3 30B-A3B": Published(
        _llama(2048, 6144, 48, 32, 4, 151936, model_type="qwen3_moe", head_dim=128, moe_intermediate_size=768)
        | {"num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": []},
        30.5,
        3.3,
    ),
    "Gemma 7B": Published(_llama(3072, 24576, 28, 16, 16, 256000, model_type="gemma", head_dim=256), 8.54, 8.54),
    "Gemma 3 27B, text": Published(
        {
            "model_type": "gemma3",
            "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
            "text_config": _llama(
                5376, 21504, 62, 32, 16, 262208, model_type="gemma3_text", head_dim=128, sliding_window=1024
            ),
        },
        27.0,
        27.0,
    ),
    "GPT-2": Published(
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024},
        0.1244,
        0.1244,
    ),
    "GPT-NeoX 20B": Published(_llama(6144, 24576, 44, 64, 64, 50432, model_type="gpt_neox"), 20.55, 20.55),
    "OPT 13B": Published(
        {
            "model_type": "opt",
            "hidden_size": 5120,
            "ffn_dim": 20480,
            "num_hidden_layers": 40,
            "num_attention_heads": 40,
            "vocab_size": 50272,
            "max_position_embeddings": 2048,
        },
        12.85,
        12.85,
    ),
    "BLOOM 176B": Published(
        {"model_type": "bloom", "n_embed": 14336, "n_layer": 70, "num_attention_heads": 112, "vocab_size": 250880},
        176.25,
        176.25,
    ),
    "Falcon 40B": Published(
        {
            "model_type": "falcon",
            "hidden_size": 8192,
            "num_hidden_layers": 60,
            "num_attention_heads": 128,
            "num_kv_heads": 8,
            "new_decoder_architecture": True,
            "multi_query": True,
            "vocab_size": 65024,
        },
        41.3,
        41.3,
    ),
    "Falcon 7B": Published(
        {
            "model_type": "falcon",
            "hidden_size": 4544,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "num_kv_heads": 71,
            "multi_query": True,
            "vocab_size": 65024,
        },
        6.92,
        6.92,
    ),
    "DeepSeek-V3": Published(
        _DEEPSEEK
        | {
            "model_type": "deepseek_v3",
            "hidden_size": 7168,
            "intermediate_size": 18432,
            "moe_intermediate_size": 2048,
            "num_hidden_layers": 61,
            "n_routed_experts": 256,
            "n_shared_experts": 1,
            "num_experts_per_tok": 8,
            "first_k_dense_replace": 3,
            "num_nextn_predict_layers": 1,
            "vocab_size": 129280,
            "quantization_config": {"quant_method": "fp8"},
        },
        671.0,
        37.5,
    ),
    "DeepSeek-V2": Published(
        _DEEPSEEK
        | {
            "model_type": "deepseek_v2",
            "hidden_size": 5120,
            "intermediate_size": 12288,
            "moe_intermediate_size": 1536,
            "num_hidden_layers": 60,
            "n_routed_experts": 160,
            "n_shared_experts": 2,
            "num_experts_per_tok": 6,
            "first_k_dense_replace": 1,
            "vocab_size": 102400,
        },
        235.7,
        21.4,
    ),
    "Phi-3 mini": Published(_llama(3072, 8192, 32, 32, 32, 32064, model_type="phi3"), 3.82, 3.82),
    "GPT-OSS 120B": Published(
        _llama(2880, 2880, 36, 64, 8, 201088, model_type="gpt_oss", head_dim=64, sliding_window=128)
        | {
            "num_local_experts": 128,
            "num_experts_per_tok": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 18,
        },
        116.8,
        5.7,
    ),
    "Llama 4 Maverick, text": Published(
        {
            "model_type": "llama4",
            "text_config": _llama(5120, 8192, 48, 40, 8, 202048, model_type="llama4_text", head_dim=128)
            | {
                "intermediate_size_mlp": 16384,
                "num_local_experts": 128,
                "num_experts_per_tok": 1,
                "interleave_moe_layer_step": 2,
            },
        },
        400.7,
        17.2,
    ),
}
