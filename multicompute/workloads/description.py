"""The workloads that can be sized: training, fine-tuning and serving of a model."""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final, Literal, Self, cast, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from multicompute.errors import SpecError
from multicompute.workloads import architecture as shapes
from multicompute.workloads._errors import shown, spec_error
from multicompute.workloads.architecture import Architecture
from multicompute.workloads.formats import KvPrecision, Optimizer, Precision, Pruning, Quantization, Recompute
from multicompute.workloads.huggingface import read_config

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*([kmbt]?)", re.IGNORECASE)
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def parse_amount(value: object) -> object:
    """Read a number such as 70e9, "70e9", "70B" or "2T"; anything else is left for the validator to refuse."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic reports a ValueError of a validator, but not a TypeError
    if isinstance(value, str) and (match := _AMOUNT.fullmatch(value.strip())):
        value = float(match[1]) * _SCALE[match[2].lower()]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _written(kind: str) -> WithJsonSchema:
    """Return the schema of a number that may be written with a suffix or an exponent."""
    return WithJsonSchema({"anyOf": [{"type": kind}, {"type": "string", "examples": ["70B", "2e12"]}]})


Amount = Annotated[float, BeforeValidator(parse_amount), Field(gt=0, le=1e18, allow_inf_nan=False), _written("number")]
Count = Annotated[int, BeforeValidator(parse_amount), Field(ge=1, le=1_000_000_000), _written("integer")]
Share = Annotated[float, BeforeValidator(parse_amount), Field(gt=0, le=1, allow_inf_nan=False)]
Rate = Annotated[float, BeforeValidator(parse_amount), Field(ge=0, le=1e6, allow_inf_nan=False)]

_USUAL_TOKENS: Final = 2e12
"""Tokens of a run from which steps grow; see `step_tokens`."""
_FEWEST: Final = 100_000
"""Parameters: whoever gives fewer has left out "billion"."""
_TASK: Final = "What is done with the model."
FAILURES_PER_ACCELERATOR_HOUR: Final = 1 / 50_000
"""Unexpected interruptions per accelerator-hour: 419 in 54 days on 16,384 H100 (Llama Team 2024, arXiv 2407.21783, section 3.3.4)."""
RESTART_MINUTES: Final = 10.0
"""An assumption; replacing a node can take longer."""
STORAGE_GB_PER_SECOND: Final = 1.0
"""GB per second of one node. An assumption; object stores deliver 1 to 10 to a machine."""
TEXT_BYTES_PER_TOKEN: Final = 4.0
"""Bytes of raw text per token: English with a vocabulary of 32K to 128K has 3.8 to 4.4 (Llama Team 2024, arXiv 2407.21783,
section 3.2: 3.94 characters per token)."""


class Workload(BaseModel):
    """The fields that all workloads share: the model and the precision. Use Training, Finetuning or Inference.

    Numbers may also be text with a suffix, as in files and on the command line: "70B", "2T", "405e9".

    Raises:
        SpecError: A value is not of its kind, or two contradict each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, defer_build=True)

    task: Annotated[str, Field(description=_TASK)]
    params: Annotated[
        Amount | None,
        Field(description="Parameters of the model, all experts included; derived from the shape if omitted."),
    ] = None
    active_params: Annotated[
        Amount | None, Field(description="Parameters that one token passes through, for a mixture of experts.")
    ] = None
    layers: Annotated[Count | None, Field(description="Transformer layers.")] = None
    hidden: Annotated[Count | None, Field(description="Hidden size.")] = None
    heads: Annotated[Count | None, Field(description="Query heads.")] = None
    kv_heads: Annotated[Count | None, Field(description="Key-value heads (grouped-query attention).")] = None
    head_dim: Annotated[Count | None, Field(description="Size of one head; hidden / heads if omitted.")] = None
    vocab: Annotated[Count | None, Field(description="Size of the vocabulary.")] = None
    kv_lora_rank: Annotated[
        Count | None, Field(description="Rank of the latent key-value projection (multi-head latent attention).")
    ] = None
    sliding_window: Annotated[
        Count | None, Field(description="Tokens that every layer attends to at most; all if omitted.")
    ] = None
    tied_embeddings: Annotated[
        bool | None, Field(description="Whether input and output embedding are one matrix; not known if omitted.")
    ] = None
    config: Annotated[
        Architecture | None,
        WithJsonSchema({"type": ["string", "object", "null"]}),
        Field(description="The config.json of a Hugging Face model, as its path or its content."),
    ] = None
    precision: Annotated[
        Precision, Field(description="Precision of the multiplications; MFU refers to its dense peak.")
    ] = "bf16"
    mfu: Annotated[
        Share | None,
        Field(
            description="Model FLOPs utilization, as a share of the dense peak; estimated from published runs if omitted."
        ),
    ] = None
    sparsity: Annotated[
        float,
        BeforeValidator(parse_amount),
        Field(ge=0, lt=1, description="Share of the weights that pruning removed."),
    ] = 0.0
    pruning: Annotated[
        Pruning,
        Field(
            description="What was pruned: rows, heads or layers (structured), two of four weights (2:4) or single ones (unstructured)."
        ),
    ] = "structured"

    def __init__(self, **arguments: Any) -> None:
        """Check the arguments; a SpecError names the first that is wrong."""
        try:
            super().__init__(**arguments)
        except ValidationError as error:
            raise spec_error(error, type(self)) from error

    @classmethod
    def model_validate(cls, obj: Any, **settings: Any) -> Self:
        """Return `obj` if it is a workload of this class, or else one from a mapping of arguments.

        Raises:
            SpecError: As for the class itself.
        """
        return obj if isinstance(obj, cls) else cls(**obj)

    @field_validator("config", mode="before")
    @classmethod
    def _read_config(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.keys() >= {"layers", "hidden", "v_head_dim"}:
            return Architecture.of(value)
        return value if value is None or isinstance(value, Architecture) else read_config(value)

    @model_serializer
    def _arguments(self) -> dict[str, Any]:
        # Without defaults: two jobs are the same whether a default was written or not.
        given = {
            name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            if getattr(self, name) != field.default
        }
        given |= {"config": asdict(self.config)} if self.config is not None else {}
        return {"task": self.task, **given}

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if self.params is None and self.config is None and (self.layers is None or self.hidden is None):
            raise SpecError(
                "params: missing; write the parameters of the model, such as params=70e9, or config='config.json'",
                hint="or give layers and hidden",
            )
        if self.params is not None and self.params < _FEWEST:
            raise SpecError(f'params={self.params:g}: no language model has so few; write 70e9 or "70B" for 70 billion')
        if self.active_params is not None and self.active_params > self.total_params:
            raise SpecError(f"active_params={self.active_params:g}: must be at most params={self.total_params:g}")
        if self.pruning == "2:4" and self.sparsity not in (0.0, 0.5):
            raise SpecError(f"sparsity={self.sparsity:g}: must be 0.5 with pruning='2:4'")
        shapes.check(self.shape)
        return self

    @cached_property
    def shape(self) -> Architecture:
        """The shape of the model: from `config`, with the fields of the workload in their place, or else guessed."""
        if self.config is not None:
            given = {
                name: getattr(self, name) for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "vocab")
            }
            shape = replace(self.config, **{name: value for name, value in given.items() if value is not None})
        else:
            shape = shapes.guess(
                self.params or self._params_of_shape(),
                active_params=self.active_params,
                layers=self.layers,
                hidden=self.hidden,
                heads=self.heads,
                kv_heads=self.kv_heads,
                head_dim=self.head_dim,
                vocab=self.vocab,
                kv_lora_rank=self.kv_lora_rank,
                gated=self._gated,
            )
        if self.sliding_window is not None:
            shape = replace(shape, window=self.sliding_window, window_layers=shape.layers)
        return shape if self.tied_embeddings is None else replace(shape, tied=self.tied_embeddings)

    @property
    def _gated(self) -> bool | None:
        return None

    def _params_of_shape(self) -> float:
        assert self.layers is not None and self.hidden is not None
        return 12.0 * self.layers * self.hidden**2 + (self.vocab or shapes.VOCAB) * self.hidden

    @cached_property
    def total_params(self) -> float:
        """All parameters that are left after structured pruning."""
        if self.params is not None:
            return self.params * self._kept
        counted = shapes.parameter_count(self.shape) if self.config else self._params_of_shape()
        return counted * self._kept

    @cached_property
    def used_params(self) -> float:
        """The parameters that one token passes through, after structured pruning."""
        if self.active_params is not None:
            return self.active_params * self._kept
        if self.config is not None and self.config.experts:
            counted = shapes.parameter_count(self.shape)
            return self.total_params * shapes.active_parameter_count(self.shape) / counted
        return self.total_params

    @property
    def multiplying_params(self) -> float:
        """The parameters that cost FLOPs: without the input embedding where it is known to be a matrix of its own."""
        return self.used_params - (self.shape.embedding_params if self.shape.tied is False else 0)

    @property
    def _kept(self) -> float:
        return 1.0 - self.sparsity if self.pruning == "structured" else 1.0

    @property
    def kind(self) -> Literal["dense", "moe"]:
        """Return "dense" if every token passes through all parameters, else "moe"."""
        return "moe" if self.used_params < self.total_params else "dense"

    def __str__(self) -> str:
        """Return the job in half a line: "training of 70B parameters on 2,000B tokens"."""
        params = f"{_billions(self.total_params)} parameters"
        if self.kind == "moe":
            params += f" ({_billions(self.used_params)} active)"
        return f"{self.task} of {params}{self._extent}"

    @property
    def _extent(self) -> str:
        return ""

    @property
    def assumed(self) -> tuple[str, ...]:
        """The fields of the shape that were guessed."""
        return self.shape.assumed

    def to_dict(self) -> dict[str, object]:
        """Return all fields that have a value, and the shape that is used, in JSON terms."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "config"}
        shape = {name: value for name, value in asdict(self.shape).items() if name != "assumed"}
        return {
            **{name: value for name, value in fields.items() if value is not None},
            "params": self.total_params,
            "active_params": self.used_params,
            "architecture": shape,
            "assumed": list(self.assumed),
        }


def _billions(amount: float) -> str:
    """Return an amount as "70B" or "200,000B"."""
    billions = amount / 1e9
    return f"{billions:,.0f}B" if billions >= 1000 else f"{billions:.4g}B"


class _Trained(Workload):
    """The fields that training and fine-tuning share."""

    tokens: Annotated[Amount, Field(description="Tokens that the model is trained on, repeats counted.")]
    seq_len: Annotated[Count, Field(description="Tokens of one sequence.")] = 4096
    micro_batch: Annotated[
        Count, Field(description="Sequences in one forward and backward pass of a data-parallel rank.")
    ] = 1
    batch_tokens: Annotated[
        Amount | None,
        Field(
            description="Tokens of one optimizer step; if omitted, 4 million for training, more beyond 2T tokens, and 0.5 million for fine-tuning."
        ),
    ] = None
    optimizer: Annotated[
        Optimizer, Field(description="Optimizer; adamw8bit keeps 8-bit moments, sgd keeps momentum.")
    ] = "adamw"
    recompute: Annotated[
        Recompute,
        Field(
            description="Which activations the backward pass computes again: none, those of attention (selective) or all (full)."
        ),
    ] = "selective"
    zero: Annotated[
        Literal[0, 1, 2, 3],
        BeforeValidator(parse_amount),
        Field(
            description="ZeRO stage: 1 shards the optimizer over data-parallel ranks, 2 also gradients, 3 also weights (FSDP)."
        ),
    ] = 1
    master_weights: Annotated[bool, Field(description="Keep an fp32 copy of the weights in mixed precision.")] = True
    flash_attention: Annotated[
        bool | None,
        Field(description="Whether recompute='none' keeps no attention scores; if omitted, only in fine-tuning."),
    ] = None
    preemptions_per_day: Annotated[
        Rate | None,
        Field(
            description="Preemptions of one spot node per day; the rate that the cloud publishes if omitted, else 0.2."
        ),
    ] = None
    failures_per_accelerator_hour: Annotated[
        Rate, Field(description="Failures of hardware that stop the job, per accelerator-hour.")
    ] = FAILURES_PER_ACCELERATOR_HOUR
    restart_minutes: Annotated[
        Rate, Field(description="Minutes from an interruption until the job makes progress again.")
    ] = RESTART_MINUTES
    storage_gb_per_second: Annotated[
        Amount, Field(description="GB per second that one node reads from and writes to the storage.")
    ] = STORAGE_GB_PER_SECOND
    bytes_per_token: Annotated[
        Amount,
        Field(description="Bytes of the data for one token; raw text if omitted, images take thousands of times more."),
    ] = TEXT_BYTES_PER_TOKEN

    _BATCH_TOKENS: ClassVar[float] = 4e6

    @property
    def _extent(self) -> str:
        return f" on {_billions(self.tokens)} tokens"

    @property
    def keeps_scores(self) -> bool:
        """Return whether the attention scores are kept for the backward pass."""
        return self.recompute == "none" and not self.flash_attention

    @property
    def step_tokens(self) -> float:
        """Tokens of one optimizer step.

        If they are not given, 4 million, and more for more than 2T tokens: 4M (tokens / 2T)^(1/2). Llama 2 took 4M for 2T (arXiv
        2307.09288, section 2.2), Llama 3.1 405B up to 16M for 15.6T (arXiv 2407.21783, section 3.4.1), DeepSeek-V3 63M for 14.8T
        (arXiv 2412.19437, section 4.2).
        """
        usual = self._BATCH_TOKENS * max(1.0, (self.tokens / _USUAL_TOKENS) ** 0.5)
        return self.batch_tokens or max(usual, float(self.seq_len * self.micro_batch))


class Training(_Trained):
    """A pre-training run, dense or a mixture of experts.

    Example:
        >>> job = Training(params=70e9, tokens=2e12, seq_len=4096)
        >>> job.shape.layers, job.kind
        (71, 'dense')
    """

    task: Annotated[Literal["training"], Field(description=_TASK)] = "training"


class Finetuning(_Trained):
    """A fine-tuning run of all parameters, or of adapters on frozen ones.

    Example:
        >>> Finetuning(params=8e9, tokens=1e9, method="qlora", rank=64).adapter_params > 1e8
        True
    """

    task: Annotated[Literal["finetuning"], Field(description=_TASK)] = "finetuning"

    method: Annotated[
        Literal["full", "lora", "qlora"],
        Field(
            description="What is trained: all parameters (full), adapters on 16-bit weights (lora) or on 4-bit weights (qlora)."
        ),
    ] = "full"
    rank: Annotated[Count, Field(description="Rank of the adapters, which are on every linear layer.")] = 16
    quantization: Annotated[
        Quantization | None, Field(description="Format of the frozen weights with method='qlora'; nf4 if omitted.")
    ] = None

    _BATCH_TOKENS: ClassVar[float] = 0.5e6

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if self.quantization is not None and self.method != "qlora":
            raise SpecError(f"quantization={self.quantization!r}: goes with method='qlora', whose weights are frozen")
        if self.method == "full" and "rank" in self.model_fields_set:
            raise SpecError(f"rank={self.rank}: goes with method='lora' or 'qlora', which train adapters")
        return self

    @property
    def frozen_format(self) -> Quantization:
        """The format of the frozen weights with qlora."""
        return self.quantization or "nf4"

    @property
    def _gated(self) -> bool | None:
        # Open models that are fine-tuned have a gate; only what its configuration shows to be otherwise has none.
        return True

    @property
    def keeps_scores(self) -> bool:
        """Return whether the attention scores are kept; libraries for fine-tuning use fused attention, which keeps none."""
        return self.recompute == "none" and self.flash_attention is False

    @cached_property
    def adapter_params(self) -> float:
        """Parameters of the adapters: r (d_in + d_out) for each linear layer (Hu et al. 2021, arXiv 2106.09685, section 4.1)."""
        if self.method == "full":
            return 0.0
        shape = self.shape
        h, q, kv = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        attention = (h + q) + 2 * (h + kv) + (shape.heads * shape.v_head_dim + h)
        mlp = shape.mlp_matrices * (h + shape.active_ffn)
        return float(self.rank * shape.layers * (attention + mlp))


class Inference(Workload):
    """A model that is served.

    Example:
        >>> Inference(params=70e9, context=8192, concurrency=64, quantization="fp8").cached_tokens
        524288
    """

    task: Annotated[Literal["inference"], Field(description=_TASK)] = "inference"

    context: Annotated[Count, Field(description="Tokens of one request, prompt and answer together.")] = 8192
    concurrency: Annotated[Count, Field(description="Requests that are served at the same time.")] = 1
    output_tokens: Annotated[
        Count | None, Field(description="Tokens of an answer; if omitted, throughput counts no time for the prompt.")
    ] = None
    tokens: Annotated[
        Amount | None, Field(description="Tokens to generate in all; if omitted, the model is served for a time.")
    ] = None
    tokens_per_second: Annotated[
        Amount | None, Field(description="Tokens that are to be generated per second in all.")
    ] = None
    quantization: Annotated[
        Quantization | None,
        Field(
            description="Format of the weights of linear layers; if omitted, as published (config), else as precision."
        ),
    ] = None
    kv_precision: Annotated[KvPrecision, Field(description="Format of the KV cache.")] = "bf16"

    @model_validator(mode="after")
    def _check_output(self) -> Self:
        if self.output_tokens is not None and self.output_tokens > self.context:
            raise SpecError(f"output_tokens={self.output_tokens}: must be at most context={self.context}")
        return self

    @property
    def _extent(self) -> str:
        return f", {self.concurrency:,} x {self.context:,} tokens"

    @property
    def weight_format(self) -> Quantization | None:
        """The format of the weights: the requested one, or else the published one in the configuration."""
        stored = self.shape.stored if self.precision in ("bf16", "fp16") else ""
        return self.quantization or (cast("Quantization", stored) if stored in get_args(Quantization) else None)

    @property
    def cached_tokens(self) -> int:
        """Tokens in the KV cache when all requests are at their full length."""
        return self.context * self.concurrency


AnyWorkload = Training | Finetuning | Inference

WORKLOADS: Final[Mapping[str, type[AnyWorkload]]] = {
    "training": Training,
    "finetuning": Finetuning,
    "inference": Inference,
}
"""Task -> its class."""


def workload_of(value: object) -> AnyWorkload:
    """Return a workload from itself or from a mapping of its arguments, with the task among them.

    Raises:
        SpecError: It is neither, the task is missing or unknown, or an argument is wrong.
    """
    if isinstance(value, AnyWorkload):
        return value
    if not isinstance(value, Mapping):
        raise SpecError(
            f"workload={shown(value)}: must be a workload, such as Training(params=70e9, tokens=2e12)",
            hint="import Training, Finetuning or Inference from multicompute.sizing",
        )
    kind = WORKLOADS.get(str(value.get("task", "")))
    if kind is None:
        found = f"task={shown(value['task'])}: no such task" if "task" in value else "task: missing"
        raise SpecError(f"workload: {found}; one of {', '.join(WORKLOADS)}")
    return kind(**{str(name): argument for name, argument in value.items()})
