"""The descriptions of AWS's services that botocore contains, read once per process."""

import functools
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import botocore.loaders


@functools.cache
def descriptions() -> botocore.loaders.Loader:
    """Return a loader that keeps what it has read: EC2's description takes 60 ms, and tests open many providers."""
    return botocore.loaders.create_loader()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector: a description is 200,000 objects, none of them garbage, that it would walk repeatedly."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
