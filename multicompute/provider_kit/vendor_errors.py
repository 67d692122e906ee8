"""A vendor's error codes: the table of their meanings, and the errors raised for them.

An adapter's `_errors.py` holds the table `MEANINGS`, from the vendor's code to `Meaning`, and a function `translate` that reads what the
SDK raised into a `VendorAnswer` and returns the error for it, built by `error_of`. `translator` makes the context manager around SDK calls.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

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
from multicompute.offer import Offer, Purchase
from multicompute.provider_kit.call_log import logged_call

Kind = type[MulticomputeError]
_MESSAGE_LENGTH: Final = 200
_VENDOR_MESSAGE_LENGTH: Final = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """The place that a call is about; an error message begins with it.

    Attributes:
        provider: The provider's name.
        region, zone, instance_type: "" where the call is about none in particular.
        purchase: How the instance type is bought.
    """

    provider: str
    region: str = ""
    zone: str = ""
    instance_type: str = ""
    purchase: Purchase = "on_demand"

    @classmethod
    def of(cls, offer: Offer) -> "Place":
        """Return the place where `offer` is launched."""
        return cls(offer.provider, offer.region, offer.zone, offer.instance_type, offer.purchase)

    def __str__(self) -> str:
        """Return the provider, the zone or region, and the instance type, as messages begin: "aws us-east-1a p5.48xlarge"."""
        return " ".join(part for part in (self.provider, self.zone or self.region, self.instance_type) if part)


class Meaning(NamedTuple):
    """The meaning of a vendor's error code.

    Attributes:
        kind: The error to raise.
        scope: How much the answer rules out; "request" is no more than the refused offer.
        wording: A regular expression that must be found in the vendor's message for this meaning to hold; "" for any message.
        is_offered: False where the place does not sell what was asked for at all.
        is_preemption: Whether it is the reason of a node that the cloud has taken back.
    """

    kind: Kind
    scope: Scope
    wording: str = ""
    is_offered: bool = True
    is_preemption: bool = False


Meanings = Mapping[str, tuple[Meaning, ...]]
"""A vendor's error table: the meanings of each code, of which the first whose wording is in the message holds."""

NO_CAPACITY_IN_ZONE: Final = Meaning(CapacityError, "zone")
NO_CAPACITY_IN_REGION: Final = Meaning(CapacityError, "region")
NOT_OFFERED_IN_ZONE: Final = Meaning(CapacityError, "zone", is_offered=False)
PREEMPTED: Final = Meaning(CapacityError, "zone", is_preemption=True)
QUOTA_OF_REGION: Final = Meaning(QuotaError, "region")
THROTTLED: Final = Meaning(ThrottledError, "request")
TRANSIENT: Final = Meaning(TransientError, "request")
UNAUTHENTICATED: Final = Meaning(AuthError, "account")
DENIED: Final = Meaning(AccessDeniedError, "region")
"""A policy may deny one region or instance type only, and the answer does not say which."""
INVALID: Final = Meaning(InvalidRequestError, "request")
INVALID_TYPE: Final = Meaning(InvalidRequestError, "type")
INVALID_IN_REGION: Final = Meaning(InvalidRequestError, "region")
MALFORMED: Final = Meaning(InvalidRequestError, "account")
"""The meaning of an answer to a call that this adapter makes wrongly wherever it makes it."""
UNKNOWN: Final = Meaning(ProviderError, "request")
"""The meaning of a code that is in no table. Never a lack of capacity: denied and sold out must not look alike."""

# What a status means with any code that is in no table. Proxies and gateways answer with 408 and 502 to 504 in place of the service. 529 is
# Azure Monitor's for throttling ("How to migrate from the metrics API to the getBatch API").
_STATUSES: Final = {
    401: UNAUTHENTICATED,
    403: DENIED,
    408: TRANSIENT,
    429: THROTTLED,
    502: TRANSIENT,
    503: TRANSIENT,
    504: TRANSIENT,
    529: THROTTLED,
}

# The header of HTTP, and Azure's in milliseconds, which are more exact; with the number of units in a second.
_RETRY_AFTER: Final = (("retry-after-ms", 1000), ("x-ms-retry-after-ms", 1000), ("retry-after", 1))

COMMON_HINTS: Final[Mapping[Kind, str]] = {
    CapacityError: "another zone, region, instance type or purchase may have it; keep_trying= waits for it",
    ThrottledError: "the same request may be sent again in a moment",
    TransientError: "the same request may be sent again; a launch with the same token",
    InvalidRequestError: "change the request, or leave this place out with exclude=",
}
"""The next step after an error, where it is the same for all vendors; a provider adds its own for the other kinds."""

_CAUSES: Final[Mapping[Kind, Cause]] = {
    CapacityError: "capacity",
    QuotaError: "quota",
    InvalidRequestError: "request",
    AuthError: "request",
    AccessDeniedError: "request",
}


@dataclass(frozen=True, slots=True)
class VendorAnswer:
    """An error as the vendor reports it, in an answer or inside an operation.

    Attributes:
        code: The vendor's code; "" if the answer has none, because it was cut short or comes from something between us and the vendor.
        message: The vendor's message.
        status: The HTTP status, 0 where there is none.
        retry_after: Seconds that the vendor asks to wait.
        zones: Zones that the vendor recommends instead.
    """

    code: str
    message: str = ""
    status: int = 0
    retry_after: float | None = None
    zones: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The code, or the HTTP status of an answer without one: "HTTP502"."""
        return self.code or f"HTTP{self.status or ''}"


def one_line(text: str, length: int) -> str:
    """Return `text` without line breaks, cut to `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def find_meaning(meanings: Meanings, answer: VendorAnswer) -> Meaning | None:
    """Return what an answer means by a vendor's table; None if its code is not in the table, UNKNOWN if no wording fits."""
    if answer.code not in meanings:
        return None
    found = (item for item in meanings[answer.code] if re.search(item.wording, answer.message, re.DOTALL))
    return next(found, UNKNOWN)


def meaning_of(meanings: Meanings, answer: VendorAnswer) -> Meaning:
    """Return what an answer means: by a vendor's table or, if its code is not in the table, by its HTTP status."""
    found = find_meaning(meanings, answer) or _STATUSES.get(answer.status)
    if found is not None:
        return found
    # An answer without a code proves nothing: not even a 404 proves that something is gone.
    return UNKNOWN if answer.code or answer.status < 400 else TRANSIENT


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the headers of an answer ask to wait, None for none; the date form of Retry-After is not read."""
    by_name = {name.lower(): value for name, value in headers.items()}
    for name, unit in _RETRY_AFTER:
        text = by_name.get(name) or ""
        if text.replace(".", "", 1).isdecimal():
            return float(text) / unit
    return None


def cause_of(meanings: Meanings, answer: VendorAnswer) -> Cause:
    """Return the `cause` of a node that ended with this code and message; "" where the table gives it none of the causes."""
    meaning = find_meaning(meanings, answer) or UNKNOWN
    return "preemption" if meaning.is_preemption else _CAUSES.get(meaning.kind, "")


def error_of(
    meaning: Meaning,
    answer: VendorAnswer,
    *,
    operation: str,
    place: Place,
    hint: str = "",
    outcome: str = "was refused",
) -> MulticomputeError:
    """Return the error for a vendor's answer, with the place and the vendor's code and message attached.

    Args:
        meaning: What the answer means.
        answer: The vendor's answer.
        operation: The name of the call, in the vendor's terms.
        place: The place that the call was about.
        hint: What to do next.
        outcome: "was refused", "has no answer", "failed".
    """
    message = one_line(answer.message, _MESSAGE_LENGTH)
    shown = f"{answer.label}: {message}" if message else answer.label
    return _error(
        meaning,
        f"{place}: {operation} {outcome}: {shown}",
        code=answer.label,
        place=place,
        hint=hint,
        vendor_message=one_line(answer.message, _VENDOR_MESSAGE_LENGTH) or None,
        retry_after=answer.retry_after,
        zones=answer.zones,
    )


def unavailable_here(
    text: str, *, code: str, place: Place, scope: Scope, hint: str, is_offered: bool = True
) -> MulticomputeError:
    """Return the error for a place in which the adapter itself finds that a launch can't work.

    The next place may be able to take it, so it counts as a lack of capacity in `scope`.
    """
    meaning = Meaning(CapacityError, scope, is_offered=is_offered)
    return _error(meaning, f"{place}: {text}", code=code, place=place, hint=hint)


def invalid_request(text: str, *, code: str, place: Place, hint: str, scope: Scope = "request") -> MulticomputeError:
    """Return the error for a request that the adapter itself refuses."""
    return _error(Meaning(InvalidRequestError, scope), f"{place}: {text}", code=code, place=place, hint=hint)


def retryable(text: str, *, code: str, place: Place) -> MulticomputeError:
    """Return the error for what the cloud will know in a moment, so the same request must be sent again."""
    return _error(TRANSIENT, f"{place}: {text}", code=code, place=place, hint=COMMON_HINTS[TransientError])


def not_rolled_back(refusal: MulticomputeError, failure: MulticomputeError, *, place: Place) -> MulticomputeError:
    """Return the error for a gang of which a part was refused and another part could not be deleted.

    Nodes of the token may exist, so the refusal must not be reported as such: the engine repeats the launch.

    Args:
        refusal: Why a part was refused; raise the result from it.
        failure: Why the rest could not be deleted.
        place: The place of the launch.
    """
    text = f"{refusal.message}; and what had been launched could not be taken back: {failure.message}"
    return _error(TRANSIENT, text, code=failure.code or "", place=place, hint=COMMON_HINTS[TransientError])


def translator(
    sdk_errors: tuple[type[Exception], ...],
    translate: Callable[[Exception, str, Place], MulticomputeError],
    log: logging.Logger,
) -> Callable[[str, Place], AbstractContextManager[None]]:
    """Return the adapter's `translate_errors(operation, place)`, the context manager around the SDK calls of one operation.

    Args:
        sdk_errors: What the SDK raises; anything else passes through, as a bug.
        translate: Returns the error of this package for an SDK error, the operation and the place.
        log: The adapter's logger, which gets each call at debug level.
    """

    @contextmanager
    def translate_errors(operation: str, place: Place) -> Iterator[None]:
        with logged_call(log, operation, place.provider, str(place)):
            try:
                yield
            except sdk_errors as error:
                raise translate(error, operation, place) from error

    return translate_errors


def _error(
    meaning: Meaning,
    text: str,
    *,
    code: str,
    place: Place,
    hint: str,
    vendor_message: str | None = None,
    retry_after: float | None = None,
    zones: tuple[str, ...] = (),
) -> MulticomputeError:
    return meaning.kind(
        text,
        provider=place.provider,
        region=place.region or None,
        zone=place.zone or None,
        instance_type=place.instance_type or None,
        code=code or None,
        hint=hint or None,
        scope=meaning.scope,
        vendor_message=vendor_message,
        retry_after=retry_after,
        zones_with_capacity=zones,
        is_offered=meaning.is_offered,
    )
