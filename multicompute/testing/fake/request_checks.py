"""The checks of a launch request: what no cloud accepts, and what breaks the contract of `Provider`."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from multicompute.offer import Part
from multicompute.provider import (
    TAG_ATTEMPT,
    TAG_CLUSTER,
    TAG_EXPIRES_AT,
    TAG_ID,
    TAG_OWNER,
    Capability,
    LaunchRequest,
    LifetimeLimit,
    Reservation,
    TagLimits,
    expiry_tag,
    longest_life,
)


def problems(
    request: LaunchRequest,
    provider: str,
    capabilities: Collection[Capability],
    limits: TagLimits | None,
    reservations: Mapping[str, Reservation],
    *,
    lifetime_limits: Sequence[LifetimeLimit] = (),
    now: datetime,
) -> Iterator[str]:
    """Yield every problem of a request."""
    if not request.parts or any(part.nodes < 1 for part in request.parts):
        yield "a launch needs parts of at least one node"
    if any(part.offer.provider != provider for part in request.parts):
        yield f"the offer is not one of {provider}"
    if len({part.offer.region for part in request.parts}) > 1:
        yield "the parts of a launch must be in one region"
    yield from _wrong_tags(request, limits)
    for part in request.parts:
        yield from _wrong_part(part, request, capabilities, reservations)
        end = latest_end(part, request, lifetime_limits, reservations, now)
        if request.expires_at is not None and end is not None and request.expires_at > end:
            yield f"the expiry {request.expires_at} is later than {end}, the end of {part.offer.instance_type} nodes"


def latest_end(
    part: Part,
    request: LaunchRequest,
    limits: Sequence[LifetimeLimit],
    reservations: Mapping[str, Reservation],
    now: datetime,
) -> datetime | None:
    """Return when the cloud terminates the nodes of a part whatever their expiry is; None for never."""
    has_expiry = request.expires_at is not None
    longest = longest_life(limits, part.offer.instance, part.offer.purchase, has_expiry=has_expiry)
    held = reservations.get(part.reservation or "")
    ends = [None if longest is None else now + longest, held.ends_at if held else None]
    return min((end for end in ends if end is not None), default=None)


def _wrong_tags(request: LaunchRequest, limits: TagLimits | None) -> Iterator[str]:
    # Tagged at its creation (I2): a fake that accepted this would hide a leak on a real cloud.
    ours = {
        TAG_CLUSTER: request.cluster_name,
        TAG_ID: request.cluster_id,
        TAG_ATTEMPT: request.token,
        TAG_OWNER: request.owner,
        TAG_EXPIRES_AT: expiry_tag(request.expires_at),
    }
    for key, value in ours.items():
        if request.tags.get(key) != value:
            yield f"the tag {key} must be {value!r}, not {request.tags.get(key)!r}"
    if limits is None:
        return
    users = {key: value for key, value in request.tags.items() if key not in ours}
    if len(users) > limits.count:
        yield f"{len(users)} tags of the user; at most {limits.count} are allowed"
    for key, value in users.items():
        if len(key) > limits.key_length or len(value) > limits.value_length:
            yield f"the tag {key!r} is too long"
        if limits.reserved_prefixes and key.lower().startswith(limits.reserved_prefixes):
            yield f"the tag {key!r} begins with a reserved prefix"


def _wrong_part(
    part: Part,
    request: LaunchRequest,
    capabilities: Collection[Capability],
    reservations: Mapping[str, Reservation],
) -> Iterator[str]:
    offer = part.offer
    needed = {"spot": Capability.SPOT, "flex_start": Capability.FLEX_START}.get(offer.purchase)
    if part.reservation is not None:
        needed = Capability.RESERVATIONS
    if needed is not None and needed not in capabilities:
        yield f"the provider does not declare {needed}"
    elif part.reservation is not None:
        held = reservations.get(part.reservation)
        if held is None:
            yield f"the reservation {part.reservation} does not exist"
        elif (held.zone, held.instance_type) != (offer.zone, offer.instance_type):
            yield f"the reservation {part.reservation} is for {held.instance_type} in {held.zone}"
    if request.fabric and not offer.instance.fabric:
        yield f"{offer.instance_type} has no fabric"
