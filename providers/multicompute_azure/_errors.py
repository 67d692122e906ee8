"""Turns what Azure's SDK raises into this package's errors: one table from Azure's codes to kinds, and the place attached."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from azure.core import exceptions as sdk

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
        return " ".join(part for part in ("azure", self.zone or self.region, self.instance_type) if part)


class Meaning(NamedTuple):
    """What an answer means: `kind` of error, and what else it rules out. `fragment` must be in the message, "" fits any."""

    kind: Kind
    scope: Scope
    fragment: str = ""
    is_offered: bool = True


class Said(NamedTuple):
    """What Azure answered: a code and a message."""

    code: str
    message: str


_REGION: Final = Meaning(CapacityError, "region")
_ZONE: Final = Meaning(CapacityError, "zone")
_QUOTA: Final = Meaning(QuotaError, "region")
_THROTTLED: Final = Meaning(ThrottledError, "request")
_AGAIN: Final = Meaning(TransientError, "request")
_AUTH: Final = Meaning(AuthError, "account")
_DENIED: Final = Meaning(AccessDeniedError, "account")
_DENIED_HERE: Final = Meaning(AccessDeniedError, "region")
_INVALID: Final = Meaning(InvalidRequestError, "request")
_INVALID_HERE: Final = Meaning(InvalidRequestError, "region")
_CONFLICT: Final = Meaning(ProviderError, "request")
_NOT_SOLD: Final = "is not available in the current region"

_UNREGISTERED: Final = "MissingSubscriptionRegistration"
# "The subscription is not registered to use namespace 'Microsoft.Compute'. See https://aka.ms/rps-not-found for how to register."
_NAMESPACE: Final = re.compile(r"namespace '([\w.]+)'")

PARTIAL: Final = "PartialScaleSet"
"""Our own finding, where Azure's reason is not known any more: a scale set that failed with fewer instances than were asked for."""

# The codes of Resource Manager ("Troubleshoot common Azure deployment errors") and of Compute ("Allocation failures", "Error codes of
# virtual machines"). The code decides and never the status: a lack of capacity arrives as 409, and in a long operation as 200. A code that is
# not here is ProviderError: denied and sold out must not look alike.
MEANINGS: Final[dict[str, tuple[Meaning, ...]]] = {
    "SkuNotAvailable": (_REGION,),
    "AllocationFailed": (_REGION,),
    "ZonalAllocationFailed": (_ZONE,),
    "OverconstrainedAllocationRequest": (_REGION,),
    "OverconstrainedZonalAllocationRequest": (_ZONE,),
    "SpotCapacityNotAvailable": (_REGION,),
    "SubnetIsFull": (_REGION,),
    PARTIAL: (_REGION,),
    "AvailabilityZoneNotSupported": (Meaning(CapacityError, "zone", is_offered=False),),
    "SpotPriceGreaterThanProvidedMaxPrice": (Meaning(InvalidRequestError, "zone"),),
    # Quota has no code of its own where cores are counted: the message tells it from every other thing that is "not allowed".
    # Compute says so too where it throttles ("Troubleshooting API throttling errors").
    "OperationNotAllowed": (
        Meaning(ThrottledError, "request", "too many requests"),
        Meaning(QuotaError, "region", "quota"),
        Meaning(QuotaError, "region", "Quota"),
        _CONFLICT,
    ),
    "QuotaExceeded": (_QUOTA,),
    "ResourceQuotaExceeded": (_QUOTA,),
    "PublicIPCountLimitReached": (_QUOTA,),
    "QuotaId": (_QUOTA,),
    "NotAvailableForSubscription": (_DENIED_HERE,),
    "RequestDisallowedByPolicy": (_DENIED_HERE,),
    "AuthorizationFailed": (_DENIED,),
    "LinkedAuthorizationFailed": (_DENIED,),
    "ReadOnlyDisabledSubscription": (_DENIED,),
    _UNREGISTERED: (_DENIED,),
    "MarketplacePurchaseEligibilityFailed": (_DENIED,),
    "InvalidAuthenticationToken": (_AUTH,),
    "InvalidAuthenticationTokenTenant": (_AUTH,),
    "ExpiredAuthenticationToken": (_AUTH,),
    "AuthenticationFailed": (_AUTH,),
    "ClientAuthenticationError": (_AUTH,),
    "CredentialUnavailableError": (_AUTH,),
    "SubscriptionNotFound": (_AUTH,),
    "TooManyRequests": (_THROTTLED,),
    "SubscriptionRequestsThrottled": (_THROTTLED,),
    "ResourceCollectionRequestsThrottled": (_THROTTLED,),
    # Something else is under way on the same resource, or is about to end: the same request will be taken in a moment.
    "RetryableError": (_AGAIN,),
    "Conflict": (_AGAIN,),
    "AnotherOperationInProgress": (_AGAIN,),
    "ResourceGroupBeingDeleted": (_AGAIN,),
    "InternalServerError": (_AGAIN,),
    "InternalExecutionError": (_AGAIN,),
    "ServiceUnavailable": (_AGAIN,),
    "ServerTimeout": (_AGAIN,),
    "GatewayTimeout": (_AGAIN,),
    "OSProvisioningTimedOut": (Meaning(TransientError, "zone"),),
    "InUseSubnetCannotBeDeleted": (_AGAIN,),
    "NicReservedForAnotherVm": (_AGAIN,),
    "PropertyChangeNotAllowed": (_CONFLICT,),
    "ResourceNotFound": (_CONFLICT,),
    "ResourceGroupNotFound": (_CONFLICT,),
    "NotFound": (_CONFLICT,),
    "InvalidParameter": (Meaning(CapacityError, "region", _NOT_SOLD, is_offered=False), _INVALID),
    "BadRequest": (Meaning(AccessDeniedError, "region", "is not supported for subscription"), _INVALID),
    "InvalidTemplateDeployment": (_INVALID,),
    "InvalidRequestContent": (_INVALID,),
    "InvalidRequestFormat": (_INVALID,),
    "LinkedInvalidPropertyId": (_INVALID,),
    "VMExtensionProvisioningError": (_INVALID,),
    "ImageNotFound": (_INVALID_HERE,),
    "PlatformImageNotFound": (_INVALID_HERE,),
    "GalleryImageNotFound": (_INVALID_HERE,),
}

# Answers that only say that something inside went wrong; what it was stands in their details.
_WRAPPERS: Final = frozenset(
    {
        "InvalidTemplateDeployment",
        "DeploymentFailed",
        "ResourceDeploymentFailure",
        "VMScaleSetDeploymentFailed",
        "BadRequest",
    }
)
_UNREACHED: Final = (sdk.ServiceRequestError, sdk.ServiceResponseError, sdk.IncompleteReadError, sdk.DecodeError)
GONE: Final = frozenset({"ResourceNotFound", "ResourceGroupNotFound", "NotFound", "ParentResourceNotFound"})


def is_gone(code: str | None) -> bool:
    """Whether an answer means that what was asked for does not exist."""
    return code in GONE


def said_by(error: Exception) -> Said:
    """Azure's own code and words; for a wrapper those of what it wraps."""
    if isinstance(error, sdk.HttpResponseError):
        found = _innermost(error.error)
        if found is not None:
            return Said(found.code, " ".join(found.message.split())[:400])
        if error.response is not None:
            return Said(f"HTTP{error.status_code}", " ".join(str(error.message).split())[:400])
    return Said(type(error).__name__, " ".join(str(error).split())[:400])


def _innermost(error: Any) -> Said | None:
    """The first of the codes that is known by itself, looking into a wrapper's details before the wrapper counts."""
    code = getattr(error, "code", None)
    if not code:
        return None
    details = [_innermost(item) for item in getattr(error, "details", None) or ()]
    if code in _WRAPPERS or code not in MEANINGS:
        for detail in details:
            if detail is not None and detail.code in MEANINGS:
                return detail
    return Said(str(code), str(getattr(error, "message", "") or ""))


def said_in(document: Mapping[str, Any] | None) -> Said | None:
    """The same of an error that stands in a document: in the status of an operation or of an instance."""
    if not document or not document.get("code"):
        return None
    code = str(document["code"])
    if code in _WRAPPERS or code not in MEANINGS:
        for item in document.get("details") or ():
            detail = said_in(item)
            if detail is not None and detail.code in MEANINGS:
                return detail
    return Said(code, " ".join(str(document.get("message") or "").split())[:400])


def meaning_of(said: Said) -> Meaning:
    """What an answer means; the first entry whose fragment is in the message counts."""
    for meaning in MEANINGS.get(said.code, ()):
        if meaning.fragment in said.message:
            return meaning
    return _CONFLICT


def cause_of(said: Said) -> Cause:
    """The kind of reason for which an instance did not come up; "" where the answer is none of those kinds."""
    kind = meaning_of(said).kind
    if kind is CapacityError:
        return "capacity"
    if kind is QuotaError:
        return "quota"
    return "request" if kind in (InvalidRequestError, AccessDeniedError, AuthError) else ""


def translate(error: Exception, *, operation: str, place: Place) -> MulticomputeError:
    """The error of this package for what the SDK raised; the caller raises it from `error`."""
    said = said_by(error)
    meaning = meaning_of(said) if said.code in MEANINGS else _by_type(error)
    verb = "was refused" if isinstance(error, sdk.HttpResponseError) and error.response is not None else "has no answer"
    text = (
        f"{place}: {operation} {verb}: {said.code}: {said.message}"
        if said.message
        else f"{place}: {operation} {verb}: {said.code}"
    )
    found = build(meaning, text, code=said.code, place=place, hint=_hint(meaning, said, place))
    found.vendor_message = said.message or None
    found.retry_after = _retry_after(error)
    return found


def refusal(said: Said, *, operation: str, place: Place) -> MulticomputeError:
    """The error of this package for what a long operation ended with."""
    meaning = meaning_of(said)
    text = f"{place}: {operation} failed: {said.code}: {said.message}"
    found = build(meaning, text, code=said.code, place=place, hint=_hint(meaning, said, place))
    found.vendor_message = said.message or None
    return found


def refused(status: int, document: Mapping[str, Any], *, operation: str, place: Place) -> MulticomputeError:
    """The error of this package for one of several answers that came in one."""
    found = said_in(document.get("error") or document)
    said = found or Said(f"HTTP{status}", "")
    meaning = meaning_of(said) if said.code in MEANINGS else _by_status(status, has_code=found is not None)
    text = f"{place}: {operation} was refused: {said.code}: {said.message}".rstrip(": ")
    error = build(meaning, text, code=said.code, place=place, hint=_hint(meaning, said, place))
    error.vendor_message = said.message or None
    return error


def build(meaning: Meaning, text: str, *, code: str, place: Place, hint: str) -> MulticomputeError:
    """An error of `meaning` with the place attached; a lack in a region that was asked of one zone is told of the zone only."""
    is_lack = meaning.kind is CapacityError and meaning.is_offered
    error = meaning.kind(
        text,
        provider="azure",
        region=place.region,
        zone=place.zone or None,
        instance_type=place.instance_type or None,
        code=code,
        hint=hint,
        scope="zone" if is_lack and place.zone else meaning.scope,
    )
    if isinstance(error, CapacityError):
        error.is_offered = meaning.is_offered
    return error


def unavailable_here(
    text: str, *, code: str, place: Place, scope: Scope, hint: str, is_offered: bool = True
) -> MulticomputeError:
    """Our own finding that a place can't take the launch; the next place may, so it counts like a lack of capacity."""
    meaning = Meaning(CapacityError, scope, is_offered=is_offered)
    return build(meaning, f"{place}: {text}", code=code, place=place, hint=hint)


def retryable(text: str, code: str, place: Place) -> MulticomputeError:
    """What will be so in a moment; the same request has to be sent again."""
    return build(_AGAIN, f"{place}: {text}", code=code, place=place, hint=_HINTS[TransientError])


@contextmanager
def translate_errors(operation: str, place: Place) -> Iterator[None]:
    """Run SDK calls of one operation; whatever the SDK raises leaves as one of our errors, with its cause.

    Raises:
        MulticomputeError: of the kind that the answer means.
    """
    log.debug("%s: %s", place, operation)
    try:
        yield
    except sdk.AzureError as error:
        translated = translate(error, operation=operation, place=place)
        log.debug("%s: %s: %s", place, operation, translated.code)
        raise translated from error


@contextmanager
def needing(right: str) -> Iterator[None]:
    """Whatever is denied within has a hint that names the right which it takes."""
    try:
        yield
    except AccessDeniedError as error:
        if error.code != _UNREGISTERED:
            error.hint = f"it takes {right}, which the role in docs/permissions/azure-role.json has"
        raise


def _by_type(error: Exception) -> Meaning:
    """An unknown code is never capacity: what there is to go by is whether anybody answered, and with which status."""
    if isinstance(error, sdk.ClientAuthenticationError):
        return _AUTH
    if isinstance(error, _UNREACHED):
        return _AGAIN
    if isinstance(error, sdk.HttpResponseError) and error.response is None:
        # The connection broke in the middle of the answer.
        return _AGAIN
    if not isinstance(error, sdk.HttpResponseError):
        return _CONFLICT
    return _by_status(error.status_code or 0, has_code=bool(getattr(error.error, "code", None)))


def _by_status(status: int, *, has_code: bool) -> Meaning:
    # 529 is Azure Monitor's own word for it ("How to migrate from the metrics API to the getBatch API").
    if status in (429, 529):
        return _THROTTLED
    if status in (408, 502, 503, 504):
        return _AGAIN
    if status in (401, 403):
        return _AUTH if status == 401 else _DENIED
    # Resource Manager gives each refusal a code. One without was cut short, or something on the way has spoken: it proves nothing, and a 404
    # least of all that something is gone.
    return _AGAIN if status >= 400 and not has_code else _CONFLICT


def _retry_after(error: Exception) -> float | None:
    """Seconds that Azure asks to wait, from whichever of its headers has them."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    for name, unit in (("retry-after-ms", 1000), ("x-ms-retry-after-ms", 1000), ("Retry-After", 1)):
        text = str(headers.get(name) or "")
        if text.replace(".", "", 1).isdigit():
            return float(text) / unit
    return None


def _hint(meaning: Meaning, said: Said, place: Place) -> str:
    if said.code == _UNREGISTERED:
        named = _NAMESPACE.search(said.message)
        namespace = named[1] if named else "Microsoft.Compute"
        return f"`az provider register --namespace {namespace}`, once for the subscription"
    if (
        said.code in ("NotAvailableForSubscription", "RequestDisallowedByPolicy")
        or meaning.scope == "region"
        and (meaning.kind is AccessDeniedError)
    ):
        return f"have {place.instance_type or 'it'} opened for the subscription in {place.region}, or leave the region out with exclude="
    return _HINTS.get(meaning.kind, "")


_HINTS: Final[dict[Kind, str]] = {
    CapacityError: "another zone, region, instance type or purchase may have it; keep_trying= waits for it",
    QuotaError: "ask for more at https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas",
    ThrottledError: "the same request may be sent again in a moment",
    TransientError: "the same request may be sent again; a launch with the same token",
    AuthError: "sign in again (`az login`), or check AZURE_CLIENT_ID, AZURE_TENANT_ID and the subscription",
    AccessDeniedError: "give this identity the role in docs/permissions/azure-role.json (Contributor has more than it)",
    InvalidRequestError: "change the request; sending it elsewhere does not help",
    ProviderError: "look the code up at https://aka.ms/arm-deployment-errors",
}
