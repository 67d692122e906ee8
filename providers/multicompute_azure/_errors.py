"""Azure's error codes: the table of their meanings, and the translation of what its SDK raises."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from azure.core import exceptions as sdk

from multicompute.errors import (
    AccessDeniedError,
    AuthError,
    CapacityError,
    InvalidRequestError,
    MulticomputeError,
    ProviderError,
    QuotaError,
    ThrottledError,
)
from multicompute.provider_kit.vendor_errors import (
    COMMON_HINTS,
    DENIED,
    INVALID,
    INVALID_IN_REGION,
    INVALID_TYPE,
    MALFORMED,
    NO_CAPACITY_IN_REGION,
    NO_CAPACITY_IN_ZONE,
    NOT_OFFERED_IN_ZONE,
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
    find_meaning,
    meaning_of,
    retry_after,
    translator,
)

log = logging.getLogger("multicompute.azure")

_DENIED_EVERYWHERE: Final = Meaning(AccessDeniedError, "account")
_DENIED_TYPE: Final = Meaning(AccessDeniedError, "type")
_NOT_SOLD: Final = "is not available in the current region"
_UNREGISTERED: Final = "MissingSubscriptionRegistration"
# "The subscription is not registered to use namespace 'Microsoft.Compute'. See https://aka.ms/rps-not-found for how to register."
_NAMESPACE: Final = re.compile(r"namespace '([\w.]+)'")

GROUP_NOT_FOUND: Final = "ResourceGroupNotFound"
PARTIAL: Final = "PartialScaleSet"
"""Our own code, where Azure's reason is not known any more: a scale set that failed with fewer instances than were requested."""

# The codes of Resource Manager ("Troubleshoot common Azure deployment errors") and of Compute ("Allocation failures", "Error codes of
# virtual machines"). The code decides and never the status: a lack of capacity arrives as 409, and in a long operation as 200. A code that is
# not here is ProviderError: denied and sold out must not look alike.
MEANINGS: Final[Meanings] = {
    "SkuNotAvailable": (NO_CAPACITY_IN_REGION,),
    "AllocationFailed": (NO_CAPACITY_IN_REGION,),
    "ZonalAllocationFailed": (NO_CAPACITY_IN_ZONE,),
    "OverconstrainedAllocationRequest": (NO_CAPACITY_IN_REGION,),
    "OverconstrainedZonalAllocationRequest": (NO_CAPACITY_IN_ZONE,),
    "SpotCapacityNotAvailable": (NO_CAPACITY_IN_REGION,),
    "SubnetIsFull": (NO_CAPACITY_IN_REGION,),
    PARTIAL: (NO_CAPACITY_IN_REGION,),
    "AvailabilityZoneNotSupported": (NOT_OFFERED_IN_ZONE,),
    # The subscription does not have the region, or the region does not have the service.
    "LocationNotAvailableForResourceType": (DENIED,),
    "LocationNotAvailableForResourceGroup": (DENIED,),
    "NoRegisteredProviderFound": (DENIED,),
    # "Error messages for Azure Spot Virtual Machines and scale sets". Nothing of it concerns machines that are bought on demand: a lack of
    # capacity or quota is one of this size and purchase.
    "SpotPriceGreaterThanProvidedMaxPrice": (INVALID,),
    "MaxPriceValueInvalid": (INVALID,),
    "AzureSpotFeatureNotEnabledForSubscription": (Meaning(QuotaError, "account"),),
    "AzureSpotIsNotSupportedForThisVMSize": (Meaning(CapacityError, "account", is_offered=False),),
    # A quota of cores has no code of its own, so the message decides. Compute uses the same code when it throttles ("Troubleshooting API
    # throttling errors").
    "OperationNotAllowed": (
        Meaning(ThrottledError, "request", "too many requests"),
        Meaning(QuotaError, "region", "quota"),
        Meaning(QuotaError, "region", "Quota"),
        UNKNOWN,
    ),
    "QuotaExceeded": (QUOTA_OF_REGION,),
    "ResourceQuotaExceeded": (QUOTA_OF_REGION,),
    "PublicIPCountLimitReached": (QUOTA_OF_REGION,),
    "QuotaId": (QUOTA_OF_REGION,),
    "NotAvailableForSubscription": (_DENIED_TYPE,),
    # The name of the policy is the only sign of what it refuses; the built-in ones are "Allowed locations" and "Allowed virtual machine size SKUs".
    "RequestDisallowedByPolicy": (_DENIED_TYPE._replace(wording=r"(?i)\bskus?\b|\bsizes?\b"), DENIED),
    # "This policy maintains a set of best available regions where your subscription can deploy resources" (Azure/azure-cli#32567).
    "RequestDisallowedByAzure": (DENIED,),
    # A ReadOnly lock also refuses launches. One on a resource group does not reach over the group's region.
    "ScopeLocked": (_DENIED_EVERYWHERE._replace(wording=r"locked: '/subscriptions/[^/']+'"), DENIED),
    "DenyAssignmentAuthorizationFailed": (
        _DENIED_EVERYWHERE._replace(wording=r"at scope '/subscriptions/[^/']+'"),
        DENIED,
    ),
    # A role that is missing for the subscription as a whole; or for a resource group, which is in one region.
    "AuthorizationFailed": (_DENIED_EVERYWHERE._replace(wording=r"over scope '/subscriptions/[^/']+'"), DENIED),
    # What the request refers to may not be used: an image, a subnet, an identity, which another region may have.
    "LinkedAuthorizationFailed": (DENIED,),
    "ReadOnlyDisabledSubscription": (_DENIED_EVERYWHERE,),
    _UNREGISTERED: (_DENIED_EVERYWHERE,),
    "MarketplacePurchaseEligibilityFailed": (DENIED,),
    "InvalidAuthenticationToken": (UNAUTHENTICATED,),
    "InvalidAuthenticationTokenTenant": (UNAUTHENTICATED,),
    "ExpiredAuthenticationToken": (UNAUTHENTICATED,),
    "AuthenticationFailed": (UNAUTHENTICATED,),
    "ClientAuthenticationError": (UNAUTHENTICATED,),
    "CredentialUnavailableError": (UNAUTHENTICATED,),
    "SubscriptionNotFound": (UNAUTHENTICATED,),
    "TooManyRequests": (THROTTLED,),
    "SubscriptionRequestsThrottled": (THROTTLED,),
    "ResourceCollectionRequestsThrottled": (THROTTLED,),
    # Another operation on the same resource has not ended yet; after it, the same request is accepted.
    "RetryableError": (TRANSIENT,),
    "Conflict": (TRANSIENT,),
    "AnotherOperationInProgress": (TRANSIENT,),
    "ResourceGroupBeingDeleted": (TRANSIENT,),
    "InternalServerError": (TRANSIENT,),
    "InternalExecutionError": (TRANSIENT,),
    # "Common error messages in Azure virtual machines".
    "InternalOperationError": (TRANSIENT,),
    "NetworkingInternalOperationError": (TRANSIENT,),
    "VMArtifactRepositoryInternalError": (TRANSIENT,),
    "ServiceUnavailable": (TRANSIENT,),
    "ServerTimeout": (TRANSIENT,),
    "GatewayTimeout": (TRANSIENT,),
    "OSProvisioningTimedOut": (TRANSIENT,),
    "InUseSubnetCannotBeDeleted": (TRANSIENT,),
    "NicReservedForAnotherVm": (TRANSIENT,),
    "PropertyChangeNotAllowed": (UNKNOWN,),
    "ResourceNotFound": (UNKNOWN,),
    GROUP_NOT_FOUND: (UNKNOWN,),
    "NotFound": (UNKNOWN,),
    "InvalidParameter": (
        Meaning(CapacityError, "region", _NOT_SOLD, is_offered=False),
        # "In region eastus, the following list of Shared Image Gallery images referenced ... were not found" (bicep-registry-modules#462).
        Meaning(InvalidRequestError, "region", "Shared Image Gallery images referenced"),
        # Most of these speak of the size, or of the image for it: "The VM size ... is not supported for creation of VMs and Virtual Machine
        # Scale Set with '<NULL>' security type" (skyplane-project/skyplane#755).
        INVALID_TYPE,
    ),
    "BadRequest": (_DENIED_TYPE._replace(wording="is not supported for subscription"), INVALID_TYPE),
    "InvalidTemplateDeployment": (INVALID,),
    "InvalidRequestContent": (MALFORMED,),
    "InvalidRequestFormat": (MALFORMED,),
    "MissingApiVersionParameter": (MALFORMED,),
    "InvalidApiVersionParameter": (MALFORMED,),
    "LinkedInvalidPropertyId": (INVALID_TYPE,),
    "VMExtensionProvisioningError": (INVALID,),
    # The default image depends on the size.
    "ImageNotFound": (INVALID_TYPE,),
    "PlatformImageNotFound": (INVALID_TYPE,),
    "GalleryImageNotFound": (INVALID_IN_REGION,),
    "VMMarketplaceInvalidInput": (INVALID_IN_REGION,),
}

# Codes that only report the failure of an inner operation; the reason is in their details.
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
_GONE: Final = frozenset({"ResourceNotFound", GROUP_NOT_FOUND, "NotFound", "ParentResourceNotFound"})
# Access to a size or a region that is granted to a subscription, not to an identity.
_NOT_OPEN: Final = frozenset(
    {
        "NotAvailableForSubscription",
        "RequestDisallowedByPolicy",
        "RequestDisallowedByAzure",
        "QuotaId",
        "LocationNotAvailableForResourceType",
        "LocationNotAvailableForResourceGroup",
        "NoRegisteredProviderFound",
    }
)
# What helps against a code where the hint for its kind does not.
_OTHER_HINTS: Final = {
    "AzureSpotFeatureNotEnabledForSubscription": "buy on demand, or use a subscription that may have spot machines",
    "MarketplacePurchaseEligibilityFailed": "accept the image's terms once: `az vm image terms accept --urn URN`",
    "VMMarketplaceInvalidInput": "the image is sold with a plan that could not be read; let this identity read marketplace and gallery images",
    "LinkedAuthorizationFailed": "let this identity use the image, the subnet and the identity that the request refers to",
}
_GUARDS: Final = {
    "ScopeLocked": "remove the lock: `az lock list` shows it",
    "DenyAssignmentAuthorizationFailed": "use another resource group or subscription, or change what has assigned the denial",
}
# "Policy identifiers: '[{"policyAssignment":{"name":"Allowed locations","id":...}}]'" (MicrosoftDocs/azure-docs#61789).
_POLICY: Final = re.compile(r'"policyAssignment":\{"name":"([^"]{1,80})')
_HINTS: Final[Mapping[Kind, str]] = {
    **COMMON_HINTS,
    QuotaError: "request more at https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas",
    AuthError: "sign in again (`az login`), or check AZURE_CLIENT_ID, AZURE_TENANT_ID and the subscription",
    AccessDeniedError: "give this identity the role in docs/permissions/azure-role.json, or Contributor, which has more",
    ProviderError: "look the code up at https://aka.ms/arm-deployment-errors",
}


def is_gone(code: str | None) -> bool:
    """Return whether an answer means that what the call was about does not exist."""
    return code in _GONE


def answer_of(error: Exception) -> VendorAnswer:
    """Return Azure's code and message in what the SDK raised; for a wrapper, those of the error inside."""
    response = getattr(error, "response", None)
    found = answer_in(error.error) if isinstance(error, sdk.HttpResponseError) else None
    if found is None:
        code = type(error).__name__ if response is None else ""
        found = VendorAnswer(code, str(getattr(error, "message", error)))
    headers = getattr(response, "headers", None) or {}
    return replace(found, status=getattr(error, "status_code", 0) or 0, retry_after=retry_after(headers))


def answer_behind(error: MulticomputeError) -> VendorAnswer:
    """Return Azure's answer that an error of this package was raised for, with its complete message."""
    cause = error.__cause__
    return answer_of(cause) if isinstance(cause, sdk.AzureError) else VendorAnswer(error.code or "", error.message)


def answer_in(error: Any) -> VendorAnswer | None:
    """Return the code and message in an error as a document has it, or as the SDK has read it; None without a code.

    For a wrapper, and for a code that is in no table, they are those of the first of its details whose code is in the table.
    """

    def member(name: str) -> Any:
        return error.get(name) if isinstance(error, Mapping) else getattr(error, name, None)

    code = str(member("code") or "")
    if not code:
        return None
    if code in _WRAPPERS and (inner := _inner(str(member("message") or ""))) is not None:
        return inner
    if code in _WRAPPERS or code not in MEANINGS:
        for detail in map(answer_in, member("details") or ()):
            if detail is not None and detail.code in MEANINGS:
                return detail
    return VendorAnswer(code, str(member("message") or ""))


def _inner(message: str) -> VendorAnswer | None:
    """Return the answer that a wrapper has as JSON text in place of a message (MicrosoftDocs/azure-docs#88211); None for plain text."""
    try:
        found = json.loads(message)
    except ValueError:
        return None
    return answer_in(found.get("error") or found) if isinstance(found, dict) else None


def translate(error: Exception, operation: str, place: Place) -> MulticomputeError:
    """Return the error of this package for what the SDK raised; the caller raises it from `error`."""
    answer = answer_of(error)
    meaning = find_meaning(MEANINGS, answer) or _meaning_of_type(error) or meaning_of(MEANINGS, answer)
    is_answered = isinstance(error, sdk.HttpResponseError) and error.response is not None
    return _error(meaning, answer, operation, place, outcome="was refused" if is_answered else "has no answer")


translate_errors = translator((sdk.AzureError,), translate, log)


def failed_operation(answer: VendorAnswer, operation: str, place: Place) -> MulticomputeError:
    """Return the error for a long-running operation that ended with this answer."""
    return _error(meaning_of(MEANINGS, answer), answer, operation, place, outcome="failed")


def refused_request(status: int, document: Mapping[str, Any], operation: str, place: Place) -> MulticomputeError:
    """Return the error for one of several answers that came in one response."""
    answer = replace(answer_in(document.get("error") or document) or VendorAnswer(""), status=status)
    return _error(meaning_of(MEANINGS, answer), answer, operation, place, outcome="was refused")


def restricted_size(code: str, place: Place) -> MulticomputeError:
    """Return the error for a size that Azure lists as restricted, by this code, for the subscription in a region."""
    answer = VendorAnswer(code)
    meaning = find_meaning(MEANINGS, answer) or _DENIED_TYPE
    return _error(meaning, answer, "the size", place, outcome="is not available to the subscription")


def foreign_resource(kind: str, name: str, place: Place) -> MulticomputeError:
    """Return the error for a resource that has a name of ours but not our tags, and so must not be changed (I9)."""
    return ProviderError(
        f"{place}: a {kind} {name} exists and is not ours",
        provider="azure",
        region=place.region,
        code="ResourceAlreadyExists",
        hint="delete it, or use another cluster name",
    )


@contextmanager
def requiring(permission: str) -> Iterator[None]:
    """Name `permission` in the hint of any denial that is raised inside."""
    try:
        yield
    except AccessDeniedError as error:
        if error.code != _UNREGISTERED:
            error.hint = f"it needs {permission}, which the role in docs/permissions/azure-role.json has"
        raise


def _error(meaning: Meaning, answer: VendorAnswer, operation: str, place: Place, *, outcome: str) -> MulticomputeError:
    if meaning.kind is CapacityError and meaning.is_offered and place.zone:
        # Azure uses the same codes for a zone and for a region; a launch into one zone says nothing about the others.
        meaning = meaning._replace(scope="zone")
    hint = _hint(meaning, answer, place)
    return error_of(meaning, answer, operation=operation, place=place, hint=hint, outcome=outcome)


def _meaning_of_type(error: Exception) -> Meaning | None:
    """Return what an error without a known code means by its type; None if its status decides."""
    if isinstance(error, sdk.ClientAuthenticationError):
        return UNAUTHENTICATED
    # The connection may also break in the middle of an answer.
    is_cut = isinstance(error, sdk.HttpResponseError) and error.response is None
    return TRANSIENT if is_cut or isinstance(error, _UNREACHED) else None


def _hint(meaning: Meaning, answer: VendorAnswer, place: Place) -> str:
    if answer.code in _GUARDS:
        return _GUARDS[answer.code]
    if answer.code == _UNREGISTERED:
        named = _NAMESPACE.search(answer.message)
        return f"`az provider register --namespace {named[1] if named else 'Microsoft.Compute'}`, once for the subscription"
    if answer.code == "RequestDisallowedByPolicy" and (policy := _POLICY.search(answer.message)):
        what = place.instance_type if meaning.scope == "type" else place.region
        return f"the policy {policy[1]!r} refuses it; leave {what} out with exclude=, or have the policy changed"
    if answer.code in _OTHER_HINTS:
        return _OTHER_HINTS[answer.code]
    if answer.code in _NOT_OPEN or (meaning.kind is AccessDeniedError and meaning.scope == "type"):
        return f"have {place.instance_type or 'it'} opened for the subscription in {place.region}, or leave the region out with exclude="
    return _HINTS.get(meaning.kind, "")
