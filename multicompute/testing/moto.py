"""Completes a test's own moto, so that clusters can be requested in it.

`python -m multicompute.testing.moto -p 5000` takes the arguments of `moto_server`, and runs a completed one.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from multicompute.config import apply_environment
from multicompute.errors import SpecError
from multicompute.testing.local.clouds import empty_configuration, local_cloud_of

__all__ = ["complete_moto"]

# The SDK that moto replaces. The local cloud of a provider that uses it may have a method `completed_moto`.
_SDK: Final = "boto3"


@contextmanager
def complete_moto() -> Iterator[None]:
    """Add to moto what launches need and it lacks, while the block runs.

    It completes `mock_aws()` and the moto servers of this process, in all threads, and changes none of moto's own answers to other
    clients. Use one block for each `mock_aws()` or server, inside or around it. In the block, an empty ledger and an empty
    configuration take the place of the user's, and other clouds can't be used.

    It is a decorator, too: `@mock_aws`, and `@complete_moto()` below it. The fixture of the same name does the same for a test.

    Raises:
        SpecError: moto or a part of it is not installed.

    Example:
        with mock_aws(), complete_moto():
            with Cluster.request(gpus=16, type="h100") as cluster:
                ...
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="multicompute-moto-")))
        completions = _completions()
        for complete in completions.values():
            stack.enter_context(_entered(complete))
        stack.enter_context(apply_environment(empty_configuration(folder, completions)))
        yield


def _completions() -> dict[str, Callable[[], AbstractContextManager[None]]]:
    """Return the methods that complete moto by provider, of the local clouds whose providers use the SDK that moto replaces."""
    # Imported when it is called, so that a test can replace it.
    from multicompute.plugins import discover

    clouds = {name: local_cloud_of(plugin) for name, plugin in discover().items() if _SDK in plugin.modules}
    found: dict[str, Any] = {name: getattr(cloud, "completed_moto", None) for name, cloud in clouds.items()}
    return {name: complete for name, complete in found.items() if complete is not None}


@contextmanager
def _entered(complete: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(complete())
        except ModuleNotFoundError as error:
            raise SpecError(
                f"complete_moto needs {error.name}, which is not installed", hint='pip install "multicompute[testing]"'
            ) from error
        yield


def _serve() -> None:
    # Not an import: the core depends on no SDK, and neither on what replaces one.
    from runpy import run_module

    with complete_moto():
        run_module("moto.server", run_name="__main__")


if __name__ == "__main__":
    _serve()
