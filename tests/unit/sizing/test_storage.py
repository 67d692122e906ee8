"""Checkpoints, data, and whether storage holds a job up."""

import pytest

from multicompute.sizing import Finetuning, Training
from multicompute.sizing.storage import checkpoint_bytes, loading_check, storage_needs


def test_a_checkpoint_of_bloom_is_as_large_as_published() -> None:
    # BigScience 2022 (arXiv 2211.05100), section 3.4: 2.3 TB with optimizer, 329 GiB of weights.
    needs = storage_needs(Training(params=176.247e9, tokens=366e9, vocab=250880))
    assert needs.checkpoint_bytes / 1e12 == pytest.approx(2.3, rel=0.1)
    assert needs.weights_bytes / 2**30 == pytest.approx(329, abs=1)
    assert needs.checkpoints_bytes == 3 * needs.checkpoint_bytes


def test_tokens_take_two_bytes_or_four() -> None:
    assert storage_needs(Training(params=7e9, tokens=1e12, vocab=32000)).data_bytes == 2e12
    assert storage_needs(Training(params=8e9, tokens=1e12, vocab=128256)).data_bytes == 4e12


def test_adapters_are_all_that_is_saved_of_a_fine_tuned_model() -> None:
    job = Finetuning(params=70e9, tokens=1e9, method="lora")
    assert checkpoint_bytes(job) == 14 * job.adapter_params


def test_text_never_holds_a_job_up_but_images_may() -> None:
    job = Training(params=70e9, tokens=1e12)
    text = loading_check(job, tokens_per_second=400_000, nodes=64)
    assert not text.is_bound
    images = loading_check(
        Training(params=70e9, tokens=1e12, bytes_per_token=10_000), tokens_per_second=400_000, nodes=1
    )
    assert images.is_bound
    assert images.needed_bytes_per_second == 4e9
