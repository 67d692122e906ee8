"""Turns what the SDK raises into errors of multicompute: one table, the place attached, the cause kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from fourth_sdk import ApiError, ConnectionLost

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


@dataclass(frozen=True, slots=True)
class Place:
    """Where, and for what, something was asked."""

    region: str | None = None
    zone: str | None = None
    instance_type: str | None = None

    def __str__(self) -> str:
        return " ".join(part for part in ("fourth", self.zone or self.region, self.instance_type) if part)


class Meaning(NamedTuple):
    """What a code means: the kind of error, what else it rules out, what to do next, and why a node ends that ends with it."""

    kind: type[MulticomputeError]
    scope: Scope
    hint: str
    cause: Cause = ""


_AGAIN: Final = "the same request may be sent again with the same token"

# The codes of Fourth's API reference. One that is not here is a ProviderError: denied and sold out must not look alike.
MEANINGS: Final = {
    "out_of_stock": Meaning(CapacityError, "zone", "another zone may have some", "capacity"),
    "not_sold_here": Meaning(CapacityError, "zone", "another zone may sell it", "capacity"),
    "quota_exceeded": Meaning(QuotaError, "region", "ask Fourth for a larger quota", "quota"),
    "rate_limited": Meaning(ThrottledError, "request", _AGAIN),
    "internal": Meaning(TransientError, "request", _AGAIN),
    "unauthorized": Meaning(AuthError, "account", "renew FOURTH_API_KEY"),
    "forbidden": Meaning(AccessDeniedError, "account", "give the key the right servers:write"),
    "invalid_request": Meaning(InvalidRequestError, "request", "mend the request", "request"),
    "preempted": Meaning(CapacityError, "zone", "another zone may have some", "preemption"),
    # Not the API's own words but those of a proxy on the way: what became of the request is not known.
    "http_429": Meaning(ThrottledError, "request", _AGAIN),
    "http_502": Meaning(TransientError, "request", _AGAIN),
    "http_503": Meaning(TransientError, "request", _AGAIN),
    "http_504": Meaning(TransientError, "request", _AGAIN),
}
_UNKNOWN: Final = Meaning(ProviderError, "request", "look the code up in Fourth's API reference")


def meaning_of(code: str) -> Meaning:
    """What a code means; one that nobody has heard of means just that."""
    return MEANINGS.get(code, _UNKNOWN)


@contextmanager
def translate_errors(what: str, place: Place) -> Iterator[None]:
    """Let nothing out of the block but errors of multicompute."""
    try:
        yield
    except ApiError as error:
        raise _translated(error, what, place) from error
    except ConnectionLost as error:
        raise TransientError(
            f"{place}: {what}: no answer: {error}",
            provider="fourth",
            region=place.region,
            zone=place.zone,
            instance_type=place.instance_type,
            hint=_AGAIN,
        ) from error


def _translated(error: ApiError, what: str, place: Place) -> MulticomputeError:
    meaning = meaning_of(error.code)
    found = meaning.kind(
        f"{place}: {what}: {error.message} [{error.code}]",
        provider="fourth",
        region=place.region,
        zone=place.zone,
        instance_type=place.instance_type,
        code=error.code,
        hint=meaning.hint,
        scope=meaning.scope,
    )
    found.vendor_message = error.message
    found.retry_after = error.retry_after
    if isinstance(found, CapacityError):
        found.is_offered = error.code != "not_sold_here"
    return found
