"""The fake cloud's error table: the codes that tests inject, and the error of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from multicompute import errors
from multicompute.errors import MulticomputeError, Scope
from multicompute.node import Cause
from multicompute.offer import Offer

NOT_OFFERED = "not-offered"
PASSING = frozenset({"throttled", "transient", "auth", "denied", "denied-region"})
"""The codes that can refuse a repeated launch too, because they do not depend on the first call."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """The error that a code of the fake cloud means."""

    kind: type[MulticomputeError]
    scope: Scope
    what: str
    hint: str
    cause: Cause = ""
    """The `cause` of a node that fails to boot with this code."""


MEANINGS: Mapping[str, Meaning] = MappingProxyType(
    {
        "capacity": Meaning(errors.CapacityError, "zone", "no capacity now", "try another zone", "capacity"),
        "capacity-region": Meaning(errors.CapacityError, "region", "no capacity now", "try another region", "capacity"),
        NOT_OFFERED: Meaning(errors.CapacityError, "zone", "not sold here", "try another zone", "capacity"),
        "reservation-full": Meaning(
            errors.CapacityError, "request", "the reservation has fewer nodes left", "request fewer nodes from it"
        ),
        "spot-price": Meaning(errors.CapacityError, "zone", "the spot price is above max_price", "raise max_price"),
        "quota": Meaning(
            errors.QuotaError, "region", "the quota does not allow it", "request a larger quota from the cloud", "quota"
        ),
        "throttled": Meaning(
            errors.ThrottledError, "request", "too many requests", "send the same request again later"
        ),
        "transient": Meaning(errors.TransientError, "request", "the cloud failed", "send the same request again"),
        "auth": Meaning(errors.AuthError, "account", "the credentials are not accepted", "renew the credentials"),
        "denied": Meaning(errors.AccessDeniedError, "account", "not allowed", "get the missing permission"),
        "denied-region": Meaning(
            errors.AccessDeniedError, "region", "the region is not enabled", "enable the region, or try another one"
        ),
        "no-image": Meaning(
            errors.InvalidRequestError, "region", "the region does not have the image", "name one for it", "request"
        ),
        "invalid": Meaning(
            errors.InvalidRequestError, "request", "the request is not valid", "fix the request", "request"
        ),
        "invalid-type": Meaning(
            errors.InvalidRequestError, "type", "the type can't be launched so", "name another type", "request"
        ),
        "malformed": Meaning(
            errors.InvalidRequestError, "account", "the call is malformed", "report it as a bug", "request"
        ),
    }
)
_UNKNOWN = Meaning(errors.ProviderError, "request", "an unknown error", "look up the code in the cloud's documentation")


def meaning_of(code: str) -> Meaning:
    """Return the error that a code means; an unknown code means a ProviderError."""
    return MEANINGS.get(code, _UNKNOWN)


def refusal(
    code: str,
    message: str = "",
    *,
    provider: str,
    region: str | None = None,
    offer: Offer | None = None,
    zones_with_capacity: Sequence[str] = (),
    retry_after: float | None = None,
) -> MulticomputeError:
    """Return the error for a code of the fake cloud.

    Args:
        code: A key of `MEANINGS`; any other means a ProviderError.
        message: The cloud's message; by default the one in `MEANINGS`.
        provider: The provider's name.
        region: The region that was asked.
        offer: The offer of a launch; None for other calls.
        zones_with_capacity: The zones that the cloud names; only a CapacityError has them.
        retry_after: How many seconds the cloud asks the caller to wait.
    """
    meaning = meaning_of(code)
    region = offer.region if offer else region
    place = (offer.zone or offer.region) if offer else region or "every region"
    requested = f", requested {offer.instance_type} {offer.purchase}" if offer else ""
    return meaning.kind(
        f"{provider} {place}{requested}: {message or meaning.what} [{code}]",
        provider=provider,
        region=region,
        zone=(offer.zone or None) if offer else None,
        instance_type=offer.instance_type if offer else None,
        code=code,
        hint=meaning.hint,
        scope=meaning.scope,
        retry_after=retry_after,
        zones_with_capacity=zones_with_capacity if meaning.kind is errors.CapacityError else (),
        is_offered=code != NOT_OFFERED,
    )
