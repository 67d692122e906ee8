"""The command line: each command parses its arguments, calls one public function and prints the result."""

import gc
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments without the program's name; those of the process if omitted.

    Returns:
        The exit status: 0 success, 1 unexpected error, 2 usage or SpecError, 3 NoOfferError, 4 CapacityError,
        5 QuotaError, 6 AuthError or AccessDeniedError, 7 ProvisionTimeout, 8 ClusterNotFound or ClusterExists, 9 a leak
        was found (`reconcile --dry-run`), 130 interrupted, 141 the reader of the output closed it.
    """
    from multicompute.cli.status import guarded

    if argv is not None:
        return guarded(list(argv))
    # SDKs create hundreds of thousands of objects that stay: searching them for garbage at Python's thresholds takes an eighth of `up`.
    gc.set_threshold(100_000, 20, 20)
    status = guarded(sys.argv[1:])
    # The process ends now. Without this, Python searches everything it still holds for garbage: a tenth of a cold `plan`.
    gc.freeze()
    return status
