"""Throughput of a served model by roofline: prefill is bound by compute, decode by memory bandwidth."""

from dataclasses import dataclass
from typing import Final

from multicompute.accelerators import Accelerator
from multicompute.sizing.flops import decode_flops, prefill_flops
from multicompute.sizing.memory import Layout, cache_bytes, inference_footprint
from multicompute.sizing.mfu import peak_tflops
from multicompute.workloads.description import Inference

PREFILL_MFU: Final = 0.5
"""PaLM 540B on 64 TPU v4: 43 % with one sequence of 2048 tokens, 76 % with 512 (Pope et al. 2022, arXiv 2211.05102, Table 2)."""
DECODE_MFU: Final = 0.5
"""Bound of decode by compute. The same table reaches 33 % with 512 sequences, where bandwidth still is the bound."""
BANDWIDTH_SHARE: Final = 0.6
"""Share of the memory bandwidth that decode reaches: 0.6 to 0.7 with compiled kernels (gpt-fast README: 7B in bf16 on an
A100-80GB, 104.9 tokens/s = 1397 of 2039 GB/s), 0.25 to 0.3 in eager PyTorch (LitGPT resource tables)."""
EAGER_SHARE, COMPILED_SHARE = 0.25, 0.7
"""The ends of that range."""
ALL_REDUCE_SECONDS: Final = 30e-6
"""The duration of an all-reduce of tensor parallelism when a token is decoded. 64 of them leave 7B on 8 A100 with 328 tokens/s, and
160 leave 70B with 62.5 (gpt-fast README, "Tensor Parallelism"): 19 to 24 us each with its intra-node communication, and 45 us where
only 396 GB/s were read on each GPU, without it."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """The throughput and latency of a replica of a served model.

    Attributes:
        tokens_per_second: Generated tokens of all requests together, with the time for prompts if answers have a length.
        decode_step_seconds: Time for the next token of every request.
        prefill_seconds: Time to read a prompt, and so to the first token.
        is_bandwidth_bound: Whether decode waits for memory rather than for arithmetic.
        mfu: Share of the dense peak that decode uses.
    """

    tokens_per_second: float
    decode_step_seconds: float
    prefill_seconds: float
    is_bandwidth_bound: bool
    mfu: float


def experts_read(workload: Inference) -> float:
    """Return the share of the weights that one decode step reads.

    1 for a dense model. Of a mixture, the always active weights and the experts that B requests hit:
    active share + (1 - active share) x (1 - (1 - k / E)^B), as if experts were chosen at random; without the number of
    experts, the active weights once for each request and at most all.
    """
    active = workload.used_params / workload.total_params
    if active >= 1:
        return 1.0
    shape, batch = workload.shape, workload.concurrency
    if not shape.experts:
        return min(1.0, active * batch)
    hit = 1 - (1 - shape.experts_per_token / shape.experts) ** batch
    first = 1 - (1 - shape.experts_per_token / shape.experts)
    return active + (1 - active) * max(0.0, hit - first) / (1 - first)


def decode_step_seconds(workload: Inference, accelerator: Accelerator, layout: Layout) -> tuple[float, bool]:
    """Return the time of one decode step of a replica, and whether memory bandwidth is the bound.

    max((weights x g + cache) / (t p bandwidth e), B x FLOPs per token / (t p peak MFU)) + all-reduces of 2 L x 30 us with
    tensor parallelism. The stages of a pipeline work on g = min(p, B) groups of requests in turn, and each stage reads its
    weights once for every group: a pipeline adds memory, but no speed while weights are what is read.

    Args:
        workload: The model and its requests.
        accelerator: What it runs on.
        layout: How one replica is split.

    Raises:
        ValueError: Nothing is published of the accelerator's bandwidth or peak.

    Source: Pope et al. 2022 (arXiv 2211.05102), section 2; Williams et al. 2009, "Roofline".
    """
    peak, bandwidth = peak_tflops(accelerator, workload.precision), accelerator.mem_bandwidth_gbps
    if not peak or not bandwidth:
        raise ValueError(f"{accelerator.name}: no peak in {workload.precision}, or no memory bandwidth, is published")
    count = layout.tensor * layout.pipeline
    groups = min(layout.pipeline, workload.concurrency)
    read = inference_footprint(workload).weights * experts_read(workload) * groups + cache_bytes(workload)
    memory = read / (count * bandwidth * 1e9 * BANDWIDTH_SHARE)
    compute = workload.concurrency * decode_flops(workload) / (count * peak * 1e12 * (workload.mfu or DECODE_MFU))
    exchange = 2 * workload.shape.layers * ALL_REDUCE_SECONDS if layout.tensor > 1 else 0.0
    return max(memory, compute) + exchange, memory >= compute


def prefill_seconds(workload: Inference, accelerator: Accelerator, layout: Layout, tokens: int) -> float:
    """Return the time to read a prompt of `tokens` on one replica: FLOPs / (n peak MFU).

    Raises:
        ValueError: Nothing is published of the accelerator's peak.

    Source: Pope et al. 2022 (arXiv 2211.05102), section 2.
    """
    peak = peak_tflops(accelerator, workload.precision)
    if not peak:
        raise ValueError(f"{accelerator.name}: no peak in {workload.precision} is published")
    count = layout.tensor * layout.pipeline
    return prefill_flops(workload, tokens) / (count * peak * 1e12 * (workload.mfu or PREFILL_MFU))


def throughput(workload: Inference, accelerator: Accelerator, layout: Layout) -> Throughput:
    """Return what one replica delivers with all requests at full context.

    Decode alone gives B / step. With answers of O tokens, a request also takes the time of its prompt, in which the
    replica generates nothing: B O / (O step + B x prefill).

    Raises:
        ValueError: Nothing is published of the accelerator's bandwidth or peak.
    """
    step, is_memory = decode_step_seconds(workload, accelerator, layout)
    answer = workload.output_tokens
    prompt = workload.context if answer is None else workload.context - answer
    prefill = prefill_seconds(workload, accelerator, layout, prompt) if prompt else 0.0
    rate = workload.concurrency / step
    if answer is not None:
        rate = workload.concurrency * answer / (answer * step + workload.concurrency * prefill)
    peak = peak_tflops(accelerator, workload.precision)
    assert peak is not None
    used = rate * decode_flops(workload) / (layout.tensor * layout.pipeline * peak * 1e12)
    return Throughput(rate, step, prefill, is_memory, used)
