"""Reads which zones of a region the project can use, and which machine and slice types they sell to it."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

from multicompute.clock import Clock
from multicompute.errors import MulticomputeError
from multicompute.provider import Availability
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.renewal import Renewal
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._errors import is_disabled
from multicompute_gcp._gang import AT_ONCE
from multicompute_gcp._names import last_segment, region_of
from multicompute_gcp._session import PAGE, Clients
from multicompute_gcp.tpu import _zones as tpu_zones

# The series that have GPUs, or that accept them. Machine types of other series are not read: there are many.
_SERIES: Final = "(a2|a3|a4|a4x|g2|g4|n1)-.*"
_KEPT_FOR: Final = timedelta(minutes=10)
_EVERYWHERE: Final = Place("gcp")
Answer = TypeVar("Answer")


class Places:
    """The places and types that a project can use. An answer for all regions is kept for some minutes."""

    def __init__(self, clients: Clients, clock: Clock, renewal: Renewal) -> None:
        self._clients = clients
        self._renewal = renewal
        self._zones = _Kept(self._read_zones, clock)
        self._machines = _Kept(self._read_machines, clock)
        self._tpu_zones = _Kept(self._read_tpu_zones, clock)

    def availability(self, region: str) -> Availability:
        """Return what the project can use in a region, see `Provider.availability`.

        N1 machine types are listed in every zone that has them, whether or not GPUs can be attached there.

        Raises:
            AccessDeniedError: Compute Engine is not enabled in the project.
        """
        place, notes = Place("gcp", region), list[str]()
        try:
            zones = self._read(self._zones, "zones", place, notes)
            machines = self._read(self._machines, "machine types", place, notes)
        except _NotEnabled as error:
            # Not an answer to keep: it can be enabled in a minute.
            raise error.cause from None
        tpu_zones, slices = self._slices(region, place, notes)
        known = None if zones is None or tpu_zones is None else {*zones.get(region, ()), *tpu_zones}
        if known is not None and not known:
            return Availability(
                region, refused=f"project {self._clients.project} has no zone there", notes=tuple(notes)
            )
        offered = None
        if machines is not None and slices is not None:
            offered = {name: tuple(sorted(places)) for name, places in (machines.get(region, {}) | slices).items()}
        names = None if known is None else {zone: zone for zone in sorted(known)}
        return Availability(region, zones=names, offered=offered, notes=tuple(notes))

    def _slices(
        self, region: str, place: Place, notes: list[str]
    ) -> tuple[list[str] | None, dict[str, set[str]] | None]:
        """Return the zones of a region that sell TPUs to the project, and the zones of each slice type."""
        try:
            listed = self._read(self._tpu_zones, "TPU zones", place, notes)
            if listed is None:
                return None, None
            here = [zone for zone in listed if region_of(zone) == region]
            types = self._read(lambda: self._slice_types(here, place), "TPU slice types", place, notes)
        except _NotEnabled:
            notes.append(f"{place}: the TPU API is not enabled in project {self._clients.project}, so it has no TPUs")
            return [], {}
        if types is None:
            return None, None
        found: dict[str, set[str]] = defaultdict(set)
        for zone, names in types.items():
            for name in names:
                found[name].add(zone)
        return [zone for zone, names in types.items() if names], dict(found)

    def _read(self, read: "Callable[[], Answer]", what: str, place: Place, notes: list[str]) -> Answer | None:
        """Return what `read` returns; None, and a note, if it can't be read.

        Raises:
            _NotEnabled: The API was never enabled in the project, which has nothing there.
        """
        try:
            # Renewed here, because an error becomes a note.
            return self._renewal.run(read)
        except MulticomputeError as error:
            if is_disabled(error):
                raise _NotEnabled(error) from error
            notes.append(f"{place}: {what} could not be read: {error.message}")
            return None

    def _slice_types(self, zones: Iterable[str], place: Place) -> dict[str, frozenset[str]]:
        zones = list(zones)
        types = in_parallel(lambda zone: tpu_zones.slice_types(self._clients, zone, place), zones, at_once=AT_ONCE)
        return dict(zip(zones, types, strict=True))

    def _read_zones(self) -> Mapping[str, list[str]]:
        """Return the zones that are up, by region."""
        found: dict[str, list[str]] = defaultdict(list)
        url, fields = self._clients.compute_url("zones"), "items(name,region,status),nextPageToken"
        for page in self._clients.pages(url, "zones.list", _EVERYWHERE, maxResults=PAGE, fields=fields):
            for item in page.get("items", ()):
                if item.get("status", "UP") == "UP":
                    found[last_segment(item["region"])].append(str(item["name"]))
        return found

    def _read_machines(self) -> Mapping[str, dict[str, set[str]]]:
        """Return the zones of each machine type of the series with GPUs, by region."""
        found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        fields = "items/*/machineTypes(name,zone),items/*/warning/code,nextPageToken,unreachables"
        for item in self._clients.aggregated("machineTypes", _EVERYWHERE, filter=f'name eq "{_SERIES}"', fields=fields):
            zone = last_segment(item["zone"])
            found[region_of(zone)][str(item["name"])].add(zone)
        return {region: dict(machines) for region, machines in found.items()}

    def _read_tpu_zones(self) -> list[str]:
        return tpu_zones.zones(self._clients, _EVERYWHERE)


class _NotEnabled(Exception):
    """An API that was never enabled in the project; `cause` is Google's answer."""

    def __init__(self, cause: MulticomputeError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Kept(Generic[Answer]):
    """An answer that is read by one thread while the others wait for it, and kept for some minutes; an error is not kept."""

    def __init__(self, read: Callable[[], Answer], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._answer: tuple[datetime, Answer] | None = None

    def __call__(self) -> Answer:
        with self._lock:
            if self._answer is None or self._clock.now() > self._answer[0] + _KEPT_FOR:
                self._answer = (self._clock.now(), self._read())
            return self._answer[1]
