"""Google's error codes: the tables of their meanings, and the translation of what the SDK raises and of failed operations."""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

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
    TransientError,
)
from multicompute.node import Cause
from multicompute.provider_kit.vendor_errors import (
    COMMON_HINTS,
    DENIED,
    INVALID,
    INVALID_TYPE,
    MALFORMED,
    NO_CAPACITY_IN_REGION,
    NO_CAPACITY_IN_ZONE,
    NOT_OFFERED_IN_ZONE,
    PREEMPTED,
    QUOTA_OF_REGION,
    THROTTLED,
    TRANSIENT,
    UNAUTHENTICATED,
    UNKNOWN,
    Kind,
    Meaning,
    Meanings,
    Place,
    VendorAnswer,
    error_of,
    meaning_of,
    retry_after,
    translator,
)
from multicompute.provider_kit.vendor_errors import cause_of as cause_in_table

log = logging.getLogger("multicompute.gcp")
Answer = TypeVar("Answer")

_QUOTA_OF_ACCOUNT: Final = Meaning(QuotaError, "account")
_QUOTA_OF_ALL_REGIONS: Final = _QUOTA_OF_ACCOUNT._replace(wording="_ALL_REGIONS")
_TYPE_UNKNOWN: Final = (
    NOT_OFFERED_IN_ZONE._replace(wording="machineTypes"),
    NOT_OFFERED_IN_ZONE._replace(wording="acceleratorTypes"),
    NOT_OFFERED_IN_ZONE._replace(wording="Machine type"),
    NOT_OFFERED_IN_ZONE._replace(wording="Accelerator type"),
    NOT_OFFERED_IN_ZONE._replace(wording="accelerator type"),
    NOT_OFFERED_IN_ZONE._replace(wording="zonal accelerator configurations"),
)

# https://cloud.google.com/resource-manager/docs/organization-policy/defining-locations: "Location ZONE:asia-south1-b violates constraint
# constraints/gcp.resourceLocations".
_LOCATION_DENIED: Final = Meaning(AccessDeniedError, "zone", wording="gcp.resourceLocations")
_REGION_DENIED: Final = _LOCATION_DENIED._replace(scope="region", wording="REGION:.*gcp.resourceLocations")
_LOCATIONS: Final = (_REGION_DENIED, _LOCATION_DENIED)
# It holds for all machine types. Other constraints may name machine types or images.
_ADDRESS_DENIED: Final = DENIED._replace(wording="compute.vmExternalIpAccess")
_POLICY: Final = (
    *_LOCATIONS,
    _ADDRESS_DENIED,
    DENIED._replace(scope="type", wording="[Cc]onstraint|[Oo]rg(anization)? [Pp]olicy"),
)
# https://docs.cloud.google.com/docs/authentication/troubleshoot-adc: with the credentials of a user, "Caller does not have required
# permission to use project PROJECT. Grant the caller the roles/serviceusage.serviceUsageConsumer role".
_QUOTA_PROJECT: Final = DENIED._replace(wording="serviceusage|permission to use project")
_SERVICE_ACCOUNT: Final = DENIED._replace(scope="type", wording="actAs|access to service account")
_RIGHTS: Final = (
    *_LOCATIONS,
    _QUOTA_PROJECT,
    # "Required 'compute.subnetworks.use' permission for 'projects/HOST/regions/REGION/subnetworks/NAME'": what the text names.
    DENIED._replace(scope="request", wording="/reservations/"),
    DENIED._replace(scope="region", wording="/subnetworks/"),
    DENIED._replace(scope="type", wording="/images/"),
    _SERVICE_ACCOUNT,
)
# What the project lacks, in a region or everywhere, says nothing about other clouds.
_NO_SUBNETWORK: Final = Meaning(
    ProviderError, "region", wording=r"[Ss]ubnetwork.*(cannot be found|was not found)|must specify a subnet"
)
_NO_NETWORK: Final = Meaning(ProviderError, "region", wording=r"networks?/?.*(cannot be found|was not found)")
_NO_IMAGE: Final = Meaning(
    ProviderError, "type", wording=r"(global/images/|sourceImage|image resource).*(cannot be found|was not found)"
)
# https://cloud.google.com/vpc/docs/rdma-network-profiles: a RoCE network is bound to a zone. dstack's Google backend looks for this text.
_OTHER_ZONE: Final = Meaning(ProviderError, "zone", wording="Network profile only allows resource creation in location")
_LACKING: Final = (_NO_SUBNETWORK, _NO_IMAGE, _NO_NETWORK)

# A reservation says nothing about anything but itself. The texts are those that Kubernetes' autoscaler looks for:
# https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/cloudprovider/gce/autoscaling_gce_client.go; "No available
# resources in specified reservations" is said where the properties of the instances do not match.
_RESERVATION_FULL: Final = Meaning(
    CapacityError, "request", wording="reservation.* does not have available resources|to be in READY state"
)
_RESERVATION_BOUND: Final = Meaning(
    InvalidRequestError, "request", wording="must use provisioningModel RESERVATION_BOUND"
)
_RESERVATION_OPEN: Final = Meaning(InvalidRequestError, "request", wording="specificReservationRequired is not set")
_RESERVATION_OTHER: Final = Meaning(
    InvalidRequestError, "request", wording="No available resources in specified reservations"
)
_RESERVATION: Final = (
    _RESERVATION_BOUND,
    _RESERVATION_OPEN,
    _RESERVATION_OTHER,
    _RESERVATION_FULL,
    INVALID._replace(wording="reservationAffinity|[Rr]eservations?[ /\\[]"),
)
# "update is not supported while in state PREEMPTED" (SkyPilot's `_gcp_handler`).
WHILE_PREEMPTED: Final = "while in state PREEMPTED"
# What an operation answers while Google preempts the instance or slice that it creates or changes: SkyPilot's `_gcp_handler`
# (sky/backends/cloud_vm_ray_backend.py) and https://github.com/skypilot-org/skypilot/issues/1797.
_LOST_WHILE_CREATED: Final = NO_CAPACITY_IN_ZONE._replace(wording=r"/(instances|disks)/.*was not found")
_NOT_SUPPORTED: Final = NOT_OFFERED_IN_ZONE._replace(
    wording=r"not (supported|available|offered)|does not (exist|support)"
)

# https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation and "Understand API error messages": the codes of
# Compute Engine are in lower camel case where a call is refused, and in capitals where an operation fails.
COMPUTE_MEANINGS: Final[Meanings] = {
    "ZONE_RESOURCE_POOL_EXHAUSTED": (NO_CAPACITY_IN_ZONE,),
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": (NO_CAPACITY_IN_ZONE,),
    "REGION_RESOURCE_POOL_EXHAUSTED": (NO_CAPACITY_IN_REGION,),
    "STOCKOUT": (NO_CAPACITY_IN_ZONE,),
    "insufficientCapacity": (NO_CAPACITY_IN_ZONE,),
    "resourceUnavailable": (NO_CAPACITY_IN_ZONE,),
    "VM_MIN_COUNT_NOT_REACHED": (NO_CAPACITY_IN_ZONE,),
    "IP_SPACE_EXHAUSTED": (NO_CAPACITY_IN_REGION,),
    "IP_SPACE_EXHAUSTED_WITH_DETAILS": (NO_CAPACITY_IN_REGION,),
    # "... is not supported in the zone": the zone does not sell this machine type. Any other text was observed for instances that were
    # preempted while they were created.
    "UNSUPPORTED_OPERATION": (_NOT_SUPPORTED, NO_CAPACITY_IN_ZONE),
    "QUOTA_EXCEEDED": (_QUOTA_OF_ALL_REGIONS, QUOTA_OF_REGION),
    "quotaExceeded": (_QUOTA_OF_ALL_REGIONS, QUOTA_OF_REGION),
    "limitExceeded": (_QUOTA_OF_ALL_REGIONS, QUOTA_OF_REGION._replace(scope="type")),
    "rateLimitExceeded": (THROTTLED,),
    "userRateLimitExceeded": (THROTTLED,),
    "concurrentLimitExceeded": (THROTTLED,),
    "RESOURCE_OPERATION_RATE_EXCEEDED": (THROTTLED,),
    "OPERATION_RATE_EXCEEDED": (THROTTLED,),
    "backendError": (TRANSIENT,),
    "internalError": (TRANSIENT,),
    "INTERNAL_ERROR": (TRANSIENT,),
    "forbidden": (*_RIGHTS, DENIED),
    "accessNotConfigured": (DENIED,),
    # Without the TPU API, instances can still be launched.
    "SERVICE_DISABLED": (DENIED._replace(scope="type", wording="TPU API|tpu.googleapis.com"), DENIED),
    "IAM_PERMISSION_DENIED": (*_RIGHTS, DENIED),
    # "Login Required"; also of a field that is missing, which may be one that only this machine type needs.
    "required": (UNAUTHENTICATED._replace(wording="[Ll]ogin"), INVALID_TYPE),
    "authError": (UNAUTHENTICATED,),
    "notFound": (*_TYPE_UNKNOWN, *_LACKING, INVALID),
    "RESOURCE_NOT_FOUND": (*_TYPE_UNKNOWN, *_LACKING, _LOST_WHILE_CREATED, INVALID),
    "alreadyExists": (UNKNOWN,),
    "RESOURCE_ALREADY_EXISTS": (UNKNOWN,),
    "resourceInUseByAnotherResource": (TRANSIENT,),
    "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE": (TRANSIENT,),
    "resourceNotReady": (TRANSIENT,),
    "RESOURCE_NOT_READY": (TRANSIENT,),
    # An organisation's policy; without a constraint, another process changed the same resource.
    "conditionNotMet": (*_POLICY, *_RESERVATION, TRANSIENT),
    "CONDITION_NOT_MET": (*_POLICY, *_RESERVATION, TRANSIENT),
    "invalid": (
        _OTHER_ZONE,
        *_RESERVATION,
        *_TYPE_UNKNOWN,
        *_LACKING,
        # An unknown machine type is a value that "does not exist in zone ...".
        NOT_OFFERED_IN_ZONE._replace(wording="does not exist in zone"),
        INVALID,
    ),
    "INVALID_USAGE": (INVALID,),
    # https://github.com/hashicorp/terraform-provider-google/pull/1211: a deletion of an instance with deletion protection.
    "invalidResourceUsage": (Meaning(ProviderError, "zone"),),
    "badRequest": (_OTHER_ZONE, INVALID),
    "invalidParameter": (INVALID,),
    "unknownField": (MALFORMED,),
    "parseError": (MALFORMED,),
    # Why an instance ended. Never raised, but the cause of a node that ended is looked up in the same table.
    "compute.instances.preempted": (PREEMPTED,),
    "compute.instances.hostError": (Meaning(TransientError, "zone"),),
}

# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto. RESOURCE_EXHAUSTED is capacity, quota or throttling;
# only the message tells them apart.
TPU_MEANINGS: Final[Meanings] = {
    "RESOURCE_EXHAUSTED": (
        # "Quota exceeded for quota metric ... and limit 'Create requests per minute' ...". Cloud Monitoring has no other
        # quota that can be exhausted.
        THROTTLED._replace(wording=r"per minute|PerMinute|monitoring\.googleapis"),
        # "Quota limit 'TPUV5PPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 8 in zone ...": each zone has its own quota.
        QUOTA_OF_REGION._replace(scope="zone", wording="[Qq]uota.* in zone |PerProjectPerZone"),
        QUOTA_OF_REGION._replace(wording="[Qq]uota"),
        NO_CAPACITY_IN_ZONE,
    ),
    "INVALID_ARGUMENT": (
        PREEMPTED._replace(wording=WHILE_PREEMPTED),
        *_TYPE_UNKNOWN,
        # "the accelerator v4-128 was not found in zone us-central2-b" (https://github.com/skypilot-org/skypilot/issues/3840).
        NOT_OFFERED_IN_ZONE._replace(wording="not available in zone|accelerator .* was not found in zone"),
        *_LACKING,
        INVALID,
    ),
    # "Insufficient reserved capacity. Contact customer support to increase your reservation" passes. It is also said, with
    # RESOURCE_EXHAUSTED, where no reservation is used (https://github.com/skypilot-org/skypilot/issues/4579).
    "FAILED_PRECONDITION": (
        NO_CAPACITY_IN_ZONE._replace(wording="[Ii]nsufficient reserved capacity"),
        PREEMPTED._replace(wording=WHILE_PREEMPTED),
        *_POLICY,
        UNKNOWN,
    ),
    "OUT_OF_RANGE": (INVALID,),
    "NOT_FOUND": (*_TYPE_UNKNOWN, *_LACKING, INVALID),
    "ALREADY_EXISTS": (UNKNOWN,),
    "ABORTED": (TRANSIENT,),
    # "Location us-east1-d is not found or access is unauthorized" (https://github.com/dstackai/gpuhunt/issues/98): not sold to this project.
    "PERMISSION_DENIED": (
        NOT_OFFERED_IN_ZONE._replace(wording="^Location .* access is unauthorized"),
        *_RIGHTS,
        # Without permissions on slices, instances can still be launched.
        DENIED._replace(scope="type"),
    ),
    "UNAUTHENTICATED": (UNAUTHENTICATED,),
    "UNAVAILABLE": (TRANSIENT,),
    "INTERNAL": (TRANSIENT,),
    "DEADLINE_EXCEEDED": (TRANSIENT,),
    "UNKNOWN": (TRANSIENT,),
    "CANCELLED": (TRANSIENT,),
    "UNIMPLEMENTED": (UNKNOWN,),
    "PREEMPTED": (PREEMPTED,),
    "WAITING_FOR_RESOURCES": (NO_CAPACITY_IN_ZONE,),
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
MEANINGS: Final[Meanings] = {**TPU_MEANINGS, **COMPUTE_MEANINGS}

# States that instances are missing, but not why; a quota error, for example, is next to it.
_TOO_FEW: Final = "VM_MIN_COUNT_NOT_REACHED"
_DISABLED: Final = ("accessNotConfigured", "SERVICE_DISABLED")

_SDK_ERRORS: Final = (
    sdk.GoogleAPICallError,
    sdk.RetryError,
    google.auth.exceptions.GoogleAuthError,
    requests.RequestException,
    # For an answer that was cut short, which the SDK does not turn into an error of its own.
    ParseError,
)
_HINTS: Final[Mapping[Kind, str]] = {
    **COMMON_HINTS,
    AuthError: "sign in again: `gcloud auth application-default login`",
    AccessDeniedError: "give this identity the role in docs/permissions/gcp-role.yaml",
    ProviderError: "look the code up in Google's documentation of errors",
}
# The remedies for what only the text of an answer tells.
_REMEDIES: Final[Mapping[Meaning, str]] = {
    _NO_SUBNETWORK: "set [providers.gcp] network or subnetwork to one that exists there",
    _NO_NETWORK: "set [providers.gcp] network or subnetwork to one that exists, or create it: `gcloud compute networks create default`",
    _NO_IMAGE: "name an image that exists: image=",
    _OTHER_ZONE: "name the RoCE subnetworks of this zone in [providers.gcp] gpu_subnetworks",
    _ADDRESS_DENIED: "an organization policy allows no public addresses: private=True launches without them",
    _LOCATION_DENIED: "an organization policy allows other locations only: name a region that it allows",
    _REGION_DENIED: "an organization policy allows other locations only: name a region that it allows",
    _QUOTA_PROJECT: "grant roles/serviceusage.serviceUsageConsumer to this identity, or name another project",
    _SERVICE_ACCOUNT: "grant roles/iam.serviceAccountUser on the service account to this identity",
    _RESERVATION_OPEN: "instances use it without naming it; create it with --require-specific-reservation to name it",
    _RESERVATION_OTHER: "its machine type, local SSDs, CPU platform and accelerators must be those of the instances",
}


def cause_of(answer: VendorAnswer) -> Cause:
    """Return the cause of a node that ended with this answer; an unknown one counts as a lack of capacity."""
    return cause_in_table(MEANINGS, answer) or "capacity"


def is_disabled(error: MulticomputeError) -> bool:
    """Return whether an error means that the API was never enabled in the project."""
    return error.code in _DISABLED


def is_unbound(error: MulticomputeError) -> bool:
    """Return whether an error means that a reservation's instances need the provisioning model RESERVATION_BOUND."""
    return re.search(_RESERVATION_BOUND.wording, error.vendor_message or "") is not None


def unless_disabled(otherwise: Answer, call: Callable[[], Answer]) -> Answer:
    """Return what `call` returns, or `otherwise` if the API was never enabled in the project: then it has nothing there."""
    try:
        return call()
    except MulticomputeError as error:
        if is_disabled(error):
            return otherwise
        raise


def answer_of(error: sdk.GoogleAPICallError) -> VendorAnswer:
    """Return the answer for which the SDK raised `error`."""
    if isinstance(error.response, requests.Response):
        return answer_of_response(error.response, fallback=str(error.message))
    return VendorAnswer("", str(error.message), int(error.code or 0))


def answer_of_response(response: requests.Response, *, fallback: str = "") -> VendorAnswer:
    """Return the error in an HTTP answer; `fallback` is the message of one that is a proxy's or was cut short."""
    code, message = "", fallback or response.reason or ""
    try:
        error = json.loads(response.content)["error"]
        message = str(error.get("message") or fallback)
        code = _code(error, is_compute="/compute/v1/" in (response.url or ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return VendorAnswer(code, message, response.status_code, retry_after(response.headers))


def _code(error: Mapping[str, Any], *, is_compute: bool) -> str:
    """Return the code in the body of an error: Compute Engine's reason, else the status of google.rpc."""
    details = [item for item in error.get("details") or () if isinstance(item, dict)]
    # An API that the project has never enabled is PERMISSION_DENIED, like a missing permission; only the google.rpc.ErrorInfo differs.
    if next((item["reason"] for item in details if item.get("reason")), "") == "SERVICE_DISABLED":
        return "SERVICE_DISABLED"
    listed = [item for item in error.get("errors") or () if isinstance(item, dict)]
    reason = str(listed[0].get("reason", "")) if listed else ""
    status = str(error.get("status") or "")
    # Newer front ends leave the list out, or fill it with reasons that are less specific than the status.
    if reason not in COMPUTE_MEANINGS and status in TPU_MEANINGS and not is_compute:
        return status
    return reason or status


def answer_of_operation(operation: Any) -> VendorAnswer | None:
    """Return the error of a Compute Engine operation that has finished, None if it has succeeded.

    An operation may have an error and no HTTP status.
    """
    errors = list(operation.error.errors) if operation.error else []
    status = operation.http_error_status_code
    if not errors:
        if status:
            return VendorAnswer("", operation.http_error_message or "", status)
        return _rolled_back(operation)
    code, message = main_error([(error.code, error.message) for error in errors])
    infos = [detail.error_info for error in errors for detail in error.error_details if detail.error_info]
    named = ",".join(dict(info.metadatas).get("zonesAvailable", "") for info in infos)
    zones = tuple(zone.strip() for zone in named.split(",") if zone.strip())
    # Without the status: for a failed operation it says less than the code, and a lack of capacity has 503.
    return VendorAnswer(code, message, zones=zones)


def main_error(errors: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the error, as code and message, that explains why an operation failed."""
    return next((error for error in errors if error[0] != _TOO_FEW), errors[0])


def _rolled_back(operation: Any) -> VendorAnswer | None:
    """Return the error of a bulkInsert that has deleted its instances again, although it has no error."""
    done = operation.instances_bulk_insert_operation_metadata
    for location, status in done.per_location_status.items() if done else ():
        if status.status == "ROLLING_BACK" or status.failed_to_create_vm_count:
            created = f"{status.created_vm_count} of {status.target_vm_count} VMs were created in {location}"
            return VendorAnswer(_TOO_FEW, f"{created}, and deleted again")
    return None


def answer_of_status(status: Mapping[str, Any]) -> VendorAnswer:
    """Return the error in a google.rpc.Status: of an operation of the TPU API, or of a queued resource that failed."""
    code = RPC_CODES.get(int(status.get("code", 2)), "UNKNOWN")
    message = str(status.get("message", ""))
    if code == "RESOURCE_EXHAUSTED" and "QuotaFailure" in json.dumps(status.get("details", [])):
        message = message if "uota" in message else f"{message} (quota)"
    return VendorAnswer(code, message)


def translate(error: Exception, operation: str, place: Place) -> MulticomputeError:
    """Return the error of this package for what the SDK raised; the caller raises it from `error`."""
    if isinstance(error, sdk.GoogleAPICallError):
        return refusal(answer_of(error), operation, place)
    # A TransportError is a GoogleAuthError: the server that issues tokens was not reached. `retryable`: it failed, with 503 for example.
    # Others mean that the credentials are invalid: RefreshError ("invalid_grant" for a key that was deleted or a login that was revoked),
    # DefaultCredentialsError and MalformedError (a file that is missing or was read while it was written).
    is_auth = isinstance(error, google.auth.exceptions.GoogleAuthError)
    is_passing = isinstance(error, google.auth.exceptions.TransportError) or getattr(error, "retryable", False)
    meaning = UNAUTHENTICATED if is_auth and not is_passing else TRANSIENT
    answer = VendorAnswer(type(error).__name__, str(error))
    hint = _HINTS[meaning.kind]
    return error_of(meaning, answer, operation=operation, place=place, hint=hint, outcome="has no answer")


translate_errors = translator(_SDK_ERRORS, translate, log)


def refusal(answer: VendorAnswer, operation: str, place: Place) -> MulticomputeError:
    """Return the error for an answer of Google, to a call or inside an operation."""
    meaning = meaning_of(MEANINGS, answer)
    return error_of(meaning, answer, operation=operation, place=place, hint=_hint(meaning, answer, operation, place))


def _hint(meaning: Meaning, answer: VendorAnswer, operation: str, place: Place) -> str:
    if meaning.kind is QuotaError:
        return f"request more at https://console.cloud.google.com/iam-admin/quotas ({place.region or 'all regions'})"
    if meaning in _REMEDIES:
        return _REMEDIES[meaning]
    if answer.code in _DISABLED:
        return "`gcloud services enable compute.googleapis.com tpu.googleapis.com monitoring.googleapis.com`"
    if meaning.kind is AccessDeniedError and operation == "timeSeries.list":
        return "allow monitoring.timeSeries.list to this identity; the role in docs/permissions/gcp-role.yaml has it"
    return _HINTS.get(meaning.kind, "")
