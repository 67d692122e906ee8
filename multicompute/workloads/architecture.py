"""The shape of a transformer, its parameter counts, and a guess of the shape from the parameter count alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from multicompute.errors import SpecError

ASPECT: Final = 128
"""Hidden size per layer of the guess: GPT-3 175B has 128, Llama 3.1 8B 128, 70B 102, 405B 130."""
HEAD_DIM: Final = 128
"""Head size of the guess, as in GPT-3, Llama, Mistral and Qwen."""
KV_HEADS: Final = 8
"""Key-value heads of the guess, as in Llama 3, Mistral and Qwen 2.5."""
VOCAB: Final = 50_000
"""Vocabulary of the guess: between Llama 2 (32,000) and Llama 3 (128,256)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The shape of a decoder-only transformer.

    Attributes:
        layers: Transformer blocks.
        hidden: Width of the residual stream.
        heads: Query heads.
        kv_heads: Key-value heads; equal to `heads` without grouped-query attention.
        head_dim: Size of one query or key head, rotary part included.
        v_head_dim: Size of one value head.
        vocab: Rows of the embedding.
        ffn: Width of the MLP that one token passes through in a dense layer.
        gated: Whether the MLP has a gate (SwiGLU, GeGLU): three matrices instead of two.
        tied: Whether input and output embedding are one matrix; None where it is not known.
        positions: Learned position embeddings.
        experts: Routed experts in each mixture layer, 0 for a dense model.
        experts_per_token: Routed experts that one token passes through.
        expert_ffn: Width of one routed expert.
        shared_ffn: Width of the experts that every token passes through.
        dense_layers: Layers of a mixture that have a dense MLP instead of experts.
        window: Tokens that a sliding-window layer attends to.
        window_layers: Layers with a sliding window.
        kv_lora_rank: Rank of the latent key-value projection (multi-head latent attention), else 0.
        q_lora_rank: Rank of the latent query projection, else 0.
        rope_head_dim: Rotary part of `head_dim` that latent attention caches next to the latent vector.
        stored: Format of the published weights where it is a quantized one, else "".
        assumed: The fields that were guessed.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    vocab: int
    ffn: float
    gated: bool = True
    tied: bool | None = None
    positions: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    dense_layers: int = 0
    window: int = 0
    window_layers: int = 0
    kv_lora_rank: int = 0
    q_lora_rank: int = 0
    rope_head_dim: int = 0
    stored: str = ""
    assumed: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return a shape from a mapping of its attributes.

        Raises:
            SpecError: An attribute is missing, unknown or no number.
        """
        try:
            shape = cls(**{**values, "assumed": tuple(values.get("assumed", ()))})
            check(shape)
        except TypeError as error:
            raise SpecError(f"config: {error}", hint="name the config.json of the model") from error
        return shape

    @property
    def embedding_params(self) -> int:
        """Parameters of one embedding matrix: V h."""
        return self.vocab * self.hidden

    @property
    def mlp_matrices(self) -> int:
        """Matrices of one MLP: three with a gate, else two."""
        return 3 if self.gated else 2

    @property
    def active_ffn(self) -> float:
        """Width of all MLPs that one token passes through in a layer, averaged over the layers."""
        if not self.experts:
            return self.ffn
        sparse = self.experts_per_token * self.expert_ffn + self.shared_ffn
        return (self.dense_layers * self.ffn + (self.layers - self.dense_layers) * sparse) / self.layers


def attention_params(shape: Architecture) -> int:
    """Return the parameters of the attention of one layer.

    Q, K, V and output projection: h a q + h k (q + v) + a v h. Latent attention projects through the ranks r_q and r_kv
    instead: h r_q + r_q a q, and h (r_kv + rope) + r_kv a (q - rope + v).

    Source: Ainslie et al. 2023 (arXiv 2305.13245) for grouped heads; DeepSeek-AI 2024 (arXiv 2405.04434), section 2.1,
    for latent attention.
    """
    h, a = shape.hidden, shape.heads
    output = a * shape.v_head_dim * h
    if not shape.kv_lora_rank:
        return h * a * shape.head_dim + h * shape.kv_heads * (shape.head_dim + shape.v_head_dim) + output
    rank = shape.q_lora_rank
    query = h * rank + rank * a * shape.head_dim if rank else h * a * shape.head_dim
    nope = shape.head_dim - shape.rope_head_dim
    key_value = h * (shape.kv_lora_rank + shape.rope_head_dim) + shape.kv_lora_rank * a * (nope + shape.v_head_dim)
    return query + key_value + output


def parameter_count(shape: Architecture) -> float:
    """Return all parameters: embeddings, and per layer attention, MLP or experts with their router, and two norms.

    Biases are left out: they are below 0.1 % of any model over 100 million parameters.
    """
    return _count(shape, shape.experts)


def active_parameter_count(shape: Architecture) -> float:
    """Return the parameters that one token passes through, embeddings included; all of them for a dense model."""
    return _count(shape, shape.experts_per_token)


def _count(shape: Architecture, experts: int) -> float:
    h = shape.hidden
    width = float(shape.ffn * shape.layers)
    router = 0
    if shape.experts:
        sparse_layers = shape.layers - shape.dense_layers
        width = shape.dense_layers * shape.ffn + sparse_layers * (experts * shape.expert_ffn + shape.shared_ffn)
        router = sparse_layers * h * shape.experts
    matrices = 1 if shape.tied else 2
    return (
        matrices * shape.embedding_params
        + shape.positions * h
        + shape.layers * (attention_params(shape) + 2 * h)
        + shape.mlp_matrices * h * width
        + router
        + h
    )


def guess(
    params: float,
    *,
    active_params: float | None = None,
    layers: int | None = None,
    hidden: int | None = None,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    vocab: int | None = None,
    kv_lora_rank: int | None = None,
    gated: bool | None = None,
) -> Architecture:
    """Derive the shape of a model from its parameter count, and from as much of the shape as is known.

    N = 12 L h^2 (Kaplan et al. 2020, arXiv 2001.08361, section 2.1) with h = 128 L gives L = (N / 196,608)^(1/3). The
    width of the MLP is then what is left of N. Of a mixture, the active parameters set the shape.

    Args:
        params: All parameters.
        active_params: Parameters that one token passes through, for a mixture of experts.
        layers: Transformer blocks, if known.
        hidden: Width of the residual stream, if known.
        heads: Query heads, if known.
        kv_heads: Key-value heads, if known; without groups where the heads are known.
        head_dim: Size of one head, if known.
        vocab: Rows of the embedding, if known.
        kv_lora_rank: Rank of latent attention, which then has the head sizes of DeepSeek-V3.
        gated: Whether the MLP has a gate; None if grouped heads are to decide, which no model without a gate has.

    Returns:
        The shape; `assumed` names the fields that are guesses.
    """
    known = {"layers": layers, "hidden": hidden, "heads": heads, "kv_heads": kv_heads, "vocab": vocab}
    size = active_params or params
    layers, hidden = _depth_and_width(size, layers, hidden)
    head_dim, heads = _heads(hidden, heads, head_dim)
    if kv_heads is None:
        # Who names the heads and no groups describes a model without groups.
        kv_heads = heads if known["heads"] is not None or heads % KV_HEADS else KV_HEADS
    shape = Architecture(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        vocab=vocab or VOCAB,
        ffn=4 * hidden,
        gated=kv_heads < heads if gated is None else gated,
        assumed=(*(name for name, value in known.items() if value is None), "ffn", "gated"),
    )
    if kv_lora_rank:
        shape = _latent(shape, kv_lora_rank)
    return replace(shape, ffn=_remaining_width(shape, size))


def _depth_and_width(size: float, layers: int | None, hidden: int | None) -> tuple[int, int]:
    if hidden is None:
        depth = layers or (size / (12 * ASPECT**2)) ** (1 / 3)
        width = math.sqrt(size / (12 * depth))
        # Groups of eight heads, so that tensor parallelism can divide them.
        step = HEAD_DIM * (KV_HEADS if width >= HEAD_DIM * KV_HEADS else 1)
        hidden = max(HEAD_DIM, step * round(width / step))
    return layers or max(1, round(size / (12 * hidden**2))), hidden


def _heads(hidden: int, heads: int | None, head_dim: int | None) -> tuple[int, int]:
    if heads is None:
        heads = max(1, hidden // (head_dim or HEAD_DIM))
    return head_dim or max(1, hidden // heads), heads


def _latent(shape: Architecture, rank: int) -> Architecture:
    """Give `shape` latent attention with the head sizes of DeepSeek-V2 and V3: 128 + 64 for queries, 128 for values."""
    return replace(
        shape,
        kv_lora_rank=rank,
        q_lora_rank=3 * rank,
        head_dim=192,
        v_head_dim=128,
        rope_head_dim=64,
        assumed=(*shape.assumed, "q_lora_rank", "head_dim", "v_head_dim", "rope_head_dim"),
    )


def _remaining_width(shape: Architecture, size: float) -> float:
    """Return the MLP width that brings the parameter count to `size`; four times the hidden size if that is impossible."""
    left = size - shape.embedding_params - shape.layers * attention_params(shape)
    width = left / (shape.layers * shape.mlp_matrices * shape.hidden)
    return width if width > 0 else 4.0 * shape.hidden


def check(shape: Architecture) -> None:
    """Refuse a shape that contradicts itself.

    Raises:
        SpecError: A count is not positive, or the key-value heads do not divide the heads.
    """
    for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "v_head_dim", "vocab"):
        value = getattr(shape, name)
        if value < 1:
            raise SpecError(f"{name}={value}: must be a whole number of at least 1")
    if shape.kv_heads > shape.heads or shape.heads % shape.kv_heads:
        raise SpecError(f"kv_heads={shape.kv_heads}: must divide heads={shape.heads}")
