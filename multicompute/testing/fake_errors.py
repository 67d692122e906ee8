"""The fake cloud's error table: the words that tests inject, and what each means in the error tree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from multicompute import errors
from multicompute.errors import MulticomputeError, Scope
from multicompute.node import Cause
from multicompute.offer import Offer

NOT_OFFERED = "not-offered"
PASSING = frozenset({"throttled", "transient", "auth", "denied"})
"""Codes that a launch which is repeated may meet, too: they say nothing of what the first call came to."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one code of the fake cloud means."""

    kind: type[MulticomputeError]
    scope: Scope
    what: str
    hint: str
    cause: Cause = ""
    """What a node's `cause` is that ends for this reason before it runs."""


MEANINGS: Mapping[str, Meaning] = MappingProxyType(
    {
        "capacity": Meaning(errors.CapacityError, "zone", "no capacity now", "another zone may have some", "capacity"),
        "capacity-region": Meaning(
            errors.CapacityError, "region", "no capacity now", "another region may have some", "capacity"
        ),
        NOT_OFFERED: Meaning(errors.CapacityError, "zone", "not sold here", "another zone may sell it", "capacity"),
        "reservation-full": Meaning(
            errors.CapacityError, "request", "the reservation has fewer nodes left", "ask for fewer nodes from it"
        ),
        "spot-price": Meaning(
            errors.CapacityError, "zone", "the spot price is above the highest you would pay", "raise max_price"
        ),
        "quota": Meaning(
            errors.QuotaError, "region", "the quota does not allow it", "ask the cloud for a larger quota", "quota"
        ),
        "throttled": Meaning(errors.ThrottledError, "request", "asked too often", "send the same request again later"),
        "transient": Meaning(errors.TransientError, "request", "the cloud failed", "send the same request again"),
        "auth": Meaning(errors.AuthError, "account", "the credentials are not accepted", "renew the credentials"),
        "denied": Meaning(errors.AccessDeniedError, "account", "not allowed", "have the missing right granted"),
        "invalid": Meaning(
            errors.InvalidRequestError, "request", "the request is not valid", "mend the request", "request"
        ),
    }
)
_UNKNOWN = Meaning(
    errors.ProviderError, "request", "an answer of no known kind", "look the code up in the cloud's manual"
)


def meaning_of(code: str) -> Meaning:
    """What `code` means; one that is in no table means an answer of no known kind."""
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
    """The error that stands for the fake cloud's `code`.

    Args:
        code: a key of `MEANINGS`; any other gives a ProviderError.
        message: the cloud's words; by default those that go with the code.
        provider, region: where it was asked.
        offer: what was asked for, if it was a launch.
        zones_with_capacity: zones that the answer names; only a lack of capacity names any.
        retry_after: seconds that the answer asks to wait.
    """
    meaning = meaning_of(code)
    region = offer.region if offer else region
    place = (offer.zone or offer.region) if offer else region or "every region"
    of_what = f", asked for {offer.instance_type} {offer.purchase}" if offer else ""
    return meaning.kind(
        f"{provider} {place}{of_what}: {message or meaning.what} [{code}]",
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
