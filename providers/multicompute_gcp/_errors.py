"""Turns what Google's APIs answer into this package's errors: one table from their codes to kinds, and the place attached."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import google.auth.exceptions
import requests
from google.api_core import exceptions as sdk
from google.protobuf.json_format import ParseError

from multicompute.errors import (
    AccessDeniedError,
    AuthError,
    CapacityError,
    InvalidRequestError,
    MulticomputeError,
    ProviderError,
    QuotaError,
    Scope,
    ThrottledError,
    TransientError,
)
from multicompute.node import Cause
from multicompute.offer import Part, Purchase

log = logging.getLogger(__name__)

Kind = type[MulticomputeError]


@dataclass(frozen=True, slots=True)
class Place:
    """Where and for what something was asked."""

    region: str = ""
    zone: str = ""
    instance_type: str = ""
    purchase: Purchase = "on_demand"

    def __str__(self) -> str:
        return " ".join(part for part in ("gcp", self.zone or self.region, self.instance_type) if part)


def place_of(part: Part) -> Place:
    """Where a part is launched."""
    offer = part.offer
    return Place(offer.region, offer.zone, offer.instance.name, offer.purchase)


class Meaning(NamedTuple):
    """What an answer means: `kind` of error, and what else it rules out. The regular expression `wording` must be found in the message."""

    kind: Kind
    scope: Scope
    wording: str = ""
    is_offered: bool = True


class Said(NamedTuple):
    """An answer as Google words it; `zones` are those that it recommends instead."""

    code: str
    message: str
    status: int = 0
    zones: tuple[str, ...] = ()
    retry_after: float | None = None


_ZONE: Final = Meaning(CapacityError, "zone")
_REGION: Final = Meaning(CapacityError, "region")
_NOT_SOLD: Final = Meaning(CapacityError, "zone", is_offered=False)
_QUOTA: Final = Meaning(QuotaError, "region")
_ACCOUNT_QUOTA: Final = Meaning(QuotaError, "account")
_GLOBAL_QUOTA: Final = _ACCOUNT_QUOTA._replace(wording="_ALL_REGIONS")
_THROTTLED: Final = Meaning(ThrottledError, "request")
_AGAIN: Final = Meaning(TransientError, "request")
_AUTH: Final = Meaning(AuthError, "account")
_DENIED: Final = Meaning(AccessDeniedError, "account")
_INVALID: Final = Meaning(InvalidRequestError, "request")
_CONFLICT: Final = Meaning(ProviderError, "request")
_TYPE_UNKNOWN: Final = (
    _NOT_SOLD._replace(wording="machineTypes"),
    _NOT_SOLD._replace(wording="acceleratorTypes"),
    _NOT_SOLD._replace(wording="Machine type"),
    _NOT_SOLD._replace(wording="Accelerator type"),
    _NOT_SOLD._replace(wording="accelerator type"),
    _NOT_SOLD._replace(wording="zonal accelerator configurations"),
)

# https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation and "Understand API error messages": Compute Engine words
# an error in lower camel case when a call is refused, and in capitals when it arrives inside an operation.
COMPUTE_MEANINGS: Final[dict[str, tuple[Meaning, ...]]] = {
    "ZONE_RESOURCE_POOL_EXHAUSTED": (_ZONE,),
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": (_ZONE,),
    "REGION_RESOURCE_POOL_EXHAUSTED": (_REGION,),
    "STOCKOUT": (_ZONE,),
    "insufficientCapacity": (_ZONE,),
    "resourceUnavailable": (_ZONE,),
    "VM_MIN_COUNT_NOT_REACHED": (_ZONE,),
    "IP_SPACE_EXHAUSTED": (_REGION,),
    "IP_SPACE_EXHAUSTED_WITH_DETAILS": (_REGION,),
    # "... is not supported in the zone": a shape that the place does not sell.
    "UNSUPPORTED_OPERATION": (_NOT_SOLD,),
    "QUOTA_EXCEEDED": (_GLOBAL_QUOTA, _QUOTA),
    "quotaExceeded": (_GLOBAL_QUOTA, _QUOTA),
    "limitExceeded": (_ACCOUNT_QUOTA,),
    "rateLimitExceeded": (_THROTTLED,),
    "userRateLimitExceeded": (_THROTTLED,),
    "concurrentLimitExceeded": (_THROTTLED,),
    "RESOURCE_OPERATION_RATE_EXCEEDED": (_THROTTLED,),
    "OPERATION_RATE_EXCEEDED": (_THROTTLED,),
    "backendError": (_AGAIN,),
    "internalError": (_AGAIN,),
    "INTERNAL_ERROR": (_AGAIN,),
    "forbidden": (_DENIED,),
    "accessNotConfigured": (_DENIED,),
    "SERVICE_DISABLED": (_DENIED,),
    "IAM_PERMISSION_DENIED": (_DENIED,),
    "required": (_AUTH,),
    "authError": (_AUTH,),
    "notFound": (*_TYPE_UNKNOWN, _INVALID),
    "RESOURCE_NOT_FOUND": (*_TYPE_UNKNOWN, _INVALID),
    "alreadyExists": (_CONFLICT,),
    "RESOURCE_ALREADY_EXISTS": (_CONFLICT,),
    "resourceInUseByAnotherResource": (_AGAIN,),
    "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE": (_AGAIN,),
    "resourceNotReady": (_AGAIN,),
    "RESOURCE_NOT_READY": (_AGAIN,),
    # An organisation's policy; without "Constraint" somebody else changed the same resource meanwhile.
    "conditionNotMet": (_DENIED._replace(wording="Constraint"), _AGAIN),
    "CONDITION_NOT_MET": (_DENIED._replace(wording="Constraint"), _AGAIN),
    "invalid": (
        *_TYPE_UNKNOWN,
        # An unknown machine type is a value that "does not exist in zone ...".
        _NOT_SOLD._replace(wording="does not exist in zone"),
        _ZONE._replace(wording="reservation"),
        _INVALID,
    ),
    "INVALID_USAGE": (_INVALID,),
    "badRequest": (_INVALID,),
    "invalidParameter": (_INVALID,),
    "unknownField": (_INVALID,),
    "parseError": (_INVALID,),
    # Why a machine ended: never raised, but read from a node's reason by the same table.
    "compute.instances.preempted": (_ZONE,),
    "compute.instances.hostError": (Meaning(TransientError, "zone"),),
}

# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto. RESOURCE_EXHAUSTED is capacity or quota, which only the
# message tells.
TPU_MEANINGS: Final[dict[str, tuple[Meaning, ...]]] = {
    "RESOURCE_EXHAUSTED": (
        # "Quota exceeded for quota metric ... and limit 'Create requests per minute' ...": soon there is more of it. Cloud Monitoring
        # has nothing else to be exhausted.
        _THROTTLED._replace(wording=r"per minute|PerMinute|monitoring\.googleapis"),
        # "Quota limit 'TPUV5PPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 8 in zone ...": the next zone has one of its own.
        _QUOTA._replace(scope="zone", wording="[Qq]uota.* in zone |PerProjectPerZone"),
        _QUOTA._replace(wording="[Qq]uota"),
        _ZONE,
    ),
    "INVALID_ARGUMENT": (*_TYPE_UNKNOWN, _NOT_SOLD._replace(wording="not available in zone"), _INVALID),
    "FAILED_PRECONDITION": (_NOT_SOLD._replace(wording="reserved capacity"), _CONFLICT),
    "OUT_OF_RANGE": (_INVALID,),
    "NOT_FOUND": (*_TYPE_UNKNOWN, _INVALID),
    "ALREADY_EXISTS": (_CONFLICT,),
    "ABORTED": (_AGAIN,),
    "PERMISSION_DENIED": (_DENIED,),
    "UNAUTHENTICATED": (_AUTH,),
    "UNAVAILABLE": (_AGAIN,),
    "INTERNAL": (_AGAIN,),
    "DEADLINE_EXCEEDED": (_AGAIN,),
    "UNKNOWN": (_AGAIN,),
    "CANCELLED": (_AGAIN,),
    "UNIMPLEMENTED": (_CONFLICT,),
    "PREEMPTED": (_ZONE,),
    "WAITING_FOR_RESOURCES": (_ZONE,),
}
RPC_CODES: Final = dict(
    enumerate(
        (
            *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
            *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
            *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
        )
    )
)

# Comes beside the error that tells why there were too few, which may be a quota.
SAYS_LITTLE: Final = "VM_MIN_COUNT_NOT_REACHED"

_BARE: Final = {401: _AUTH, 403: _DENIED, 429: _THROTTLED}

_CAUSES: Final[dict[Kind, Cause]] = {
    CapacityError: "capacity",
    QuotaError: "quota",
    InvalidRequestError: "request",
    AuthError: "request",
    AccessDeniedError: "request",
}

SDK_ERRORS: Final = (
    sdk.GoogleAPICallError,
    sdk.RetryError,
    google.auth.exceptions.GoogleAuthError,
    requests.RequestException,
    # An answer that was cut short: the SDK lets it through as it is.
    ParseError,
)


def meaning_of(said: Said) -> Meaning:
    """What an answer means; the first entry whose wording is in the message counts. An unknown code is never capacity."""
    for meaning in COMPUTE_MEANINGS.get(said.code) or TPU_MEANINGS.get(said.code, ()):
        if re.search(meaning.wording, said.message, re.DOTALL):
            return meaning
    # A status and no code of Google's: something on the way has answered, or half of the answer is missing. It proves nothing.
    status = said.status if said.code.isdigit() else 0
    return _BARE.get(status, _AGAIN if status >= 400 else _CONFLICT)


def cause_of(said: Said) -> Cause:
    """The kind of reason for which a node ended; what is not known to be anything else counts as a lack of capacity."""
    if "preempted" in said.code.lower():
        return "preemption"
    return _CAUSES.get(meaning_of(said).kind, "capacity")


def said_in(response: requests.Response | None, *, fallback: str = "") -> Said:
    """Google's error in an HTTP answer: Compute Engine's reason, else the status of google.rpc."""
    if response is None:
        return Said("", fallback)
    status, wait = response.status_code, _seconds(response.headers.get("Retry-After"))
    try:
        body = json.loads(response.content)
        error = body["error"]
        message = str(error.get("message") or fallback)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Said(str(status), " ".join((fallback or response.reason or "").split())[:200], status, (), wait)
    listed = [item for item in error.get("errors") or () if isinstance(item, dict)]
    code = str(listed[0].get("reason", "")) if listed else ""
    rpc = str(error.get("status") or "")
    # Newer front ends leave the list out, or fill it with words that say less than the status; and an API that the project has never
    # enabled is PERMISSION_DENIED like any missing right, which only the details tell apart.
    if _reason(error) == "SERVICE_DISABLED":
        code = "SERVICE_DISABLED"
    elif code not in COMPUTE_MEANINGS and rpc in TPU_MEANINGS and not _is_compute(response):
        code = rpc
    return Said(code or rpc or str(status), message, status, (), wait)


def _reason(error: Mapping[str, Any]) -> str:
    """The reason in the google.rpc.ErrorInfo of an error, "" where it has none."""
    details = [item for item in error.get("details") or () if isinstance(item, dict)]
    return next((str(item["reason"]) for item in details if item.get("reason")), "")


def _is_compute(response: requests.Response) -> bool:
    return "/compute/v1/" in (response.url or "")


def said_by_operation(operation: Any) -> Said | None:
    """The error of a Compute Engine operation, None where there is none; it may have one and no HTTP status."""
    errors = list(operation.error.errors) if operation.error else []
    if not errors:
        if operation.http_error_status_code:
            code = str(operation.http_error_status_code)
            return Said(code, operation.http_error_message or "", operation.http_error_status_code)
        return _rolled_back(operation)
    first = next((error for error in errors if error.code != SAYS_LITTLE), errors[0])
    zones: list[str] = []
    for detail in (detail for error in errors for detail in error.error_details):
        named = dict(detail.error_info.metadatas).get("zonesAvailable", "") if detail.error_info else ""
        zones += [zone.strip() for zone in named.split(",") if zone.strip()]
    return Said(first.code, first.message, operation.http_error_status_code, tuple(zones))


def _rolled_back(operation: Any) -> Said | None:
    """A bulkInsert that has taken its machines back is none that succeeded, although it names no error."""
    done = operation.instances_bulk_insert_operation_metadata
    for place, status in done.per_location_status.items() if done else ():
        if status.status == "ROLLING_BACK" or status.failed_to_create_vm_count:
            made = f"{status.created_vm_count} of {status.target_vm_count} VMs were created in {place}"
            return Said(SAYS_LITTLE, f"{made}, and deleted again")
    return None


def said_by_status(status: Mapping[str, Any]) -> Said:
    """The error of a google.rpc.Status: of a TPU operation, or of a queued resource that failed."""
    code = RPC_CODES.get(int(status.get("code", 2)), "UNKNOWN")
    message = str(status.get("message", ""))
    if code == "RESOURCE_EXHAUSTED" and "QuotaFailure" in json.dumps(status.get("details", [])):
        message = message if "uota" in message else f"{message} (quota)"
    return Said(code, message)


def translate(error: BaseException, *, operation: str, place: Place) -> MulticomputeError:
    """The error of this package for what the SDK raised; the caller raises it from `error`."""
    if isinstance(error, sdk.GoogleAPICallError):
        response = error.response if isinstance(error.response, requests.Response) else None
        said = said_in(response, fallback=str(error.message))
        if response is None:
            said = Said(
                str(error.code and int(error.code)) if error.code else "", str(error.message), int(error.code or 0)
            )
        return refused(said, operation=operation, place=place)
    meaning = _AUTH if isinstance(error, google.auth.exceptions.GoogleAuthError) else _AGAIN
    if isinstance(error, google.auth.exceptions.TransportError):
        meaning = _AGAIN
    code, message = type(error).__name__, " ".join(str(error).split())[:300]
    said = Said(code, message)
    return build(meaning, f"{place}: {operation} has no answer: {code}: {message}", said=said, place=place)


def refused(said: Said, *, operation: str, place: Place) -> MulticomputeError:
    """The error for an answer that Google gave, to a call or inside an operation."""
    text = f"{said.code}: {said.message}" if said.message else said.code
    return build(
        meaning_of(said), f"{place}: {operation} was refused: {' '.join(text.split())[:500]}", said=said, place=place
    )


def build(meaning: Meaning, text: str, *, said: Said, place: Place, hint: str = "") -> MulticomputeError:
    """An error of `meaning` with the place attached."""
    error = meaning.kind(
        text,
        provider="gcp",
        region=place.region or None,
        zone=place.zone or None,
        instance_type=place.instance_type or None,
        code=said.code,
        hint=hint or _hint(meaning, said, place),
        scope=meaning.scope,
    )
    error.vendor_message, error.retry_after = said.message or None, said.retry_after
    if isinstance(error, (CapacityError, QuotaError)):
        error.zones_with_capacity = said.zones
        error.is_offered = meaning.is_offered
    return error


def unavailable_here(
    text: str, *, code: str, place: Place, scope: Scope = "zone", hint: str, is_offered: bool = True
) -> MulticomputeError:
    """Our own finding that a place can't take the launch; the next place may, so it counts like a lack of capacity."""
    said, meaning = Said(code, text), Meaning(CapacityError, scope, is_offered=is_offered)
    return build(meaning, f"{place}: {text}", said=said, place=place, hint=hint)


def retryable(text: str, *, code: str, place: Place) -> MulticomputeError:
    """What Google will know in a moment; the same request has to be sent again."""
    return build(_AGAIN, f"{place}: {text}", said=Said(code, text), place=place)


@contextmanager
def translate_errors(operation: str, place: Place) -> Iterator[None]:
    """Run SDK calls of one operation; whatever they raise leaves as one of our errors, with its cause.

    Raises:
        MulticomputeError: of the kind that the answer means.
    """
    log.debug("%s: %s", place, operation)
    try:
        yield
    except SDK_ERRORS as error:
        translated = translate(error, operation=operation, place=place)
        log.debug("%s: %s: %s", place, operation, translated.code)
        raise translated from error


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _hint(meaning: Meaning, said: Said, place: Place) -> str:
    if meaning.kind is QuotaError:
        return f"ask for more at https://console.cloud.google.com/iam-admin/quotas ({place.region or 'all regions'})"
    if said.code in ("accessNotConfigured", "SERVICE_DISABLED"):
        return "`gcloud services enable compute.googleapis.com tpu.googleapis.com monitoring.googleapis.com`"
    return _HINTS.get(meaning.kind, "")


_HINTS: Final[Mapping[Kind, str]] = {
    CapacityError: "another zone, region, instance type or purchase may have it; keep_trying= waits for it",
    ThrottledError: "the same request may be sent again in a moment",
    TransientError: "the same request may be sent again; a launch with the same token",
    AuthError: "sign in again: `gcloud auth application-default login`",
    AccessDeniedError: "give this identity the role in docs/permissions/gcp-role.yaml",
    InvalidRequestError: "change the request; sending it elsewhere does not help",
    ProviderError: "look the code up in Google's documentation of errors",
}
