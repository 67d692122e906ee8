"""Floating point operations of training, fine-tuning, prefill and decode."""

from multicompute.workloads.architecture import Architecture
from multicompute.workloads.description import Finetuning, Inference, Training, Workload


def attention_flops(shape: Architecture, tokens: int) -> float:
    """Return the FLOPs of attention of one token in a forward pass, for scores and weighted values of all layers.

    2 a (q + v) s for each layer, which is 4 h s where a q = h; a layer with a sliding window attends to min(s, window).
    All of the sequence is counted, not the half below the diagonal.

    Args:
        shape: L layers with a heads of size q (values: v).
        tokens: S, the tokens that are attended to.

    Source: Chowdhery et al. 2022 (PaLM, arXiv 2204.02311), appendix B; for latent attention q = 192 and v = 128
    (DeepSeek-AI 2024, arXiv 2412.19437, section 4.2).
    """
    window = min(tokens, shape.window) if shape.window else tokens
    attended = (shape.layers - shape.window_layers) * tokens + shape.window_layers * window
    return 2.0 * shape.heads * (shape.head_dim + shape.v_head_dim) * attended


def training_flops_per_token(workload: Training | Finetuning) -> float:
    """Return the FLOPs of one trained token, forward and backward, without recomputation.

    6 N + 12 L a q s: 2 N forward and 4 N backward, and three times the attention of the forward pass. N counts the active
    parameters of a mixture, and not an input embedding that is a matrix of its own. With adapters the frozen weights have
    no gradients: 4 N + 6 N_adapter.

    Source: PaLM (arXiv 2204.02311), appendix B; Kaplan et al. 2020 (arXiv 2001.08361), section 2.1.
    """
    attention = 3.0 * attention_flops(workload.shape, workload.seq_len)
    if isinstance(workload, Finetuning) and workload.method != "full":
        return 4.0 * workload.multiplying_params + 6.0 * workload.adapter_params + attention
    return 6.0 * workload.multiplying_params + attention


def prefill_flops(workload: Inference, tokens: int) -> float:
    """Return the FLOPs of reading a prompt: tokens x (2 N + attention over all of them).

    Source: Pope et al. 2022 (arXiv 2211.05102), section 2.
    """
    return tokens * (2.0 * workload.multiplying_params + attention_flops(workload.shape, tokens))


def decode_flops(workload: Inference) -> float:
    """Return the FLOPs of generating one token at full context: 2 N + attention over the context.

    Source: Pope et al. 2022 (arXiv 2211.05102), section 2.
    """
    return 2.0 * workload.multiplying_params + attention_flops(workload.shape, workload.context)


def total_flops(workload: Workload) -> float:
    """Return the FLOPs of the job.

    Training: tokens x FLOPs per token. Inference: tokens to generate x FLOPs per generated token; without a number of
    tokens, one full context for each concurrent request.
    """
    if isinstance(workload, (Training, Finetuning)):
        return workload.tokens * training_flops_per_token(workload)
    assert isinstance(workload, Inference)
    return (workload.tokens or workload.cached_tokens) * decode_flops(workload)


def attention_share(workload: Training | Finetuning) -> float:
    """Return the share of attention in the FLOPs of a trained token."""
    return 3.0 * attention_flops(workload.shape, workload.seq_len) / training_flops_per_token(workload)
