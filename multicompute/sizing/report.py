"""The figures of a workload on one accelerator: FLOPs, memory, the smallest count that fits, time and storage."""

from dataclasses import dataclass
from typing import Final, get_args

from multicompute import accelerators, aliases
from multicompute.accelerators import Accelerator
from multicompute.errors import SpecError
from multicompute.sizing.memory import GIB, Layout
from multicompute.sizing.mfu import BaseMfu, Mfu, expected_mfu, peak_tflops, workload_mfu
from multicompute.sizing.options import JobOptions
from multicompute.sizing.performance import Job
from multicompute.sizing.serving import BANDWIDTH_SHARE, COMPILED_SHARE, EAGER_SHARE, Throughput, throughput
from multicompute.sizing.storage import LoadingCheck, StorageNeeds, loading_check, storage_needs
from multicompute.workloads.description import Finetuning, Inference, Training, Workload
from multicompute.workloads.formats import Precision

USUAL: Final = "h100"
"""The accelerator where none is named."""
USUAL_NODE: Final = 8
"""Accelerators of a node where no machine is named: boards with H100, MI300X or TPU v5e have eight."""


@dataclass(frozen=True, slots=True, repr=False)
class Sizing:
    """A workload on one accelerator.

    Attributes:
        job: The workload, with its FLOPs and memory.
        accelerator: What it runs on.
        peak: Dense peak of one accelerator in FLOP/s.
        min_accelerators: Smallest count on which one copy of the model fits; None if none does.
        count: How many accelerators the other figures are for: those that were asked for, else `min_accelerators`.
        per_node: Accelerators of one node.
        layout: How the job is split over `count`, of a served model one replica.
        fits: Whether it fits on `count`.
        mfu: Share of the peak, as a range: on `count` if it was asked for, else before what count and layout take.
    """

    job: Job
    accelerator: Accelerator
    peak: float
    min_accelerators: int | None
    count: int
    per_node: int
    layout: Layout
    fits: bool
    mfu: Mfu

    def __repr__(self) -> str:
        """Return the workload and the accelerator."""
        return f"<Sizing {self.workload} on {self.count:,} x {self.accelerator.name}>"

    @property
    def workload(self) -> Workload:
        """The workload that was sized."""
        return self.job.workload

    @property
    def accelerator_hours(self) -> float:
        """Hours of one accelerator: C / (v MFU x 3600)."""
        return self.job.flops / (self.peak * self.mfu.expected * 3600)

    @property
    def per_accelerator(self) -> float:
        """Bytes on the fullest of `count` accelerators."""
        return self.job.footprint.per_accelerator(self.layout)

    @property
    def tokens_per_second(self) -> float:
        """Tokens that all accelerators train on, or generate, in a second."""
        if isinstance(self.workload, Inference):
            return self.count // self.layout.accelerators * self.replica.tokens_per_second
        assert isinstance(self.workload, (Training, Finetuning))
        return self.workload.tokens * self.count / (self.accelerator_hours * 3600)

    @property
    def replica(self) -> Throughput:
        """The throughput and latency of a replica of a served model."""
        assert isinstance(self.workload, Inference)
        return throughput(self.workload, self.accelerator, self.layout)

    @property
    def storage(self) -> StorageNeeds:
        """The data that a training run stores and reads."""
        assert isinstance(self.workload, (Training, Finetuning))
        return storage_needs(self.workload)

    @property
    def loading(self) -> LoadingCheck:
        """Compare the rate of the storage with the rate at which `count` accelerators take tokens."""
        assert isinstance(self.workload, (Training, Finetuning))
        nodes = -(-self.count // self.per_node)
        return loading_check(self.workload, tokens_per_second=self.tokens_per_second, nodes=nodes)

    def to_dict(self, plan: JobOptions | None = None) -> dict[str, object]:
        """Return the JSON form that the command line prints, with the options of `plan`."""
        return {
            "workload": self.workload.to_dict(),
            "flops": self.job.flops,
            "accelerator": self.accelerator.name,
            "accelerator_hours": self.accelerator_hours,
            "mfu": {
                "expected": self.mfu.expected,
                "low": self.mfu.low,
                "high": self.mfu.high,
                "basis": self.mfu.base.basis,
            },
            "memory": {**self.job.footprint.to_dict(), "per_accelerator_gib": self.per_accelerator / GIB},
            "min_accelerators": self.min_accelerators,
            **self._throughput_or_storage(),
            "options": [option.to_dict() for option in plan.options] if plan else [],
            "pareto": list(plan.pareto) if plan else [],
        }

    def _throughput_or_storage(self) -> dict[str, object]:
        if isinstance(self.workload, Inference):
            replica = self.replica
            throughput = {
                "tokens_per_second": self.tokens_per_second,
                "replicas": self.count // self.layout.accelerators,
                "decode_step_seconds": replica.decode_step_seconds,
                "prefill_seconds": replica.prefill_seconds,
                "bound_by": "memory bandwidth" if replica.is_bandwidth_bound else "arithmetic",
            }
            return {"throughput": throughput}
        needs, loading = self.storage, self.loading
        storage = {
            "checkpoint_gib": needs.checkpoint_bytes / GIB,
            "checkpoints_gib": needs.checkpoints_bytes / GIB,
            "data_gib": needs.source_bytes / GIB,
            "needed_gb_per_second": loading.needed_bytes_per_second / 1e9,
            "available_gb_per_second": loading.available_bytes_per_second / 1e9,
            "bounds_data_loading": loading.is_bound,
        }
        return {"storage": storage}


def size(
    workload: Workload, accelerator: str | Accelerator = USUAL, *, gpus: int | None = None, per_node: int | None = None
) -> Sizing:
    """Size a workload on one accelerator, whatever machine it is in.

    Args:
        workload: The job.
        accelerator: Its name; of a family the first one is taken.
        gpus: How many accelerators; the smallest count that fits if omitted.
        per_node: Accelerators of one node, within which tensor parallelism is free; if omitted, `USUAL_NODE`, and all of
            them for a TPU, whose slice is one domain.

    Raises:
        SpecError: The accelerator is unknown, or has no published peak in the precision of the workload.
    """
    model = find_accelerator(accelerator)
    peak = peak_tflops(model, workload.precision)
    if not peak or not model.mem_bandwidth_gbps:
        known = [precision for precision in get_args(Precision) if peak_tflops(model, precision)]
        raise SpecError(
            f"type={model.name!r}: no dense peak in {workload.precision} is published",
            hint=f"published are {', '.join(known)}" if known else "name another accelerator",
        )
    job = Job(workload)
    least = job.min_accelerators(model.memory_gib)
    count = gpus or least or 1
    per_node = per_node or (count if model.kind == "tpu" else USUAL_NODE)
    # Of a served model, more accelerators than one replica takes are more replicas.
    split = min(count, least or count) if isinstance(workload, Inference) else count
    layout = job.layout(split, model.memory_gib, per_node)
    shown = layout or job.tightest(split, per_node)
    mfu = _mfu(workload, model, shown, count=gpus, per_node=per_node)
    return Sizing(job, model, peak * 1e12, least, count, per_node, shown, layout is not None, mfu)


def _mfu(workload: Workload, model: Accelerator, layout: Layout, *, count: int | None, per_node: int) -> Mfu:
    if isinstance(workload, (Training, Finetuning)):
        if count is None:
            # The smallest count that fits is seldom one to run the job on, such as 18 accelerators in nodes of eight.
            base = workload_mfu(workload, model)
            return Mfu(base.expected, base.low, base.high, base)
        nodes = -(-count // per_node)
        return expected_mfu(workload, model, layout, nodes=nodes, per_node=per_node, fabric=True)
    assert isinstance(workload, Inference)
    if workload.mfu is not None:
        return Mfu(
            workload.mfu,
            workload.mfu,
            workload.mfu,
            BaseMfu(workload.mfu, workload.mfu, workload.mfu, "given", "given"),
        )
    used = throughput(workload, model, layout).mfu
    low, high = used * EAGER_SHARE / BANDWIDTH_SHARE, used * COMPILED_SHARE / BANDWIDTH_SHARE
    return Mfu(
        used, low, high, BaseMfu(used, low, high, "published", "roofline of decode, from eager to compiled kernels")
    )


def find_accelerator(accelerator: str | Accelerator) -> Accelerator:
    """Return the accelerator of a name, of a family the first one.

    Raises:
        SpecError: The name is unknown; carries the nearest known ones.
    """
    if isinstance(accelerator, Accelerator):
        return accelerator
    if found := aliases.find_accelerators(accelerator):
        return found[0]
    near = accelerators.suggest(accelerator)
    hint = f"did you mean {' or '.join(near)}?" if near else "`multicompute offers` lists all types"
    raise SpecError(f"type={accelerator!r}: no such accelerator; {hint}", hint=hint)
