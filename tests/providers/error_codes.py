"""The documented error codes of each cloud, in tables next to the tests, and the errors that they may become."""

import csv
from collections.abc import Mapping
from pathlib import Path

from multicompute import errors

Kinds = Mapping[str, set[type[errors.MulticomputeError]]]


def error_codes(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the table of a cloud."""
    with (folder / "error_codes.csv").open() as file:
        return list(csv.DictReader(file))


def kinds(*, not_found: type[errors.MulticomputeError]) -> Kinds:
    """Return the errors that each meaning in the tables may become.

    Args:
        not_found: what "not found" may become besides an invalid request.
    """
    return {
        "capacity": {errors.CapacityError},
        "quota": {errors.QuotaError},
        "throttle": {errors.ThrottledError},
        "transient": {errors.TransientError},
        "auth": {errors.AuthError, errors.AccessDeniedError},
        "invalid_request": {errors.InvalidRequestError},
        "conflict": {errors.ProviderError, errors.TransientError},
        "not_found": {errors.InvalidRequestError, not_found},
    }
