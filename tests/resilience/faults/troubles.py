"""The troubles that a call may have: every code of the clouds' error tables, and failures of the connection."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from multicompute import errors
from multicompute.testing import Faults

TABLES = Path(__file__).parents[2] / "providers"
RETRY_AFTER = timedelta(seconds=40)
"""Longer than any backoff of the engine."""
KINDS: dict[str, tuple[type[errors.MulticomputeError], ...]] = {
    "capacity": (errors.CapacityError,),
    "quota": (errors.QuotaError,),
    "throttle": (errors.ThrottledError,),
    "transient": (errors.TransientError,),
    "auth": (errors.AuthError, errors.AccessDeniedError),
    "invalid_request": (errors.InvalidRequestError,),
    "conflict": (errors.ProviderError, errors.TransientError),
    "not_found": (errors.InvalidRequestError, errors.TransientError, errors.CapacityError, errors.ProviderError),
}
"""The errors that a meaning in the tables may become: some conflicts and unknown names are transient."""
COLUMNS = (
    "capacity",
    "quota",
    "throttled",
    "access",
    "credentials",
    "invalid",
    "not found",
    "conflict",
    "internal",
    "connection lost",
    "answer cut short",
    "no answer",
)
_COLUMN_OF = {"throttle": "throttled", "transient": "internal", "invalid_request": "invalid", "not_found": "not found"}
_CREDENTIALS = re.compile(
    r"Token|^AuthFailure$|Signature|RequestExpired|^required$|^authError$|UNAUTHENTICATED|SubscriptionNotFound"
)
_RPC = {"8": "RESOURCE_EXHAUSTED", "9": "FAILED_PRECONDITION", "3": "INVALID_ARGUMENT"}
_READS = re.compile(r"\.(get|list|aggregatedList|wait)$")
# These calls are of other services than EC2, which have codes of their own except for general ones.
_OTHER_SERVICES = frozenset(
    {"GetParameter", "ListServiceQuotas", "GetServiceQuota", "GetProducts", "GetCallerIdentity"}
)
_INSIDE = "in the operation"
_LONG = re.compile(r"^(virtualMachineScaleSets|virtualNetworks|networkSecurityGroups)\.\w+te$|^resourceGroups\.delete$")


@dataclass(frozen=True)
class Trouble:
    """A way in which a call goes wrong.

    Attributes:
        name: unique in its cloud.
        column: its column in the tables of the report.
        kinds: the errors that it may become.
        code: the cloud's code, "" if the cloud did not answer.
        inject: injects it into the next calls of an operation, a number of times.
        fits: whether an operation can fail in this way.
    """

    name: str
    column: str
    kinds: tuple[type[errors.MulticomputeError], ...]
    code: str
    inject: Callable[[Faults, str, int | None], None]
    fits: Callable[[str], bool]

    @property
    def error_class(self) -> object:
        """Equal for troubles that the adapter and the engine have no reason to treat differently."""
        return self.column, self.kinds, self.name if not self.code else self.name.endswith(_INSIDE)

    @property
    def passes(self) -> bool:
        """Return whether the same call succeeds when it is repeated after the trouble."""
        return set(self.kinds) <= {errors.ThrottledError, errors.TransientError}


@cache
def troubles(name: str) -> tuple[Trouble, ...]:
    """Return all troubles of a local cloud: "aws", "gcp", "tpu" (also Google Cloud) or "azure"."""
    cloud = "gcp" if name == "tpu" else name
    with (TABLES / cloud / "error_codes.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = [trouble for row in rows for trouble in _of_row(cloud, row)]
    return (*found, *_connection_troubles())


def _of_row(cloud: str, row: dict[str, str]) -> list[Trouble]:
    if cloud == "aws":
        general = row["meaning"] in ("throttle", "auth", "transient")
        return [_refusal(row, lambda call: general or call not in _OTHER_SERVICES)]
    if cloud == "azure":
        inside = _refusal(row, lambda call: _LONG.match(call) is not None, suffix=".operation")
        if row["http_status"] == "200":
            return [inside]
        refusal = _refusal(row, lambda call: True)
        return [refusal, inside] if row["http_status"] == "409" else [refusal]
    is_operation = not row["http_status"]

    def fits(call: str) -> bool:
        is_tpu = call.startswith("tpu.")
        return is_tpu == (row["api"] == "tpu") and not (is_operation and _READS.search(call))

    return [_refusal(row, fits)]


def _refusal(row: dict[str, str], fits: Callable[[str], bool], *, suffix: str = "") -> Trouble:
    code = _RPC.get(row["code"], row["code"])
    # A failed operation of the TPU API has this status, unlike a refusal; one of Compute Engine has a code in capitals.
    status = int(row["http_status"] or (200 if row["code"] in _RPC else 400))
    message = f"So: {row['message_fragment']}." if row["message_fragment"] else code

    def inject(faults: Faults, operation: str, times: int | None) -> None:
        faults.fail(operation + suffix, code, message=message, status=status, times=times)

    meaning = row["meaning"]
    column = _COLUMN_OF.get(meaning, meaning)
    if meaning == "auth":
        column = "credentials" if _CREDENTIALS.search(code) else "access"
    name = " ".join(part for part in (row["code"], row["message_fragment"], suffix and _INSIDE) if part)
    return Trouble(name, column, KINDS[meaning], code, inject, fits)


def _connection_troubles() -> list[Trouble]:
    def broken(name: str) -> Callable[[Faults, str, int | None], None]:
        return lambda faults, operation, times: getattr(faults, name)(operation, times)

    def page(status: int) -> Callable[[Faults, str, int | None], None]:
        wait = RETRY_AFTER if status == 429 else None
        return lambda faults, call, times: faults.fail(call, "", status=status, times=times, retry_after=wait)

    ways: list[tuple[str, str, Any]] = [
        ("dropped before the work", "connection lost", broken("drop")),
        ("dropped after the work", "connection lost", broken("lose_answer")),
        ("reset in the answer", "connection lost", broken("reset")),
        ("half an answer", "answer cut short", broken("truncate")),
        ("no answer", "no answer", broken("hang")),
        ("a page with 500", "internal", page(500)),
        ("a page with 503", "internal", page(503)),
        ("a page with 429", "throttled", page(429)),
    ]
    kinds = {"throttled": KINDS["throttle"]}
    return [
        Trouble(name, column, kinds.get(column, KINDS["transient"]), "", inject, lambda call: True)
        for name, column, inject in ways
    ]
