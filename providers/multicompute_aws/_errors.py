"""EC2's error codes: the table of their meanings, and the translation of what boto3 raises."""

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

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
    TransientError,
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
    retryable,
    translator,
)
from multicompute_aws._families import console_page, family_of

log = logging.getLogger("multicompute.aws")

# Other regions may accept the credentials; `Clients.refusal_of_region` finds out whether the account's home region does.
_UNKNOWN_KEY: Final = Meaning(AuthError, "region")
_NOT_OFFERED_IN_REGION: Final = Meaning(CapacityError, "region", is_offered=False)
_INVALID_IN_ZONE: Final = Meaning(InvalidRequestError, "zone")
_FREE_TIER: Final = "not eligible for Free Tier"
NOT_IN_MOTO: Final = "NotInMoto"
# EC2 documents no list of the endings; "Client.InvalidKMSKey.InvalidState" is the usual one.
KEY_REASON: Final = "Client.InvalidKMSKey"

# The codes of the EC2 API reference ("Error codes for the Amazon EC2 API") and of STS. A lack of capacity arrives as HTTP 500, so the code
# decides and never the status. A code that is not here is ProviderError: denied and sold out must not look alike.
MEANINGS: Final[Meanings] = {
    "InsufficientInstanceCapacity": (NO_CAPACITY_IN_ZONE,),
    "InsufficientHostCapacity": (NO_CAPACITY_IN_ZONE,),
    "InsufficientReservedInstanceCapacity": (NO_CAPACITY_IN_ZONE,),
    "InsufficientCapacityOnHost": (NO_CAPACITY_IN_ZONE,),
    "InsufficientCapacity": (NO_CAPACITY_IN_ZONE,),
    "InsufficientAddressCapacity": (NO_CAPACITY_IN_REGION,),
    "ReservationCapacityExceeded": (Meaning(CapacityError, "request"),),
    "UnfulfillableCapacity": (NO_CAPACITY_IN_ZONE,),
    "InsufficientSpotInstanceCapacity": (NO_CAPACITY_IN_ZONE,),
    "InsufficientFreeAddressesInSubnet": (NO_CAPACITY_IN_ZONE,),
    "InsufficientVolumeCapacity": (NO_CAPACITY_IN_ZONE,),
    # Mostly the type is not sold in the zone or in the region, and the message does not tell which
    # (https://github.com/hashicorp/terraform-provider-aws/issues/9113). Karpenter counts every "Unsupported" as a lack of capacity of the
    # type in the zone (aws/karpenter-provider-aws, pkg/errors/errors.go).
    "Unsupported": (
        INVALID_TYPE._replace(wording="Marketplace product"),
        NOT_OFFERED_IN_ZONE._replace(
            wording="requested Availability Zone|requested configuration is currently not supported"
        ),
        NO_CAPACITY_IN_ZONE,
    ),
    "InvalidInstanceType": (_NOT_OFFERED_IN_REGION,),
    "UnsupportedOperation": (INVALID_TYPE,),
    "VolumeTypeNotAvailableInZone": (_INVALID_IN_ZONE,),
    "UnsupportedHibernationConfiguration": (INVALID,),
    "InstanceLimitExceeded": (QUOTA_OF_REGION,),
    "VcpuLimitExceeded": (QUOTA_OF_REGION,),
    "MaxSpotInstanceCountExceeded": (QUOTA_OF_REGION,),
    "MaxSpotFleetRequestCountExceeded": (QUOTA_OF_REGION,),
    "MaxFleetCountExceeded": (QUOTA_OF_REGION,),
    "VolumeLimitExceeded": (QUOTA_OF_REGION,),
    "MaxIOPSLimitExceeded": (QUOTA_OF_REGION,),
    "AddressLimitExceeded": (QUOTA_OF_REGION,),
    "VpcLimitExceeded": (QUOTA_OF_REGION,),
    "SecurityGroupLimitExceeded": (QUOTA_OF_REGION,),
    "NetworkInterfaceLimitExceeded": (QUOTA_OF_REGION,),
    "SecurityGroupsPerInterfaceLimitExceeded": (QUOTA_OF_REGION,),
    "PlacementGroup.LimitExceeded": (QUOTA_OF_REGION,),
    "PlacementGroupLimitExceeded": (QUOTA_OF_REGION,),
    "ResourceLimitExceeded": (QUOTA_OF_REGION,),
    # The request has more instances than one call may have, which no other quota changes.
    "RequestResourceCountExceeded": (INVALID,),
    "ResourceCountExceeded": (INVALID,),
    # Of the spot offer; on demand the zone may have the type.
    "SpotMaxPriceTooLow": (INVALID,),
    "RequestLimitExceeded": (THROTTLED,),
    "Throttling": (THROTTLED,),
    "ThrottlingException": (THROTTLED,),
    "TooManyRequestsException": (THROTTLED,),
    "EC2ThrottledException": (THROTTLED,),
    "SlowDown": (THROTTLED,),
    "UnauthorizedOperation": (DENIED,),
    "AccessDenied": (DENIED,),
    "AccessDeniedException": (DENIED,),
    # Of a spot launch only: on demand needs no such role.
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": (DENIED._replace(scope="request"),),
    # Also "Not authorized for images: [ami-...]", about an image of another account.
    "AuthFailure": (INVALID_IN_REGION._replace(wording="[Nn]ot authorized for images"), _UNKNOWN_KEY),
    "InvalidClientTokenId": (UNAUTHENTICATED,),
    # What other services than EC2 answer where a region is not enabled.
    "UnrecognizedClientException": (_UNKNOWN_KEY,),
    "ExpiredToken": (UNAUTHENTICATED,),
    "ExpiredTokenException": (UNAUTHENTICATED,),
    "RequestExpired": (UNAUTHENTICATED,),
    "SignatureDoesNotMatch": (UNAUTHENTICATED,),
    "IncompleteSignature": (UNAUTHENTICATED,),
    "MissingAuthenticationToken": (UNAUTHENTICATED,),
    # "In order to use this AWS Marketplace product you need to accept terms and subscribe" is about the image.
    "OptInRequired": (INVALID_IN_REGION._replace(wording="Marketplace"), DENIED),
    # "Your request for accessing resources in this region is being validated": https://github.com/skyplane-project/skyplane/issues/799
    "PendingVerification": (DENIED,),
    "Blocked": (UNAUTHENTICATED,),
    # The answer of a dry run that would have succeeded; `check` reads it before it gets here.
    "DryRunOperation": (TRANSIENT,),
    "IdempotentParameterMismatch": (UNKNOWN,),
    "IdempotentInstanceTerminated": (UNKNOWN,),
    "InvalidGroup.Duplicate": (UNKNOWN,),
    "InvalidPlacementGroup.Duplicate": (UNKNOWN,),
    "OperationNotPermitted": (UNKNOWN,),
    # EC2 is eventually consistent: an instance that was just launched may not be known yet, so "not found" is worth repeating.
    "InvalidInstanceID.NotFound": (TRANSIENT,),
    "InvalidPlacementGroup.InUse": (TRANSIENT,),
    "DependencyViolation": (TRANSIENT,),
    "IncorrectInstanceState": (TRANSIENT,),
    # The same of groups: https://github.com/aws/aws-sdk-js/issues/318, https://github.com/hashicorp/packer/issues/1322. Configured groups are
    # listed before each launch.
    "InvalidGroup.NotFound": (TRANSIENT,),
    "InvalidPlacementGroup.Unknown": (TRANSIENT,),
    "InvalidAMIID.NotFound": (INVALID_IN_REGION,),
    "InvalidAMIID.Malformed": (INVALID,),
    "InvalidAMIID.Unavailable": (INVALID_IN_REGION,),
    "InvalidSubnetID.NotFound": (INVALID_IN_REGION,),
    "InvalidVpcID.NotFound": (INVALID_IN_REGION,),
    "VPCIdNotSpecified": (INVALID_IN_REGION,),
    "DefaultVpcDoesNotExist": (INVALID_IN_REGION,),
    "MissingInput": (_INVALID_IN_ZONE,),
    "InvalidKeyPair.NotFound": (INVALID_IN_REGION,),
    "InvalidLaunchTemplateId.NotFound": (INVALID,),
    "InvalidCapacityReservationId.NotFound": (INVALID,),
    "InvalidParameter": (INVALID,),
    # What RunInstances answers to a type that the region does not know.
    "InvalidParameterValue": (
        _NOT_OFFERED_IN_REGION._replace(wording=r"Invalid value '[^']*' for InstanceType"),
        INVALID,
    ),
    # An account on the free plan can launch some small types only, in all regions:
    # https://github.com/aws/karpenter-provider-aws/pull/9004
    "InvalidParameterCombination": (Meaning(QuotaError, "account", _FREE_TIER), INVALID),
    "InvalidBlockDeviceMapping": (INVALID,),
    "MissingParameter": (MALFORMED,),
    "UnknownParameter": (MALFORMED,),
    "InvalidAction": (INVALID,),
    "InvalidQueryParameter": (INVALID,),
    "MalformedQueryString": (INVALID,),
    "ValidationError": (INVALID,),
    "ValidationException": (INVALID,),
    "InvalidUserData.Malformed": (INVALID,),
    "TagLimitExceeded": (INVALID,),
    "CustomerKeyHasBeenRevoked": (INVALID_IN_REGION,),
    "InternalError": (TRANSIENT,),
    "InternalFailure": (TRANSIENT,),
    "InternalServerError": (TRANSIENT,),
    "InternalServiceError": (TRANSIENT,),
    "InternalServiceFault": (TRANSIENT,),
    "Unavailable": (TRANSIENT,),
    "ServiceUnavailable": (TRANSIENT,),
    "RequestTimeout": (TRANSIENT,),
    # Why an instance stopped (StateReason). Never raised, but a node's reason is looked up in the same table.
    "Server.InsufficientInstanceCapacity": (NO_CAPACITY_IN_ZONE,),
    "Server.SpotInstanceTermination": (PREEMPTED,),
    "Server.SpotInstanceShutdown": (PREEMPTED,),
    "Server.InternalError": (Meaning(TransientError, "zone"),),
    "Client.VolumeLimitExceeded": (QUOTA_OF_REGION,),
    # Both are the answer where the key for EBS encryption, which each region has its own default of, can't be used.
    "Client.InternalError": (INVALID_IN_REGION,),
    KEY_REASON: (INVALID_IN_REGION,),
    "Client.InvalidSnapshot.NotFound": (INVALID_IN_REGION,),
}

_UNREACHED: Final = (
    sdk.HTTPClientError,
    sdk.ConnectionError,
    sdk.IncompleteReadError,
    sdk.ChecksumError,
    ResponseParserError,
)
_UNAUTHENTICATED: Final = (
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

# Operations of other services than EC2, for the hint where an answer does not name the missing permission.
_SERVICES: Final = {
    "GetMetricData": "cloudwatch",
    "ListMetrics": "cloudwatch",
    "ListServiceQuotas": "servicequotas",
    "GetProducts": "pricing",
    "GetParameter": "ssm",
    "GetCallerIdentity": "sts",
}
_HINTS: Final[Mapping[Kind, str]] = {
    **COMMON_HINTS,
    AuthError: "sign in again (`aws sso login`, `aws configure`) or check AWS_PROFILE and the machine's clock",
    ProviderError: "look the code up in the EC2 API's list of error codes",
}

_COMPLETE_MOTO: Final = (
    "add it with `from multicompute.testing import complete_moto` and `with mock_aws(), complete_moto():`,"
    " or the pytest fixture complete_moto"
)
# The next step where neither the kind of the error nor the action decides it: the code, a part of the message, and the hint.
_SPECIAL_HINTS: Final = (
    ("OptInRequired", "Marketplace", "accept the terms on that page, or name another image with image="),
    ("OptInRequired", "", "`aws account enable-region` enables the region; exclude= leaves it out"),
    (
        "PendingVerification",
        "",
        "AWS sends an e-mail when it has verified the account for the region; exclude= leaves it out",
    ),
    ("InvalidParameterCombination", _FREE_TIER, "upgrade the account to the paid plan in the Billing console"),
    ("VPCIdNotSpecified", "", "`aws ec2 create-default-vpc` makes a VPC; [providers.aws] vpc names another"),
)

_ZONE_NAMES: Final = re.compile(r"\b[a-z]{2,}(?:-[a-z]+)+-\d+(?:-[a-z]+-\d+)?[a-z]\b")
_CHOOSING: Final = re.compile(r"or choosing (.+?)\.?\s*$", re.DOTALL)
ACTION: Final = re.compile(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)")
# A long opaque blob that only a caller with the permission to decode it can read.
_BLOB: Final = re.compile(r"Encoded authorization failure message:.*", re.DOTALL)


def code_of(error: BaseException) -> str:
    """Return EC2's code of a `ClientError`, "" for anything else."""
    if isinstance(error, sdk.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def reason_code(code: str) -> str:
    """Return the code to look up in MEANINGS for the code of an instance's state reason."""
    return KEY_REASON if code.startswith(f"{KEY_REASON}.") else code


def is_denial(code: str) -> bool:
    """Return whether a code means that a policy denies the call."""
    return any(meaning.kind is AccessDeniedError for meaning in MEANINGS.get(code, ()))


def message_of(error: BaseException) -> str:
    """Return the vendor's message, without what only the vendor can decode."""
    text = str(error)
    if isinstance(error, sdk.ClientError):
        text = str(error.response.get("Error", {}).get("Message", "")) or text
    return _BLOB.sub("(encoded; `aws sts decode-authorization-message` shows more)", text)


def zones_with_capacity(message: str) -> tuple[str, ...]:
    """Return the zones that a capacity error recommends instead: "... or choosing us-east-1b, us-east-1c."."""
    advice = _CHOOSING.search(message)
    return tuple(dict.fromkeys(_ZONE_NAMES.findall(advice[1]))) if advice else ()


def translate(error: Exception, operation: str, place: Place) -> MulticomputeError:
    """Return the error of this package for what boto3 raised; the caller raises it from `error`."""
    if isinstance(error, NotImplementedError):
        return lacking_in_moto(operation, place)
    message = message_of(error)
    if not isinstance(error, sdk.ClientError):
        answer = VendorAnswer(type(error).__name__, message)
        meaning = _meaning_of_type(error)
        hint = _hint(meaning, answer, operation, place)
        return error_of(meaning, answer, operation=operation, place=place, hint=hint, outcome="has no answer")
    metadata, code = error.response.get("ResponseMetadata", {}), code_of(error)
    status = metadata.get("HTTPStatusCode", 0)
    answer = VendorAnswer(
        # For a proxy's page, which has no code, the SDK reports the status as the code.
        "" if code == str(status) else code,
        message,
        status,
        retry_after=retry_after(metadata.get("HTTPHeaders", {})),
        zones=zones_with_capacity(message),
    )
    meaning = meaning_of(MEANINGS, answer)
    return error_of(meaning, answer, operation=operation, place=place, hint=_hint(meaning, answer, operation, place))


# NotImplementedError: moto raises it through the SDK for what it lacks.
translate_errors = translator(
    (sdk.ClientError, sdk.BotoCoreError, ResponseParserError, NotImplementedError), translate, log
)


def lacking_in_moto(operation: str, place: Place, what: str = "this call") -> MulticomputeError:
    """Return the error for a call that moto, in which a test runs, can't answer. No other place can, either."""
    answer = VendorAnswer(NOT_IN_MOTO, f"this is moto, which lacks {what}")
    return error_of(MALFORMED, answer, operation=operation, place=place, hint=_COMPLETE_MOTO)


def is_from_moto(metadata: Mapping[str, Any]) -> bool:
    """Return whether an answer comes from moto, by its header "Server"; `metadata` is the SDK's ResponseMetadata of the answer."""
    return "amazon.com" in str(metadata.get("HTTPHeaders", {}).get("server", ""))


def refuse_error_pages(response_dict: dict[str, Any], operation_model: Any, **_: object) -> None:
    """Refuse the page with which a moto server answers a call that it lacks; a handler of the SDK's event `before-parse`.

    The page of a launch may hide that instances were created, so it stays an answer that proves nothing.

    Raises:
        NotImplementedError: The answer is this page, as `mock_aws` raises it.
    """
    is_page = response_dict["status_code"] == 500 and b"<html" in response_dict["body"][:100]
    if is_page and "Werkzeug" in response_dict["headers"].get("server", "") and operation_model.name != "RunInstances":
        raise NotImplementedError(f"The action {operation_model.name} has failed in the moto server")


def member(answer: Mapping[str, Any], name: str, place: Place) -> Any:
    """Return a member that every complete answer has: the SDK reads JSON that was cut short as an answer without members.

    Raises:
        TransientError: It is missing.
    """
    if name not in answer:
        raise retryable(f"the answer was cut short: it has no {name}", code="BadAnswer", place=place)
    return answer[name]


def _meaning_of_type(error: Exception) -> Meaning:
    if isinstance(error, _UNREACHED):
        return TRANSIENT
    if isinstance(error, _UNAUTHENTICATED) or type(error).__name__.startswith("Login"):
        return UNAUTHENTICATED
    if isinstance(error, sdk.ParamValidationError):
        return MALFORMED
    return UNKNOWN


def _hint(meaning: Meaning, answer: VendorAnswer, operation: str, place: Place) -> str:
    special = next(
        (hint for code, wording, hint in _SPECIAL_HINTS if answer.code == code and wording in answer.message), ""
    )
    if special:
        return special
    if meaning.kind is QuotaError:
        return _quota_hint(place)
    if meaning.kind is AccessDeniedError:
        named = ACTION.search(answer.message)
        action = named[1] if named else f"{_SERVICES.get(operation, 'ec2')}:{operation}"
        return f"allow the action {action} to this identity (docs/permissions/aws-policy.json lists all that are used)"
    return _HINTS.get(meaning.kind, "")


def _quota_hint(place: Place) -> str:
    family = family_of(place.instance_type, place.purchase) if place.instance_type else None
    if family is None:
        return f"request more at https://{place.region}.console.aws.amazon.com/servicequotas/home/services/ec2/quotas"
    return f"request more of {family.name!r} at {console_page(family.code, place.region)}"
