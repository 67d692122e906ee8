"""Memory of a model: weights, gradients, optimizer, activations and KV cache, and the share of each accelerator."""

import math
from dataclasses import dataclass
from typing import Final

from multicompute.workloads.architecture import Architecture
from multicompute.workloads.description import Finetuning, Inference, Training, Workload
from multicompute.workloads.formats import (
    CACHE_BYTES,
    COMPUTE_BYTES,
    QUANTIZED_BYTES,
    inference_bytes,
    pruned_share,
    state_bytes,
)

GIB: Final = 2.0**30

USABLE_SHARE: Final = 0.94
"""Share of the nominal memory that a job may fill. The rest is for the runtime's context, communication buffers and
fragmentation. Documented fits allow 0.90 to 0.95: 242 GiB of weights do not fit 8 x 32 GiB (GLM-130B, README, "Hardware"),
625 GiB not 8 x 80 GiB (SGLang documentation, "DeepSeek V3 usage")."""

PREFILL_CHUNK: Final = 2048
"""Tokens that a server reads at once: the default budget of vLLM's chunked prefill (vLLM documentation, "Optimization")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The split of a job: n = data x tensor x pipeline accelerators."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    zero: int = 0

    @property
    def accelerators(self) -> int:
        """The number of accelerators."""
        return self.data * self.tensor * self.pipeline

    def to_dict(self) -> dict[str, int]:
        """Return the degrees in JSON terms."""
        return {"data": self.data, "tensor": self.tensor, "pipeline": self.pipeline, "zero": self.zero}


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Memory of one copy of a model and one micro-batch before any split, in bytes.

    Attributes:
        weights: All weights, frozen ones included.
        gradients: Of the trained weights.
        optimizer: Fp32 master copy and optimizer state of the trained weights.
        activations: What all layers keep for the backward pass.
        working: The largest set of activations that is alive in addition: one layer, if it is computed again.
        logits: The output layer's scores.
        kv_cache: Keys and values of all requests.
        layers: How many layers a pipeline can be cut into.
        kv_heads: Into how many parts tensor parallelism cuts the cache; 1 for latent attention.
        largest_layer: The weights that ZeRO stage 3 gathers at once.
    """

    weights: float
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    working: float = 0.0
    logits: float = 0.0
    kv_cache: float = 0.0
    layers: int = 1
    kv_heads: int = 1
    largest_layer: float = 0.0

    @property
    def states(self) -> float:
        """Weights, gradients and optimizer."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> float:
        """Everything."""
        return self.states + self.activations + self.working + self.logits + self.kv_cache

    def per_accelerator(self, layout: Layout) -> float:
        """Return the bytes on the fullest accelerator; see `bytes_on`."""
        return self.bytes_on(layout.tensor, layout.pipeline, layout.data, layout.zero)

    def bytes_on(self, t: int, p: int, d: int, zero: int) -> float:
        """Return the bytes on the fullest of t p d accelerators.

        - Weights, gradients and optimizer are divided by t p; over the d data-parallel ranks ZeRO stage 1 divides the
          optimizer, 2 the gradients, 3 the weights, and then gathers two layers at a time.
        - Activations are divided by t (sequence parallel). The first stage of a pipeline keeps p micro-batches of L / p
          layers, so all L layers' worth; the last one keeps one micro-batch, and the logits.
        - The cache is divided by p, and by t as far as there are key-value heads.

        Source: Rajbhandari et al. 2020 (arXiv 1910.02054), section 5; Korthikanti et al. 2022 (arXiv 2205.05198),
        sections 4.2 and 4.3; Pope et al. 2022 (arXiv 2211.05102), section 3.3.
        """
        # The largest stage of a pipeline whose length does not divide the layers.
        stage = math.ceil(self.layers / p) / self.layers
        states = self.weights / (d if zero >= 3 else 1) + self.gradients / (d if zero >= 2 else 1)
        states += self.optimizer / (d if zero >= 1 else 1)
        gathered = 2.0 * self.largest_layer / t if zero >= 3 and d > 1 else 0.0
        kept = max(self.activations, self.activations / p + self.logits) if p > 1 else self.activations + self.logits
        cache = self.kv_cache * stage / min(t, self.kv_heads) if self.kv_cache else 0.0
        return states * stage / t + gathered + (kept + self.working) / t + cache

    def to_dict(self) -> dict[str, float]:
        """Return the parts in GiB under the names of the JSON form; activations include the logits."""
        parts = {
            "weights_gib": self.weights,
            "gradients_gib": self.gradients,
            "optimizer_gib": self.optimizer,
            "activations_gib": self.activations + self.working + self.logits,
            "kv_cache_gib": self.kv_cache,
            "total_gib": self.total,
        }
        return {name: value / GIB for name, value in parts.items()}


def usable_memory(memory_gib: float) -> float:
    """Return the bytes that a job may fill on an accelerator of `memory_gib`; see `USABLE_SHARE`."""
    return USABLE_SHARE * memory_gib * GIB


def footprint(workload: Workload) -> Footprint:
    """Return the memory of a workload before any split."""
    if isinstance(workload, Inference):
        return inference_footprint(workload)
    assert isinstance(workload, (Training, Finetuning))
    return training_footprint(workload)


def layer_activation_coefficient(shape: Architecture, seq_len: int, *, scores: bool) -> float:
    """Return the bytes that one layer keeps for the backward pass, per token and unit of hidden size, in 16 bits.

    34 + 5 a s / h for a plain transformer: 11 for attention, 19 for an MLP of 4 h, 4 for the norms, and 5 a s / h for the
    attention scores where they are kept. Attention is 3 + 4 a q / h + 4 k q / h (fewer heads of keys and values keep
    less), a plain MLP of width f is 3 + 4 f / h, a gated one 2 + 8 f / h.

    Source: Korthikanti et al. 2022 (arXiv 2205.05198), section 4.1 and Table 2.
    """
    h = shape.hidden
    query = shape.heads * shape.head_dim / h
    key_value = (shape.heads if shape.kv_lora_rank else shape.kv_heads) * shape.head_dim / h
    width = shape.active_ffn / h
    mlp = 2 + 8 * width if shape.gated else 3 + 4 * width
    attention = 3 + 4 * query + 4 * key_value
    return attention + mlp + 4 + (5 * shape.heads * seq_len / h if scores else 0)


def training_footprint(workload: Training | Finetuning) -> Footprint:
    """Return the memory of training one copy of the model with one micro-batch.

    - Full: weights, gradients, master copy and optimizer for every parameter, see `formats.state_bytes`.
    - LoRA: frozen weights in the given precision, all states for the adapters only. QLoRA: frozen linear layers in nf4.
    - Activations s b h L times `layer_activation_coefficient`; with full recomputation 2 s b h L and one layer's set.
    - Logits 4 s b V in fp32 and 2 s b V in 16 bits.

    Source: ZeRO (arXiv 1910.02054), section 3.1; Korthikanti et al. 2022 (arXiv 2205.05198), section 4; Dettmers et al.
    2023 (QLoRA, arXiv 2305.14314), section 3.
    """
    shape = workload.shape
    compute = COMPUTE_BYTES[workload.precision]
    states = state_bytes(workload.precision, workload.optimizer, master_weights=workload.master_weights)
    token_width = float(workload.seq_len * workload.micro_batch * shape.hidden)
    coefficient = layer_activation_coefficient(shape, workload.seq_len, scores=workload.keeps_scores)
    trained, frozen = workload.total_params, 0.0
    if isinstance(workload, Finetuning) and workload.method != "full":
        trained, frozen = workload.adapter_params, _frozen_bytes(workload)
        # The dropped-out copy of the adapters' input, and the mask.
        coefficient += 3
    layer = token_width * coefficient * compute / 2
    recomputed = workload.recompute == "full"
    return Footprint(
        weights=frozen + trained * states.weights,
        gradients=trained * states.gradients,
        optimizer=trained * states.optimizer,
        activations=token_width * compute * shape.layers if recomputed else layer * shape.layers,
        working=layer if recomputed else 0.0,
        logits=workload.seq_len * workload.micro_batch * shape.vocab * (4 + compute),
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        largest_layer=_largest_layer(workload) * compute,
    )


def _frozen_bytes(workload: Finetuning) -> float:
    compute = COMPUTE_BYTES[workload.precision]
    if workload.method == "lora":
        return workload.total_params * compute
    embeddings = min(_embeddings(workload), workload.total_params)
    return (workload.total_params - embeddings) * QUANTIZED_BYTES[workload.frozen_format] + embeddings * compute


def _embeddings(workload: Workload) -> float:
    """Return the parameters of the embeddings; of one where it is not known whether there are two."""
    return float(workload.shape.embedding_params * (2 if workload.shape.tied is False else 1))


def _largest_layer(workload: Workload) -> float:
    inside = max(workload.total_params - _embeddings(workload), 0.0)
    return max(inside / workload.shape.layers, float(workload.shape.embedding_params))


def cache_bytes_per_token(workload: Inference) -> float:
    """Return the bytes of the KV cache of one token in all layers, windows not regarded.

    2 L k q x bytes; latent attention keeps one vector for all heads: L (rank + rotary part) x bytes.

    Source: Pope et al. 2022 (arXiv 2211.05102), section 2.1; DeepSeek-AI 2024 (arXiv 2405.04434), section 2.1.4.
    """
    shape = workload.shape
    width = shape.kv_heads * (shape.head_dim + shape.v_head_dim)
    if shape.kv_lora_rank:
        width = shape.kv_lora_rank + shape.rope_head_dim
    return shape.layers * width * CACHE_BYTES[workload.kv_precision]


def cache_bytes(workload: Inference) -> float:
    """Return the bytes of the KV cache of all requests at full context; layers with a window keep at most their window."""
    shape = workload.shape
    kept: float = workload.context
    if shape.window:
        windowed = shape.window_layers * min(workload.context, shape.window)
        kept = ((shape.layers - shape.window_layers) * workload.context + windowed) / shape.layers
    return workload.concurrency * kept * cache_bytes_per_token(workload)


def weight_bytes(workload: Inference, params: float) -> float:
    """Return the bytes of `params` parameters of linear layers as they are served, pruned and quantized."""
    each = inference_bytes(workload.precision, workload.weight_format)
    left = 1.0 if workload.pruning == "structured" else pruned_share(each, workload.sparsity, workload.pruning)
    return params * each * left


def inference_footprint(workload: Inference) -> Footprint:
    """Return the memory of one copy of a served model.

    Weights of linear layers in their format, embeddings in 16 bits, the KV cache of all requests, and the activations of
    one layer for one chunk of a prompt: bytes x tokens x (4 h + 3 f).

    Source: Frantar et al. 2022 (GPTQ, arXiv 2210.17323), section 4: embeddings and output layer are not quantized; Kwon
    et al. 2023 (vLLM, arXiv 2309.06180), section 3, for the cache.
    """
    shape = workload.shape
    compute = min(COMPUTE_BYTES[workload.precision], 4.0)
    embeddings = min(_embeddings(workload), workload.total_params)
    if workload.weight_format is None and workload.precision != "fp8":
        embeddings = 0.0
    chunk = min(workload.cached_tokens, PREFILL_CHUNK)
    return Footprint(
        weights=weight_bytes(workload, workload.total_params - embeddings) + embeddings * compute,
        working=compute * chunk * (4 * shape.hidden + 3 * shape.active_ffn),
        logits=4.0 * workload.concurrency * shape.vocab,
        kv_cache=cache_bytes(workload),
        layers=shape.layers,
        kv_heads=1 if shape.kv_lora_rank else shape.kv_heads,
    )
