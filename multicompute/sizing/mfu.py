"""Model FLOPs utilization: what published runs reached, what to expect of a job, and within which range."""

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from multicompute import accelerators
from multicompute.accelerators import Accelerator
from multicompute.errors import CatalogError
from multicompute.sizing.flops import attention_share
from multicompute.sizing.memory import Layout, sequence_parts
from multicompute.sizing.parallelism import spans_nodes
from multicompute.workloads.description import Finetuning, Training
from multicompute.workloads.formats import Precision

PUBLISHED: Final = Path(__file__).with_name("data") / "mfu.csv"
"""Published utilizations, one run in each line, with source and date."""
DEFAULTS: Final = Path(__file__).with_name("data") / "mfu_defaults.csv"
"""The expected utilization for each family of accelerators, and whether it is published or assumed."""

MARGIN: Final = 0.1
"""The margin of the range beyond the published runs."""
SPREAD: Final = 0.25
"""The smallest margin of the range around the expected value; twice that where fewer than `ENOUGH_RUNS` are known."""
ENOUGH_RUNS: Final = 3
SIMILAR_LENGTH: Final = 4.0
"""Runs whose sequences are longer or shorter by at most this factor set the range, if there are any."""

NODE_SCALE: Final = 0.98
"""Factor for each doubling of the accelerators from 8 to 512: MPT-3B on 16 to 64 H100 0.97, MPT-13B 1.00 (llm-foundry);
MaxText 32B on 1 to 32 slices of v5e-256 0.98 (MaxText, configs/v5e/README.md)."""
CLUSTER_SCALE: Final = 0.95
"""Factor for each doubling beyond 512: Llama 3.1 405B 0.95 from 8K to 16K GPUs (arXiv 2407.21783, Table 4), Nemotron-4 15B
0.93 from 768 to 2304 (arXiv 2402.16819, Table 2), Megatron-LM 175B 0.92 with a fixed batch (NVIDIA Megatron-LM README)."""
SMALL, LARGE = 8, 512

ATTENTION_SPEED: Final = 0.6
"""The speed of attention relative to that of the matrices, all of its FLOPs counted: MPT-7B and 13B from 2K to 64K tokens on
A100 and H100 (llm-foundry) give 0.5 to 0.6, Llama 3.1 405B at 128K tokens 0.85."""
USUAL_ATTENTION: Final = 0.07
"""Share of attention in the FLOPs of the runs that the defaults are from."""

NO_FABRIC: Final = 0.5
"""Factor without an RDMA fabric between nodes. An assumption: no published run trains a large model over plain Ethernet."""
SLICES: Final = 0.97
"""Factor for more than one TPU slice: MaxText 32B on two slices of v5e-256 (MaxText, configs/v5e/README.md)."""
TENSOR_ACROSS_NODES: Final = 0.5
"""Factor for tensor parallelism across nodes: Narayanan et al. 2021 (arXiv 2104.04473), Figure 13, tensor 16 against 8."""
INTERLEAVED: Final = 2
"""Model chunks of a pipeline stage, which divide its bubble (Narayanan et al. 2021, section 2.2)."""
LARGER_BATCH: Final = 4.0
"""The upper end of the range assumes optimizer steps of so many times the default tokens where `batch_tokens` is not given:
Llama 3.1 405B was trained with up to 16 million (arXiv 2407.21783, section 3.4.1)."""


@dataclass(frozen=True, slots=True)
class PublishedMfu:
    """A line of the table of published utilizations; 0 accelerators or a sequence length of 0 means not published."""

    model: str
    kind: Literal["dense", "moe"]
    params: float
    accelerator: str
    precision: str
    accelerators: int
    seq_len: int
    mfu: float
    basis: str
    source: str
    as_of: str
    notes: str

    @property
    def family(self) -> str:
        """The family of the accelerator."""
        return _family(self.accelerator)


@dataclass(frozen=True, slots=True)
class BaseMfu:
    """Utilization of one class of jobs, without what count, fabric and layout do to it.

    Attributes:
        expected, low, high: Shares of the dense peak.
        basis: "published" or "assumption"; "given" where the user has set it.
        source: What it is from.
        runs: The published runs in the range.
    """

    expected: float
    low: float
    high: float
    basis: str
    source: str
    runs: tuple[PublishedMfu, ...] = ()


@dataclass(frozen=True, slots=True)
class Mfu:
    """Utilization of a job on a number of accelerators: a range, and the factors that led to it."""

    expected: float
    low: float
    high: float
    base: BaseMfu
    factors: tuple[tuple[str, float], ...] = ()


@functools.cache
def published() -> tuple[PublishedMfu, ...]:
    """Return the table of published utilizations.

    Raises:
        CatalogError: It is missing or malformed.
    """
    rows = []
    for row in _rows(PUBLISHED):
        rows.append(
            PublishedMfu(
                model=row["model"],
                kind="moe" if row["kind"] == "moe" else "dense",
                params=float(row["params"]),
                accelerator=row["accelerator"],
                precision=row["precision"],
                accelerators=int(row["accelerators"] or 0),
                seq_len=int(row["seq_len"] or 0),
                mfu=float(row["mfu"]),
                basis=row["basis"],
                source=row["source"],
                as_of=row["as_of"],
                notes=row["notes"],
            )
        )
    return tuple(rows)


def peak_tflops(accelerator: Accelerator, precision: Precision) -> float | None:
    """Return the dense peak in TFLOP/s, None where the accelerator does not have the precision or none is published.

    bf16 and fp16 stand in for each other: a V100 has no bf16, a TPU no fp16, and jobs run in the one that there is.
    """
    if precision == "fp8":
        return accelerator.fp8_tflops
    if precision == "fp32":
        return accelerator.fp32_tflops
    first, second = accelerator.bf16_tflops, accelerator.fp16_tflops
    return (first or second) if precision == "bf16" else (second or first)


@functools.lru_cache(maxsize=1024)
def base_mfu(family: str, precision: Precision, kind: Literal["dense", "moe"], seq_len: int) -> BaseMfu:
    """Return the utilization to expect of a family of accelerators, with the range of the published runs.

    The expected value is from `mfu_defaults.csv`. The range spans the published runs of the same family, precision and
    kind whose sequences are of similar length, widened by `MARGIN`, and at least `SPREAD` around the expected value.
    """
    sixteen = "bf16" if precision in ("bf16", "fp16") else precision
    expected, basis, reason = _default(family, precision, kind)
    runs = [
        run
        for run in published()
        if run.family == family
        and run.kind == kind
        and ("bf16" if run.precision == "fp16" else run.precision) == sixteen
    ]
    similar = [run for run in runs if not run.seq_len or 1 / SIMILAR_LENGTH <= run.seq_len / seq_len <= SIMILAR_LENGTH]
    runs = similar or runs
    spread = SPREAD if len(runs) >= ENOUGH_RUNS else 2 * SPREAD
    low = min([expected * (1 - spread), *(run.mfu * (1 - MARGIN) for run in runs)])
    high = min(0.9, max([expected * (1 + spread), *(run.mfu * (1 + MARGIN) for run in runs)]))
    return BaseMfu(expected, low, high, basis, reason, tuple(runs))


@functools.lru_cache(maxsize=65536)
def scale_factor(count: int) -> float:
    """Return what a number of accelerators does to the utilization: a loss for each doubling beyond 8, more beyond 512.

    0.98^log2(min(n, 512) / 8) x 0.95^log2(n / 512); see `NODE_SCALE` and `CLUSTER_SCALE`.
    """
    small = float(NODE_SCALE ** max(0.0, math.log2(min(count, LARGE) / SMALL)))
    return small * float(CLUSTER_SCALE ** max(0.0, math.log2(count / LARGE)))


def attention_factor(share: float) -> float:
    """Return what the share of attention does to the utilization: f(share) / f(0.07), at most 1.

    f(a) = 1 / (1 - a + a / 0.6): attention runs at 0.6 of the speed of the matrices; see `ATTENTION_SPEED`.
    """
    slow = 1.0 / ATTENTION_SPEED - 1.0
    return min(1.0, (1.0 + USUAL_ATTENTION * slow) / (1.0 + share * slow))


def pipeline_factor(pipeline: int, micro_batches: float) -> float:
    """Return the share of a step in which the stages of a pipeline work: 1 / (1 + (p - 1) / (v m)).

    Args:
        pipeline: P, the stages.
        micro_batches: M, micro-batches of a step in each pipeline; v is `INTERLEAVED`.

    Source: Narayanan et al. 2021 (arXiv 2104.04473), section 2.2.
    """
    return 1.0 / (1.0 + (pipeline - 1) / (INTERLEAVED * max(1.0, micro_batches)))


def batch_ranks(workload: Training | Finetuning) -> float:
    """Return how many data-parallel ranks one optimizer step can employ: its micro-batches x parts of a sequence."""
    parts = sequence_parts(workload.seq_len)
    return max(1.0, workload.step_tokens * parts / (workload.seq_len * workload.micro_batch))


def fabric_factor(nodes: int, *, fabric: bool, slices: bool) -> float:
    """Return what the network between nodes does to the utilization; 1 on one node or with an RDMA fabric."""
    if nodes == 1 or (fabric and not slices):
        return 1.0
    return SLICES if slices else NO_FABRIC


def layout_factors(
    workload: Training | Finetuning, layout: Layout, per_node: int, *, larger: float = 1.0
) -> list[tuple[str, float]]:
    """Return what the layout does to the utilization, as named factors: pipeline bubble, ranks without work, tensor split.

    Args:
        workload: The job.
        layout: How it is split.
        per_node: Accelerators of one node.
        larger: How many times the tokens of an optimizer step to assume.
    """
    ranks = batch_ranks(workload) * larger
    factors = []
    if layout.pipeline > 1:
        factors.append(("pipeline bubble", pipeline_factor(layout.pipeline, ranks / layout.data)))
    if layout.data > ranks:
        factors.append(("more data-parallel ranks than micro-batches", ranks / layout.data))
    if spans_nodes(layout.tensor, per_node, layout.accelerators):
        factors.append(("tensor parallelism across nodes", TENSOR_ACROSS_NODES))
    return factors


def workload_mfu(workload: Training | Finetuning, accelerator: Accelerator) -> BaseMfu:
    """Return the utilization of a workload before count, fabric and layout; a given one is taken as it is."""
    if workload.mfu is not None:
        return BaseMfu(workload.mfu, workload.mfu, workload.mfu, "given", "given")
    base = base_mfu(accelerator.family, workload.precision, workload.kind, workload.seq_len)
    factor = attention_factor(attention_share(workload))
    expected = base.expected * factor
    # The runs are of similar length, so only what lies around the expected value moves with it.
    return BaseMfu(expected, min(base.low, expected * (1 - SPREAD)), base.high, base.basis, base.source, base.runs)


def expected_mfu(
    workload: Training | Finetuning,
    accelerator: Accelerator,
    layout: Layout,
    *,
    nodes: int,
    per_node: int,
    fabric: bool,
) -> Mfu:
    """Return the utilization to expect, as a range, with each factor that it depends on.

    A given utilization is not changed: it is that of the complete job.

    Args:
        workload: The job.
        accelerator: What it runs on.
        layout: How it is split.
        nodes: How many nodes there are; for TPUs, slices.
        per_node: Accelerators of one node.
        fabric: Whether the nodes have an RDMA fabric.
    """
    base = workload_mfu(workload, accelerator)
    if base.basis == "given":
        return Mfu(base.expected, base.low, base.high, base)
    network = fabric_factor(nodes, fabric=fabric, slices=accelerator.kind == "tpu")
    laid_out = layout_factors(workload, layout, per_node)
    factors = [("scale", scale_factor(layout.accelerators)), ("network between nodes", network), *laid_out]
    expected = base.expected * math.prod(factor for _, factor in factors)
    # Published runs have losses of scale, so that only the network and the layout lower the ends of the range.
    low = base.low * network * math.prod(factor for _, factor in laid_out)
    larger = 1.0 if workload.batch_tokens else LARGER_BATCH
    best = network * math.prod(factor for _, factor in layout_factors(workload, layout, per_node, larger=larger))
    shown = tuple((name, factor) for name, factor in factors if factor != 1.0)
    return Mfu(expected, min(low, expected), max(base.high * best, expected), base, shown)


def _default(family: str, precision: str, kind: str) -> tuple[float, str, str]:
    sixteen = "bf16" if precision == "fp16" and family != "v100" else "fp16" if family == "v100" else precision
    for row in _default_rows():
        if row["family"] in (family, "*") and row["precision"] in (sixteen, "*") and row["kind"] == kind:
            return float(row["mfu"]), row["basis"], row["reason"]
    raise CatalogError(f"{DEFAULTS}: no line for any accelerator", hint="install multicompute again")


@functools.cache
def _default_rows() -> tuple[Mapping[str, str], ...]:
    return tuple(_rows(DEFAULTS))


def _rows(path: Path) -> Iterable[Mapping[str, str]]:
    import csv

    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CatalogError(f"{path}: can't be read: {error}", hint="install multicompute again") from error


@functools.cache
def _family(name: str) -> str:
    found = accelerators.get(name)
    return found.family if found else name
