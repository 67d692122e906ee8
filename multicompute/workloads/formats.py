"""The bytes of a parameter and of a cached value in each precision, optimizer and quantization."""

from dataclasses import dataclass
from typing import Final, Literal

Precision = Literal["bf16", "fp16", "fp8", "fp32"]
Optimizer = Literal["adamw", "adamw8bit", "adafactor", "sgd", "lion"]
Recompute = Literal["none", "selective", "full"]
Quantization = Literal["int8", "fp8", "int4", "nf4", "mxfp4"]
KvPrecision = Literal["bf16", "fp16", "fp32", "fp8", "int8", "int4"]
Pruning = Literal["structured", "2:4", "unstructured"]

COMPUTE_BYTES: Final[dict[str, float]] = {"bf16": 2.0, "fp16": 2.0, "fp8": 2.0, "fp32": 4.0}
"""Bytes of a trained weight, a gradient or an activation. FP8 training with Transformer Engine keeps 16-bit weights and
casts for the multiplication (Transformer Engine user guide, "Using FP8 with Transformer Engine")."""

MASTER_BYTES: Final = 4.0
"""The fp32 copy of the weights in mixed precision (ZeRO, arXiv 1910.02054, section 3.1)."""

MOMENT_BYTES: Final[dict[str, float]] = {"adamw": 8.0, "adamw8bit": 2.0, "adafactor": 0.0, "sgd": 4.0, "lion": 4.0}
"""Optimizer state per parameter: two fp32 moments (ZeRO, section 3.1), two 8-bit moments (Dettmers et al. 2021, arXiv
2110.02861), rows and columns only (Shazeer and Stern 2018, arXiv 1804.04235: about 0), one fp32 momentum."""

QUANTIZED_BYTES: Final[dict[str, float]] = {
    # One byte; scales per channel are below 0.1 %.
    "int8": 1.0,
    "fp8": 1.0,
    # Groups of 128 with a 16-bit scale and a 4-bit zero point (GPTQ, arXiv 2210.17323; AWQ, arXiv 2306.00978).
    "int4": 0.5 + 20 / 8 / 128,
    # Blocks of 64 with double quantisation: 4.127 bits (QLoRA, arXiv 2305.14314, section 3).
    "nf4": 4.127 / 8,
    # Blocks of 32 with an 8-bit scale (OCP Microscaling Formats Specification 1.0, section 5).
    "mxfp4": 4.25 / 8,
}
"""Bytes of a quantized weight of a linear layer, scales included. Embeddings stay in 16 bits."""

CACHE_BYTES: Final[dict[str, float]] = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}
"""Bytes of one value in the KV cache."""


@dataclass(frozen=True, slots=True)
class StateBytes:
    """Bytes per trained parameter.

    Attributes:
        weights: The weights that the multiplications use.
        gradients: Their gradients.
        optimizer: The fp32 master copy, where there is one, and the optimizer's state.
    """

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.weights + self.gradients + self.optimizer


def state_bytes(precision: Precision, optimizer: Optimizer, *, master_weights: bool) -> StateBytes:
    """Return the bytes per trained parameter.

    Mixed precision with AdamW takes 2 + 2 + (4 + 8) = 16 bytes, fp32 4 + 4 + 8 = 16, pure 16-bit without a master copy
    2 + 2 + 4 = 8.

    Args:
        precision: Of the multiplications.
        optimizer: Of the training.
        master_weights: Whether mixed precision keeps an fp32 copy of the weights; without one the moments are 16-bit.

    Source: Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054), section 3.1.
    """
    compute = COMPUTE_BYTES[precision]
    moments = MOMENT_BYTES[optimizer]
    if precision == "fp32":
        return StateBytes(compute, compute, moments)
    if master_weights:
        return StateBytes(compute, compute, MASTER_BYTES + moments)
    return StateBytes(compute, compute, moments if optimizer == "adamw8bit" else moments / 2)


def inference_bytes(precision: Precision, quantization: Quantization | None) -> float:
    """Return the bytes of one weight of a linear layer when a model is served; an fp8 model has 8-bit weights."""
    if quantization is not None:
        return QUANTIZED_BYTES[quantization]
    return 1.0 if precision == "fp8" else COMPUTE_BYTES[precision]


def pruned_share(weight_bytes: float, sparsity: float, pruning: Pruning) -> float:
    """Return the share of the bytes of a weight matrix that pruning leaves.

    - structured: rows, heads or layers are gone: 1 - s.
    - 2:4: half of the values and 2 bits of position for each that is left: (1/2) (1 + 1 / (4 bytes)), whatever s.
    - unstructured: the values that are left and a bit map: 1 - s + 1 / (8 bytes), never more than the dense matrix.

    Args:
        weight_bytes: Bytes of one weight.
        sparsity: Share s of the weights that is gone.
        pruning: Which pattern.

    Source: Mishra et al. 2021 (arXiv 2104.08378), section 3, for 2:4.
    """
    if not sparsity:
        return 1.0
    if pruning == "structured":
        return 1.0 - sparsity
    if pruning == "2:4":
        return 0.5 * (1.0 + 2 / 8 / weight_bytes)
    return min(1.0, 1.0 - sparsity + 1 / 8 / weight_bytes)
