"""The shared part of launches of instances and of TPU slices: the choice of a zone, and all or nothing."""

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from multicompute.clock import Clock
from multicompute.errors import CapacityError
from multicompute.node import Node
from multicompute.provider import LaunchRequest, Selector
from multicompute.provider_kit.seam import all_or_nothing
from multicompute.provider_kit.vendor_errors import Place, retryable, unavailable_here
from multicompute_gcp._errors import unless_disabled

AT_ONCE: Final = 16
"""The number of concurrent calls where the API has no call for several resources."""
# An offer without a zone is tried in so many zones, one after the other.
_MAX_ZONES: Final = 3
_ROLLED_BACK_WITHIN: Final = timedelta(seconds=60)


class OpenZones:
    """A launcher of gangs whose offer leaves the zone open, in the zones of the region that have the type.

    Args:
        find: Returns the zones of the region of a place that have its instance type; called once per type and region.
        kind: What is launched, for messages.
    """

    def __init__(self, find: Callable[[Place], Iterable[str]], *, kind: str) -> None:
        self._find = find
        self._kind = kind
        self._zones: dict[tuple[str, str], tuple[str, ...]] = {}

    def launch(
        self,
        request: LaunchRequest,
        launch: Callable[[LaunchRequest], tuple[Node, ...]],
        *,
        used_zones: Callable[[LaunchRequest], Collection[str]],
    ) -> tuple[Node, ...]:
        """Launch `request` in the zones that it names or, where it names none, in the first zone that has capacity.

        Args:
            request: The request.
            launch: Launches a request in which every part has a zone.
            used_zones: Returns the zones in which an earlier launch with this token created something.
        """
        if all(part.offer.zone for part in request.parts):
            return launch(request)
        choices = [_in_zone(request, zone) for zone in self._zones_for(request)]
        # A repeated launch must not buy again in another zone.
        used = set(used_zones(request))
        choices = [choice for choice in choices if used <= {part.offer.zone for part in choice.parts}] or choices
        for choice in choices[:-1]:
            with suppress(CapacityError):
                return launch(choice)
        return launch(choices[-1])

    def _zones_for(self, request: LaunchRequest) -> tuple[str, ...]:
        place = Place.of(next(part.offer for part in request.parts if not part.offer.zone))
        key = (place.region, place.instance_type)
        if key not in self._zones:
            self._zones[key] = tuple(sorted(self._find(place)))
        if not self._zones[key]:
            raise unavailable_here(
                f"no zone of the region has this {self._kind}",
                code="NoZone",
                place=place,
                scope="region",
                hint="try another region",
                is_offered=False,
            )
        return self._zones[key][:_MAX_ZONES]


def _in_zone(request: LaunchRequest, zone: str) -> LaunchRequest:
    parts = tuple(
        part if part.offer.zone else replace(part, offer=replace(part.offer, zone=zone)) for part in request.parts
    )
    return replace(request, parts=parts)


def deleting_on_refusal(
    request: LaunchRequest, clock: Clock, delete: Callable[[datetime], bool]
) -> AbstractContextManager[None]:
    """Return the context that deletes what its body has created, if a part of the gang is refused (I4).

    Args:
        request: The launch.
        clock: The clock.
        delete: Deletes everything of the attempt and returns whether something still exists; repeated until nothing does. It may wait
            for the deletions, until the instant that it is given.

    Raises:
        MulticomputeError: The refusal; nothing of the attempt exists.
        TransientError: Something may exist; the engine repeats the launch.
    """
    place = Place("gcp", request.region)

    def roll_back() -> None:
        end = clock.now() + _ROLLED_BACK_WITHIN
        while unless_disabled(False, lambda: delete(end)):  # noqa: FBT003 - the answer of `delete`
            if clock.now() >= end:
                raise retryable("its deletion takes longer", code="NotReady", place=place)

    return all_or_nothing(place, roll_back)


def attempt_of(request: LaunchRequest) -> Selector:
    """Return the selector of everything that a launch has created."""
    return Selector(region=request.region, cluster_id=request.cluster_id, token=request.token)
