"""Fourth's error codes: the table of their meanings, and the translation of what the SDK raises."""

import logging
from collections.abc import Mapping
from typing import Final

from fourth_sdk import ApiError, ConnectionLost

from multicompute.errors import AccessDeniedError, AuthError, MulticomputeError, ProviderError, QuotaError
from multicompute.provider_kit.vendor_errors import (
    COMMON_HINTS,
    DENIED,
    INVALID,
    NO_CAPACITY_IN_ZONE,
    NOT_OFFERED_IN_ZONE,
    PREEMPTED,
    QUOTA_OF_REGION,
    THROTTLED,
    TRANSIENT,
    UNAUTHENTICATED,
    Kind,
    Meanings,
    Place,
    VendorAnswer,
    error_of,
    meaning_of,
    translator,
)

# The codes of Fourth's API reference. One that is not here is a ProviderError: denied and sold out must not look alike.
MEANINGS: Final[Meanings] = {
    "out_of_stock": (NO_CAPACITY_IN_ZONE,),
    "not_sold_here": (NOT_OFFERED_IN_ZONE,),
    "quota_exceeded": (QUOTA_OF_REGION,),
    "rate_limited": (THROTTLED,),
    "internal": (TRANSIENT,),
    "unauthorized": (UNAUTHENTICATED,),
    "forbidden": (DENIED,),
    "invalid_request": (INVALID,),
    "preempted": (PREEMPTED,),
}
_HINTS: Final[Mapping[Kind, str]] = {
    **COMMON_HINTS,
    QuotaError: "request a larger quota from Fourth",
    AuthError: "renew FOURTH_API_KEY",
    AccessDeniedError: "give the key the permission servers:write",
    ProviderError: "look the code up in Fourth's API reference",
}


def translate(error: Exception, operation: str, place: Place) -> MulticomputeError:
    """Return the error of multicompute for what the SDK raised."""
    if isinstance(error, ApiError):
        # The answer of a proxy has no code of Fourth's; the SDK's code for it is "http_502".
        code = "" if error.code.startswith("http_") else error.code
        answer = VendorAnswer(code, error.message, error.status, error.retry_after)
        meaning, outcome = meaning_of(MEANINGS, answer), "was refused"
    else:
        answer, meaning, outcome = VendorAnswer("no_answer", str(error)), TRANSIENT, "has no answer"
    hint = _HINTS.get(meaning.kind, "")
    return error_of(meaning, answer, operation=operation, place=place, hint=hint, outcome=outcome)


translate_errors = translator((ApiError, ConnectionLost), translate, logging.getLogger(__name__))
