"""Storage of a job: checkpoints, tokens, and whether reading the tokens holds the accelerators up."""

from dataclasses import dataclass
from typing import Final

from multicompute.workloads.description import Finetuning, Training
from multicompute.workloads.formats import state_bytes

KEPT_CHECKPOINTS: Final = 3
"""Checkpoints that are kept. An assumption: the last two, and one that is being written."""


@dataclass(frozen=True, slots=True)
class StorageNeeds:
    """The data that a job stores and reads.

    Attributes:
        checkpoint_bytes: One checkpoint with everything that is needed to go on.
        weights_bytes: The weights alone, as they are published.
        checkpoints_bytes: All checkpoints that are kept at the same time.
        data_bytes: The tokens as numbers.
        source_bytes: The data as it is stored, with `bytes_per_token`.
    """

    checkpoint_bytes: float
    weights_bytes: float
    checkpoints_bytes: float
    data_bytes: float
    source_bytes: float


@dataclass(frozen=True, slots=True)
class LoadingCheck:
    """A comparison of the rate of the storage with the rate at which the accelerators take tokens.

    Attributes:
        needed_bytes_per_second: Tokens per second x bytes per token.
        available_bytes_per_second: Nodes x what one node reads.
    """

    needed_bytes_per_second: float
    available_bytes_per_second: float

    @property
    def is_bound(self) -> bool:
        """Return whether the storage holds the job up."""
        return self.needed_bytes_per_second > self.available_bytes_per_second


def checkpoint_bytes(workload: Training | Finetuning) -> float:
    """Return the bytes of one checkpoint: weights, master copy and optimizer of what is trained, no gradients.

    14 bytes per parameter with mixed precision and AdamW. BLOOM 176B wrote 2.3 TB, 13 bytes (BigScience 2022, arXiv
    2211.05100, section 3.4). With adapters, only they are saved.
    """
    states = state_bytes(workload.precision, workload.optimizer, master_weights=workload.master_weights)
    trained = workload.total_params
    if isinstance(workload, Finetuning) and workload.method != "full":
        trained = workload.adapter_params
    return trained * (states.weights + states.optimizer)


def token_bytes(vocab: int) -> int:
    """Return the bytes of a token as a number: 2 for a vocabulary of up to 65,536, else 4."""
    return 2 if vocab <= 65_536 else 4


def storage_needs(workload: Training | Finetuning) -> StorageNeeds:
    """Return what a job keeps and reads; tokens that are read more than once are counted each time."""
    checkpoint = checkpoint_bytes(workload)
    return StorageNeeds(
        checkpoint_bytes=checkpoint,
        weights_bytes=2.0 * workload.total_params,
        checkpoints_bytes=KEPT_CHECKPOINTS * checkpoint,
        data_bytes=workload.tokens * token_bytes(workload.shape.vocab),
        source_bytes=workload.tokens * workload.bytes_per_token,
    )


def loading_check(workload: Training | Finetuning, *, tokens_per_second: float, nodes: int) -> LoadingCheck:
    """Compare what the job reads with what the storage delivers.

    Args:
        workload: The job, which has the bytes of a token and what one node reads in a second.
        tokens_per_second: What all accelerators train on together.
        nodes: Machines that read.
    """
    needed = tokens_per_second * workload.bytes_per_token
    return LoadingCheck(needed, nodes * workload.storage_gb_per_second * 1e9)
