"""Turns what boto3 raises into this package's errors: one table from EC2's codes to kinds, and the place attached."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

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
from multicompute.offer import Purchase
from multicompute_aws._families import console_page, family_of

log = logging.getLogger(__name__)

Kind = type[MulticomputeError]


@dataclass(frozen=True, slots=True)
class Place:
    """Where and for what something was asked."""

    region: str
    zone: str = ""
    instance_type: str = ""
    purchase: Purchase = "on_demand"

    def __str__(self) -> str:
        return " ".join(part for part in ("aws", self.zone or self.region, self.instance_type) if part)


class Meaning(NamedTuple):
    """What an answer means: `kind` of error, and what else it rules out. `fragment` must be in the message, "" fits any."""

    kind: Kind
    scope: Scope
    fragment: str = ""


_ZONE: Final = Meaning(CapacityError, "zone")
_QUOTA: Final = Meaning(QuotaError, "region")
_THROTTLED: Final = Meaning(ThrottledError, "request")
_AGAIN: Final = Meaning(TransientError, "request")
_AUTH: Final = Meaning(AuthError, "account")
_DENIED: Final = Meaning(AccessDeniedError, "account")
_INVALID: Final = Meaning(InvalidRequestError, "request")
_INVALID_HERE: Final = Meaning(InvalidRequestError, "region")
_CONFLICT: Final = Meaning(ProviderError, "request")

# The codes of the EC2 API reference ("Error codes for the Amazon EC2 API") and of STS. Capacity arrives as HTTP 500, so the code decides
# and never the status. A code that is not here is ProviderError: denied and sold out must not look alike.
MEANINGS: Final[dict[str, tuple[Meaning, ...]]] = {
    "InsufficientInstanceCapacity": (_ZONE,),
    "InsufficientHostCapacity": (_ZONE,),
    "InsufficientReservedInstanceCapacity": (_ZONE,),
    "InsufficientCapacityOnHost": (_ZONE,),
    "InsufficientCapacity": (_ZONE,),
    "InsufficientAddressCapacity": (Meaning(CapacityError, "region"),),
    "ReservationCapacityExceeded": (Meaning(CapacityError, "request"),),
    "UnfulfillableCapacity": (_ZONE,),
    "InsufficientSpotInstanceCapacity": (_ZONE,),
    "InsufficientFreeAddressesInSubnet": (_ZONE,),
    # Not a shortage but "not offered in this zone"; the remedy is the same. Any other message is a combination that nobody has.
    "Unsupported": (Meaning(CapacityError, "zone", "requested Availability Zone"), _INVALID),
    "UnsupportedOperation": (_INVALID,),
    "UnsupportedHibernationConfiguration": (_INVALID,),
    "InstanceLimitExceeded": (_QUOTA,),
    "VcpuLimitExceeded": (_QUOTA,),
    "MaxSpotInstanceCountExceeded": (_QUOTA,),
    "MaxSpotFleetRequestCountExceeded": (_QUOTA,),
    "MaxFleetCountExceeded": (_QUOTA,),
    "VolumeLimitExceeded": (_QUOTA,),
    "MaxIOPSLimitExceeded": (_QUOTA,),
    "AddressLimitExceeded": (_QUOTA,),
    "VpcLimitExceeded": (_QUOTA,),
    "SecurityGroupLimitExceeded": (_QUOTA,),
    "NetworkInterfaceLimitExceeded": (_QUOTA,),
    "PlacementGroup.LimitExceeded": (_QUOTA,),
    "SpotMaxPriceTooLow": (Meaning(InvalidRequestError, "zone"),),
    "RequestLimitExceeded": (_THROTTLED,),
    "RequestResourceCountExceeded": (_THROTTLED,),
    "Throttling": (_THROTTLED,),
    "ThrottlingException": (_THROTTLED,),
    "TooManyRequestsException": (_THROTTLED,),
    "EC2ThrottledException": (_THROTTLED,),
    "SlowDown": (_THROTTLED,),
    "UnauthorizedOperation": (_DENIED,),
    "AccessDenied": (_DENIED,),
    "AccessDeniedException": (_DENIED,),
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": (_DENIED,),
    "AuthFailure": (_AUTH,),
    "InvalidClientTokenId": (_AUTH,),
    "UnrecognizedClientException": (_AUTH,),
    "ExpiredToken": (_AUTH,),
    "ExpiredTokenException": (_AUTH,),
    "RequestExpired": (_AUTH,),
    "SignatureDoesNotMatch": (_AUTH,),
    "OptInRequired": (Meaning(AuthError, "region"),),
    "PendingVerification": (_AUTH,),
    "Blocked": (_AUTH,),
    # The good answer of a dry run; `check` reads it before it gets here.
    "DryRunOperation": (_AGAIN,),
    "IdempotentParameterMismatch": (_CONFLICT,),
    "IdempotentInstanceTerminated": (_CONFLICT,),
    "InvalidGroup.Duplicate": (_CONFLICT,),
    "InvalidPlacementGroup.Duplicate": (_CONFLICT,),
    "OperationNotPermitted": (_CONFLICT,),
    # EC2 is eventually consistent: what was made a moment ago may not be known yet, so "not found" of an instance is worth asking again.
    "InvalidInstanceID.NotFound": (_AGAIN,),
    "InvalidPlacementGroup.InUse": (_AGAIN,),
    "DependencyViolation": (_AGAIN,),
    "IncorrectInstanceState": (_AGAIN,),
    "InvalidGroup.NotFound": (_INVALID,),
    "InvalidAMIID.NotFound": (_INVALID_HERE,),
    "InvalidAMIID.Malformed": (_INVALID,),
    "InvalidAMIID.Unavailable": (_INVALID_HERE,),
    "InvalidSubnetID.NotFound": (_INVALID,),
    "InvalidKeyPair.NotFound": (_INVALID_HERE,),
    "InvalidLaunchTemplateId.NotFound": (_INVALID,),
    "InvalidCapacityReservationId.NotFound": (_INVALID,),
    "InvalidPlacementGroup.Unknown": (_INVALID,),
    "InvalidParameter": (_INVALID,),
    "InvalidParameterValue": (_INVALID,),
    "InvalidParameterCombination": (_INVALID,),
    "InvalidBlockDeviceMapping": (_INVALID,),
    "MissingParameter": (_INVALID,),
    "ValidationError": (_INVALID,),
    "ValidationException": (_INVALID,),
    "UnknownParameter": (_INVALID,),
    "InvalidUserData.Malformed": (_INVALID,),
    "TagLimitExceeded": (_INVALID,),
    "InternalError": (_AGAIN,),
    "InternalFailure": (_AGAIN,),
    "InternalServerError": (_AGAIN,),
    "InternalServiceError": (_AGAIN,),
    "InternalServiceFault": (_AGAIN,),
    "Unavailable": (_AGAIN,),
    "ServiceUnavailable": (_AGAIN,),
    "RequestTimeout": (_AGAIN,),
    # Why an instance stopped (StateReason): never raised, but read from a node's reason by the same table.
    "Server.InsufficientInstanceCapacity": (_ZONE,),
    "Server.SpotInstanceTermination": (_ZONE,),
    "Server.SpotInstanceShutdown": (_ZONE,),
    "Server.InternalError": (Meaning(TransientError, "zone"),),
    "Client.VolumeLimitExceeded": (_QUOTA,),
    "Client.InternalError": (_INVALID,),
    "Client.InvalidSnapshot.NotFound": (_INVALID_HERE,),
}

# The same codes, as the kind of reason for which a node ended.
CAUSES: Final[dict[str, Cause]] = {
    "Server.InsufficientInstanceCapacity": "capacity",
    "Server.SpotInstanceTermination": "preemption",
    "Server.SpotInstanceShutdown": "preemption",
    "Client.VolumeLimitExceeded": "quota",
    "Client.InternalError": "request",
    "Client.InvalidSnapshot.NotFound": "request",
}

_BARE: Final = {401: _AUTH, 403: _DENIED, 429: _THROTTLED}
_UNREACHED: Final = (
    sdk.HTTPClientError,
    sdk.ConnectionError,
    sdk.IncompleteReadError,
    sdk.ChecksumError,
    ResponseParserError,
)
_UNKNOWN_CALLER: Final = (
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.CredentialRetrievalError,
    sdk.SSOError,
    sdk.TokenRetrievalError,
    sdk.NoAuthTokenError,
    sdk.ProfileNotFound,
    sdk.MetadataRetrievalError,
    sdk.RefreshWithMFAUnsupportedError,
)

_ZONE_NAMES: Final = re.compile(r"\b[a-z]{2,}(?:-[a-z]+)+-\d+(?:-[a-z]+-\d+)?[a-z]\b")
_CHOOSING: Final = re.compile(r"or choosing (.+?)\.?\s*$", re.DOTALL)
_ACTION: Final = re.compile(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)")
# A long opaque blob that only helps whoever may decode it; the message has to stay readable.
_BLOB: Final = re.compile(r"Encoded authorization failure message:.*", re.DOTALL)


def code_of(error: BaseException) -> str:
    """EC2's code of a `ClientError`, "" of anything else."""
    if isinstance(error, sdk.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def message_of(error: BaseException) -> str:
    """The vendor's words, in one line and without what nobody can read."""
    text = str(error)
    if isinstance(error, sdk.ClientError):
        text = str(error.response.get("Error", {}).get("Message", "")) or text
    return " ".join(_BLOB.sub("(encoded; `aws sts decode-authorization-message` tells more)", text).split())[:400]


def meaning_of(code: str, message: str = "") -> Meaning:
    """What an answer means; the first entry whose fragment is in the message counts."""
    for meaning in MEANINGS.get(code, ()):
        if meaning.fragment in message:
            return meaning
    return _CONFLICT


def zones_with_capacity(message: str) -> tuple[str, ...]:
    """The zones that a lack of capacity recommends instead: "... or choosing us-east-1b, us-east-1c."."""
    advice = _CHOOSING.search(message)
    return tuple(dict.fromkeys(_ZONE_NAMES.findall(advice[1]))) if advice else ()


def translate(error: Exception, *, operation: str, place: Place) -> MulticomputeError:
    """The error of this package for what boto3 raised; the caller raises it from `error`."""
    code, message = code_of(error), message_of(error)
    if isinstance(error, sdk.ClientError):
        meaning = _by_status(error) if code not in MEANINGS else meaning_of(code, message)
        # A proxy's page has no code.
        code = code or f"HTTP{error.response.get('ResponseMetadata', {}).get('HTTPStatusCode', '')}"
    else:
        code, meaning = type(error).__name__, _by_type(error)
    said = f"{code}: {message}" if message else code
    found = build(
        meaning,
        f"{place}: {operation} was refused: {said}"
        if isinstance(error, sdk.ClientError)
        else f"{place}: {operation} has no answer: {said}",
        code=code,
        place=place,
        hint=_hint(meaning, code, message, operation, place),
        zones=zones_with_capacity(message),
    )
    found.vendor_message = message or None
    found.retry_after = _retry_after(error)
    return found


def build(
    meaning: Meaning, text: str, *, code: str, place: Place, hint: str, zones: Sequence[str] = ()
) -> MulticomputeError:
    """An error of `meaning` with the place attached."""
    error = meaning.kind(
        text,
        provider="aws",
        region=place.region,
        zone=place.zone or None,
        instance_type=place.instance_type or None,
        code=code,
        hint=hint,
        scope=meaning.scope,
    )
    if isinstance(error, (CapacityError, QuotaError)):
        error.zones_with_capacity = tuple(zones)
        error.is_offered = code != "Unsupported"
    return error


def unavailable_here(text: str, *, code: str, place: Place, scope: Scope, hint: str) -> MulticomputeError:
    """Our own finding that a place can't take the launch; the next place may, so it counts like a lack of capacity."""
    return build(Meaning(CapacityError, scope), f"{place}: {text}", code=code, place=place, hint=hint)


def retryable(text: str, code: str, place: Place) -> MulticomputeError:
    """What EC2 will know in a moment; the same request has to be sent again."""
    return build(_AGAIN, f"{place}: {text}", code=code, place=place, hint=_HINTS[TransientError])


def member(answer: Mapping[str, Any], name: str, place: Place) -> Any:
    """A member that every whole answer has: the SDK reads JSON that was cut short as an answer without any.

    Raises:
        TransientError: it is missing.
    """
    if name not in answer:
        raise retryable(f"the answer was cut short: it has no {name}", "BadAnswer", place)
    return answer[name]


@contextmanager
def translate_errors(operation: str, place: Place) -> Iterator[None]:
    """Run SDK calls of one operation; whatever boto3 raises leaves as one of our errors, with its cause.

    Raises:
        MulticomputeError: of the kind that the answer means.
    """
    log.debug("%s: %s", place, operation)
    try:
        yield
    except (sdk.ClientError, sdk.BotoCoreError, ResponseParserError) as error:
        translated = translate(error, operation=operation, place=place)
        log.debug("%s: %s: %s", place, operation, translated.code)
        raise translated from error


def _by_status(error: sdk.ClientError) -> Meaning:
    """An unknown code is never capacity. An answer without a code was cut short, or something on the way has spoken: it proves nothing."""
    status, code = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0), code_of(error)
    if code in ("", str(status)):
        return _BARE.get(status, _AGAIN if status >= 400 else _CONFLICT)
    return _THROTTLED if status == 429 else _AGAIN if status in (502, 503, 504) else _CONFLICT


def _by_type(error: Exception) -> Meaning:
    if isinstance(error, _UNREACHED):
        return _AGAIN
    if isinstance(error, _UNKNOWN_CALLER) or type(error).__name__.startswith("Login"):
        return _AUTH
    if isinstance(error, sdk.ParamValidationError):
        return _INVALID
    return _CONFLICT


def _retry_after(error: Exception) -> float | None:
    """Seconds that the answer asks to wait; EC2 itself never says."""
    if not isinstance(error, sdk.ClientError):
        return None
    text = str(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", ""))
    return float(text) if text.isdecimal() else None


def _hint(meaning: Meaning, code: str, message: str, operation: str, place: Place) -> str:
    if meaning.kind is QuotaError:
        return _quota_hint(place)
    if meaning.kind is AccessDeniedError:
        named = _ACTION.search(message)
        action = named[1] if named else f"{_SERVICES.get(operation, 'ec2')}:{operation}"
        return f"allow the action {action} to this identity (docs/permissions/aws-policy.json lists all that are used)"
    if meaning.kind is AuthError and code == "OptInRequired":
        return f"enable the region {place.region} in the account, or leave it out with exclude="
    return _HINTS.get(meaning.kind, "")


# Where an answer does not name the right that is missing; all other operations are EC2's.
_SERVICES: Final = {
    "GetMetricData": "cloudwatch",
    "ListMetrics": "cloudwatch",
    "ListServiceQuotas": "servicequotas",
    "GetProducts": "pricing",
    "GetParameter": "ssm",
    "GetCallerIdentity": "sts",
}

_HINTS: Final[dict[Kind, str]] = {
    CapacityError: "another zone, region, instance type or purchase may have it; keep_trying= waits for it",
    ThrottledError: "the same request may be sent again in a moment",
    TransientError: "the same request may be sent again; a launch with the same token",
    AuthError: "sign in again (`aws sso login`, `aws configure`) or check AWS_PROFILE and the machine's clock",
    InvalidRequestError: "change the request; sending it elsewhere does not help",
    ProviderError: "look the code up in the EC2 API's list of error codes",
}


def _quota_hint(place: Place) -> str:
    family = family_of(place.instance_type, place.purchase) if place.instance_type else None
    if family is None:
        return f"ask for more at https://{place.region}.console.aws.amazon.com/servicequotas/home/services/ec2/quotas"
    return f"ask for more of {family.name!r} at {console_page(family.code, place.region)}"
