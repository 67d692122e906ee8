"""Storage of a job: checkpoints, tokens, and whether reading the tokens holds the accelerators up."""

from dataclasses import dataclass
from typing import Final

from multicompute.sizing.formats import state_bytes
from multicompute.sizing.workload import Finetuning, Training

KEPT_CHECKPOINTS: Final = 3
"""Checkpoints that are kept. An assumption: the last two, and one that is being written."""
TEXT_BYTES_PER_TOKEN: Final = 4.0
"""Bytes of raw text per token: English with a vocabulary of 32K to 128K has 3.8 to 4.4 (Llama Team 2024, arXiv 2407.21783,
section 3.2: 3.94 characters per token)."""
READ_GB_PER_SECOND: Final = 1.0
"""The rate at which a node reads from the storage. An assumption; object stores deliver 1 to 10 GB/s to a machine."""


@dataclass(frozen=True, slots=True)
class StorageNeeds:
    """The data that a job stores and reads.

    Attributes:
        checkpoint_bytes: One checkpoint with everything that is needed to go on.
        weights_bytes: The weights alone, as they are published.
        checkpoints_bytes: All checkpoints that are kept at the same time.
        data_bytes: The tokens as numbers.
        text_bytes: The same as raw text, about.
    """

    checkpoint_bytes: float
    weights_bytes: float
    checkpoints_bytes: float
    data_bytes: float
    text_bytes: float


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
        text_bytes=workload.tokens * TEXT_BYTES_PER_TOKEN,
    )


def loading_check(
    workload: Training | Finetuning,
    *,
    tokens_per_second: float,
    nodes: int,
    read_gb_per_second: float = READ_GB_PER_SECOND,
    bytes_per_token: float = TEXT_BYTES_PER_TOKEN,
) -> LoadingCheck:
    """Compare what the job reads with what the storage delivers.

    Args:
        workload: The job.
        tokens_per_second: What all accelerators train on together.
        nodes: Machines that read.
        read_gb_per_second: What one node reads, in GB per second.
        bytes_per_token: Of the stored form; raw text by default. Images and video take thousands of times more.
    """
    return LoadingCheck(tokens_per_second * bytes_per_token, nodes * read_gb_per_second * 1e9)
