"""The zones of an offer that a spec allows and in which the account can use it."""

from collections.abc import Mapping

from multicompute.offer import InstanceType
from multicompute.provider import Availability
from multicompute.resolver import _reasons as reasons
from multicompute.resolver._catalog_index import Row, Rows
from multicompute.resolver._constraints import Constraints
from multicompute.resolver._reasons import RejectionCounts


class UsableZones:
    """Finds the usable zones of lines, and counts the others under the reason to reject them."""

    def __init__(
        self,
        constraints: Constraints,
        counts: RejectionCounts,
        availability: Mapping[tuple[str, str], Availability],
    ) -> None:
        self._constraints = constraints
        self._counts = counts
        self._availability = availability

    def of(self, row: Row, rows: Rows) -> tuple[str, ...]:
        """Return the usable zones of a row, one of `rows` of its instance type and purchase."""
        found = self._availability.get(row.region_key) if self._availability else None
        return self._allowed_zones(row) if found is None else self._available_zones(row, rows, found)

    def _allowed_zones(self, row: Row) -> tuple[str, ...]:
        """Return the zones of a row in places that the spec allows, and count the others."""
        constraints = self._constraints
        if row.region_key in constraints.zones:
            zones, rejected = constraints.zones_of(row)
            for zone, reason in rejected.items():
                self._counts.add(reason, row, zone)
            return zones
        # Nothing in the spec tells the zones of this region apart.
        if rejection_reason := constraints.place_rejection(row.region_key, ""):
            self._counts.add_row(rejection_reason, row)
            return ()
        return row.zones

    def _available_zones(self, row: Row, rows: Rows, found: Availability) -> tuple[str, ...]:
        """Return the zones of a row that the spec allows and in which the account can use the type; count the others.

        The tables may have another account's names of the zones, so where one row is for the complete region, the zones that
        sell the type to this account take their place.
        """
        allowed = self._allowed_zones(row)
        if not allowed:
            return ()
        if found.refused:
            self._counts.add_row(reasons.REGION_REFUSED, row, found.refused)
            return ()
        sold = _zones_that_sell(row.instance, found)
        if sold is None or (sold and allowed == ("",)):
            return allowed
        region, constraints = row.region_key, self._constraints
        named = sold if region in rows.single_regions else tuple(zone for zone in sold if zone in row.zones)
        usable = tuple(zone for zone in named if constraints.place_rejection(region, zone) is None)
        for zone in allowed:
            if zone not in usable:
                self._counts.add(reasons.NOT_SOLD, row, zone)
        return usable


def _zones_that_sell(instance: InstanceType, found: Availability) -> tuple[str, ...] | None:
    """Return the zones that sell an instance type to the account, None if that is not known."""
    if found.offered is None:
        return None
    # Types without accelerators may be missing from the answer.
    return found.offered.get(instance.name, () if instance.accelerator else None)
