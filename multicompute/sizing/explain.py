"""The origin of each number of a sizing: its formula, inputs, assumptions and source."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Final

from multicompute.sizing.flops import attention_flops, decode_flops, training_flops_per_token
from multicompute.sizing.interruptions import checkpoint_hours, daly_interval, hours_between, lost_share
from multicompute.sizing.memory import (
    GIB,
    USABLE_SHARE,
    cache_bytes_per_token,
    layer_activation_coefficient,
    usable_memory,
)
from multicompute.sizing.mfu import batch_ranks
from multicompute.sizing.options import Option
from multicompute.sizing.report import Sizing
from multicompute.sizing.serving import ALL_REDUCE_SECONDS, BANDWIDTH_SHARE, PREFILL_MFU
from multicompute.sizing.storage import KEPT_CHECKPOINTS, checkpoint_bytes
from multicompute.text import wrap
from multicompute.workloads.description import Finetuning, Inference, Training
from multicompute.workloads.formats import COMPUTE_BYTES, inference_bytes, state_bytes

ZERO: Final = "Rajbhandari et al. 2020 (arXiv 1910.02054), section 3.1"
KORTHIKANTI: Final = "Korthikanti et al. 2022 (arXiv 2205.05198), section 4"
PALM: Final = "Chowdhery et al. 2022 (PaLM, arXiv 2204.02311), appendix B"
POPE: Final = "Pope et al. 2022 (arXiv 2211.05102), section 2"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its origin.

    Attributes:
        name: As in the JSON form.
        value: In `unit`.
        unit: "FLOP", "GiB", "hours", ...; "" for a share or a count.
        formula: How it was worked out.
        inputs: What went in.
        source: Of the formula or the figure.
        assumption: What was assumed and may be otherwise; "" if nothing was.
    """

    name: str
    value: float
    unit: str
    formula: str
    inputs: dict[str, float | str] = field(default_factory=dict)
    source: str = ""
    assumption: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return the attributes in JSON terms."""
        return asdict(self)

    def __str__(self) -> str:
        """Return value, formula, inputs, source and assumption, each on lines of its own."""
        return self.text()

    def text(self, width: int = 100) -> str:
        """Return value, formula, inputs, source and assumption, each on lines of at most `width` characters."""
        unit = f" {self.unit}" if self.unit else ""
        inputs = ", ".join(f"{name} = {_number(value)}" for name, value in self.inputs.items())
        lines = [f"{self.name} = {_number(self.value)}{unit} = {self.formula}"]
        lines += [f"with {inputs}"] if inputs else []
        lines += [f"source: {self.source}"] if self.source else []
        lines += [f"assumed: {self.assumption}"] if self.assumption else []
        first, *rest = lines
        found = wrap(first, rest="    ", width=width)
        return "\n".join(
            [*found, *(part for line in rest for part in wrap(line, first="    ", rest="      ", width=width))]
        )


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.6g}" if abs(value) < 1e7 else f"{value:.4g}"


def explain(sizing: Sizing, option: Option | None = None) -> tuple[Figure, ...]:
    """Return every number of a sizing with its formula, inputs, source and assumptions.

    Args:
        sizing: The figures of a workload on one accelerator.
        option: An option whose hours and cost are explained too.
    """
    workload = sizing.workload
    figures = [*_model(sizing)]
    if isinstance(workload, Inference):
        figures += [*_serving_flops(sizing, workload), *_serving_memory(sizing, workload)]
    elif isinstance(workload, (Training, Finetuning)):
        figures += [*_training_flops(sizing, workload), *_training_memory(sizing, workload)]
    figures += [*_fit(sizing), *_time(sizing)]
    if isinstance(workload, Inference):
        figures += _throughput(sizing, workload)
    elif isinstance(workload, (Training, Finetuning)):
        figures += _storage(sizing, workload)
    return (*figures, *(_option(option) if option else ()))


def _model(sizing: Sizing) -> Iterator[Figure]:
    workload = sizing.workload
    shape = workload.shape
    guessed = f"guessed from the parameter count: {', '.join(workload.assumed)}" if workload.assumed else ""
    sizes = {
        "L": shape.layers,
        "h": shape.hidden,
        "a": shape.heads,
        "k": shape.kv_heads,
        "q": shape.head_dim,
        "V": shape.vocab,
    }
    given = "given" if workload.params is not None else "embeddings + L (attention + MLP or experts + norms)"
    if workload.sparsity and workload.pruning == "structured":
        given = f"(1 - sparsity) x {given}"
    yield Figure("params", workload.total_params, "", given, {**sizes, "MLP width": shape.ffn}, "", guessed)
    yield Figure(
        "active_params",
        workload.used_params,
        "",
        "parameters that one token passes through"
        if workload.kind == "moe"
        else "params: every token passes through all",
    )
    yield Figure(
        "peak",
        sizing.peak / 1e12,
        "TFLOP/s",
        f"dense peak of {sizing.accelerator.name} in {workload.precision}",
        {},
        sizing.accelerator.source,
    )


def _training_flops(sizing: Sizing, workload: Training | Finetuning) -> Iterator[Figure]:
    adapters = isinstance(workload, Finetuning) and workload.method != "full"
    inputs: dict[str, float | str] = {
        "N": workload.multiplying_params,
        "A (attention, forward)": attention_flops(workload.shape, workload.seq_len),
    }
    if isinstance(workload, Finetuning) and adapters:
        inputs["N_adapter"] = workload.adapter_params
    yield Figure(
        "flops_per_token",
        training_flops_per_token(workload),
        "FLOP",
        "4 N + 6 N_adapter + 3 A" if adapters else "6 N + 3 A, A = 2 a (q + v) s L",
        inputs,
        PALM,
        "" if workload.shape.tied is not None else "N counts the input embedding: it is not known whether it is tied",
    )
    yield Figure("flops", sizing.job.flops, "FLOP", "tokens x flops_per_token", {"tokens": workload.tokens}, PALM)


def _training_memory(sizing: Sizing, workload: Training | Finetuning) -> Iterator[Figure]:
    memory, shape = sizing.job.footprint, workload.shape
    states = state_bytes(workload.precision, workload.optimizer, master_weights=workload.master_weights)
    trained = workload.total_params
    weights = "N x bytes"
    if isinstance(workload, Finetuning) and workload.method != "full":
        trained = workload.adapter_params
        weights = "frozen weights + adapters x bytes"
    inputs: dict[str, float | str] = {"trained parameters": trained, "precision": workload.precision}
    yield Figure("weights_gib", memory.weights / GIB, "GiB", weights, {**inputs, "bytes": states.weights}, ZERO)
    yield Figure(
        "gradients_gib", memory.gradients / GIB, "GiB", "trained x bytes", {**inputs, "bytes": states.gradients}, ZERO
    )
    optimizer: dict[str, float | str] = {**inputs, "optimizer": workload.optimizer, "bytes": states.optimizer}
    yield Figure("optimizer_gib", memory.optimizer / GIB, "GiB", "trained x (master copy + moments)", optimizer, ZERO)
    coefficient = layer_activation_coefficient(shape, workload.seq_len, scores=workload.keeps_scores)
    formula = "s b h L c x bytes / 2 + logits" if workload.recompute != "full" else "2 s b h L + one layer + logits"
    yield Figure(
        "activations_gib",
        (memory.activations + memory.working + memory.logits) / GIB,
        "GiB",
        f"{formula}, logits = s b V (4 + bytes)",
        {
            "s": workload.seq_len,
            "b": workload.micro_batch,
            "h": shape.hidden,
            "L": shape.layers,
            "c": coefficient,
            "recompute": workload.recompute,
            "bytes": COMPUTE_BYTES[workload.precision],
        },
        KORTHIKANTI,
        "attention scores are kept" if workload.keeps_scores else "fused attention keeps no scores",
    )
    yield Figure("kv_cache_gib", 0.0, "GiB", "none in training")


def _serving_flops(sizing: Sizing, workload: Inference) -> Iterator[Figure]:
    inputs: dict[str, float | str] = {
        "N": workload.multiplying_params,
        "A (attention)": attention_flops(workload.shape, workload.context),
        "context": workload.context,
    }
    yield Figure("flops_per_token", decode_flops(workload), "FLOP", "2 N + A, A = 2 a (q + v) context L", inputs, POPE)
    tokens = workload.tokens or workload.cached_tokens
    assumed = "" if workload.tokens else "one full context for each concurrent request, as no number of tokens is given"
    yield Figure("flops", sizing.job.flops, "FLOP", "tokens x flops_per_token", {"tokens": tokens}, POPE, assumed)


def _serving_memory(sizing: Sizing, workload: Inference) -> Iterator[Figure]:
    memory = sizing.job.footprint
    each = inference_bytes(workload.precision, workload.weight_format)
    yield Figure(
        "weights_gib",
        memory.weights / GIB,
        "GiB",
        "linear layers x bytes + embeddings in 16 bits",
        {"format": workload.weight_format or workload.precision, "bytes": each, "sparsity": workload.sparsity},
        "sizing/formats.py names the source of each format",
    )
    yield Figure("gradients_gib", 0.0, "GiB", "none in inference")
    yield Figure("optimizer_gib", 0.0, "GiB", "none in inference")
    yield Figure(
        "activations_gib",
        (memory.working + memory.logits) / GIB,
        "GiB",
        "tokens of a chunk x (4 h + 3 f) x bytes + 4 B V",
        {"B": workload.concurrency, "V": workload.shape.vocab},
        "vLLM documentation, chunked prefill",
        "prompts are read in chunks of 2048 tokens",
    )
    latent = bool(workload.shape.kv_lora_rank)
    yield Figure(
        "kv_cache_gib",
        memory.kv_cache / GIB,
        "GiB",
        "B x context x bytes per token; " + ("L (rank + rotary) x bytes" if latent else "2 L k q x bytes"),
        {
            "B": workload.concurrency,
            "context": workload.context,
            "bytes per token": cache_bytes_per_token(workload),
            "kv_precision": workload.kv_precision,
        },
        "DeepSeek-AI 2024 (arXiv 2405.04434), section 2.1.4" if latent else POPE,
        "every request is at its full context",
    )


def _fit(sizing: Sizing) -> Iterator[Figure]:
    room = usable_memory(sizing.accelerator.memory_gib) / GIB
    yield Figure("total_gib", sizing.job.footprint.total / GIB, "GiB", "the sum of these, before any split")
    yield Figure(
        "usable_gib",
        room,
        "GiB",
        f"{USABLE_SHARE} x memory",
        {"memory": sizing.accelerator.memory_gib},
        sizing.accelerator.source,
        "the rest is for the runtime, communication and fragmentation; documented fits allow 0.90 to 0.95",
    )
    layout = {name: float(value) for name, value in sizing.layout.to_dict().items()}
    yield Figure(
        "per_accelerator_gib",
        sizing.per_accelerator / GIB,
        "GiB",
        "states / (t p), over d by the ZeRO stage + activations / t + cache / (t p)",
        {"accelerators": sizing.count, **layout},
        f"{ZERO}; {KORTHIKANTI}",
    )
    yield Figure(
        "min_accelerators",
        float(sizing.min_accelerators or 0),
        "",
        "smallest t p d with per_accelerator_gib <= usable_gib; 0: none",
        {"usable_gib": room},
        "",
        "t divides the heads, p is at most the layers, nothing is offloaded to the host",
    )


def _time(sizing: Sizing) -> Iterator[Figure]:
    mfu = sizing.mfu
    factors: dict[str, float | str] = {name: value for name, value in mfu.factors}
    runs = f"; range from {len(mfu.base.runs)} published runs" if mfu.base.runs else ""
    yield Figure(
        "mfu",
        mfu.expected,
        f"(range {mfu.low:.3f} to {mfu.high:.3f})",
        "given" if mfu.base.basis == "given" else "expected of accelerator, precision and kind x factors",
        {"expected": mfu.base.expected, **factors},
        f"{mfu.base.source}{runs}",
        "nothing is published for this case" if mfu.base.basis == "assumption" else "",
    )
    yield Figure(
        "accelerator_hours",
        sizing.accelerator_hours,
        "hours",
        "flops / (peak x mfu x 3600)",
        {"flops": sizing.job.flops, "peak": sizing.peak, "mfu": mfu.expected},
        PALM,
        "no time is lost to interruptions",
    )


def _throughput(sizing: Sizing, workload: Inference) -> Iterator[Figure]:
    replica, accelerator = sizing.replica, sizing.accelerator
    yield Figure(
        "decode_step_seconds",
        replica.decode_step_seconds,
        "s",
        "max((weights + cache) / (t p bandwidth e), B x flops_per_token / (t p peak MFU)) + 2 L all-reduces",
        {
            "bandwidth": (accelerator.mem_bandwidth_gbps or 0.0) * 1e9,
            "e": BANDWIDTH_SHARE,
            "all-reduce": ALL_REDUCE_SECONDS if sizing.layout.tensor > 1 else 0.0,
            "bound": "memory bandwidth" if replica.is_bandwidth_bound else "arithmetic",
        },
        f"{POPE}; gpt-fast README for e and the all-reduce",
        "compiled kernels; eager PyTorch reaches e = 0.25",
    )
    yield Figure(
        "prefill_seconds",
        replica.prefill_seconds,
        "s",
        "prompt x (2 N + attention) / (t p peak MFU)",
        {"MFU": workload.mfu or PREFILL_MFU},
        f"{POPE} and Table 2",
    )
    answers = "" if workload.output_tokens else "the time of prompts is not counted, as no length of answers is given"
    yield Figure(
        "tokens_per_second",
        sizing.tokens_per_second,
        "",
        "replicas x B / decode_step, less the time of prompts",
        {"B": workload.concurrency, "replicas": sizing.count // sizing.layout.accelerators},
        POPE,
        answers,
    )


def _storage(sizing: Sizing, workload: Training | Finetuning) -> Iterator[Figure]:
    needs, loading = sizing.storage, sizing.loading
    yield Figure(
        "tokens_per_second",
        sizing.tokens_per_second,
        "",
        "tokens x accelerators / (accelerator_hours x 3600)",
        {"accelerators": sizing.count},
    )
    yield Figure(
        "checkpoint_gib",
        needs.checkpoint_bytes / GIB,
        "GiB",
        "trained x (weights + master copy + optimizer)",
        {"kept": KEPT_CHECKPOINTS, "all kept (GiB)": needs.checkpoints_bytes / GIB},
        "BigScience 2022 (arXiv 2211.05100), section 3.4: 13 bytes per parameter",
        f"{KEPT_CHECKPOINTS} checkpoints are kept",
    )
    yield Figure(
        "data_gib",
        needs.data_bytes / GIB,
        "GiB",
        "tokens x bytes of a token as a number",
        {"as it is stored (GiB)": needs.source_bytes / GIB},
    )
    yield Figure(
        "reading_share",
        loading.needed_bytes_per_second / loading.available_bytes_per_second,
        "",
        "tokens_per_second x bytes per token / (nodes x read rate); above 1 the storage holds the job up",
        {"bytes per token": workload.bytes_per_token, "read rate (bytes/s)": workload.storage_gb_per_second * 1e9},
        "",
        f"each node reads {workload.storage_gb_per_second:g} GB/s",
    )


def _option(option: Option) -> Iterator[Figure]:
    done, job = option.performance, option.job
    workload = job.workload
    if isinstance(workload, (Training, Finetuning)):
        yield Figure(
            "step_micro_batches",
            batch_ranks(workload) / done.layout.data,
            "",
            "tokens of a step / (tokens of a micro-batch x data-parallel ranks)",
            {"tokens of a step": workload.step_tokens, "data": done.layout.data},
            "",
            "" if workload.batch_tokens else "the tokens of a step are not given",
        )
    if isinstance(workload, (Training, Finetuning)) and done.goodput < 1:
        yield _goodput(option, workload)
    is_served = isinstance(workload, Inference) and workload.tokens is None
    yield Figure(
        "hours",
        done.hours,
        "hours",
        "as long as it is served" if is_served else "accelerator_hours / accelerators / goodput",
        {
            "accelerator_hours": done.accelerator_hours,
            "accelerators": done.accelerators,
            "goodput": done.goodput,
            "mfu": done.mfu,
        },
    )
    yield Figure(
        "total_usd",
        option.total_usd,
        "USD",
        "hours x nodes x hourly price + transfer",
        {
            "nodes": option.nodes,
            "hourly price": option.hourly_usd / option.nodes,
            "transfer": option.machine.transfer_usd,
            "priced on": option.machine.offer.quote.as_of.isoformat(),
        },
        option.machine.offer.quote.source,
        "" if option.machine.offer.quote.basis == "list" else "the price is an estimate",
    )


def _goodput(option: Option, workload: Training | Finetuning) -> Figure:
    done = option.performance
    machines = done.nodes * option.machine.offer.instance.hosts
    between = hours_between(
        workload,
        nodes=machines,
        accelerators=done.accelerators,
        preemptions=option.preemptions,
        failures=workload.mfu is None,
    )
    checkpoint = checkpoint_hours(workload, checkpoint_bytes(workload), machines)
    restart = workload.restart_minutes / 60
    return Figure(
        "goodput",
        1 - lost_share(checkpoint, between, restart),
        "",
        "1 - (delta / tau + tau / 2M + R / M), tau by Daly",
        {
            "M (hours)": between,
            "delta (hours)": checkpoint,
            "tau (hours)": daly_interval(checkpoint, between),
            "R (hours)": restart,
            "preemptions per node and day": option.preemptions,
        },
        "Young 1974; Daly 2006; failures: Llama Team 2024 (arXiv 2407.21783), section 3.3.4",
        "the rates of preemption, writing and restarting",
    )
