"""The plan of one request, which is made again when more is known about the account."""

from multicompute.engine.availability import read_regions, reads_availability
from multicompute.engine.broken_limits import refuse_broken_limits
from multicompute.engine.planning import Places, known_availability, plan_for, require_candidate, require_usable
from multicompute.engine.provision.preflight import find_reservations
from multicompute.plan import Plan
from multicompute.resolver import regions_of_zone_ids
from multicompute.session import Session
from multicompute.spec import ClusterSpec


class Planner:
    """The plan that a request works from, with the reservations of the spec as the clouds report them.

    Attributes:
        plan: The newest plan.
        ceiling: The maximum price in USD per hour of what may be bought; None for none.
        availability: What it assumes about the account.
    """

    def __init__(self, session: Session, spec: ClusterSpec, *, ceiling: float | None = None) -> None:
        """Make the first plan.

        Args:
            session: The catalog, the ledger and the configured providers.
            spec: The request.
            ceiling: The maximum price in USD per hour, in addition to the configured one.

        Raises:
            NoOfferError, CapacityError: It has no candidate.
            SpecError: The limits of the spec end every candidate at once.
            AuthError: No candidate is in a cloud that can be used here.
        """
        self._session = session
        self._spec = spec
        limits = [limit for limit in (ceiling, session.config.max_hourly) if limit is not None]
        self.ceiling = min(limits, default=None)
        _read_zone_ids(session, spec)
        self._reservations = find_reservations(session, spec) if spec.reservations else ()
        self.availability: Places = known_availability(session)
        self.plan = self._make()
        if not self.plan.candidates and self.availability:
            # It may be another account's.
            self.renew({})
        self.require_candidate()
        refuse_broken_limits(session, spec, self.plan)
        require_usable(self.plan, session.usable)

    def renew(self, availability: Places) -> Plan:
        """Make the plan again, with what the account can use."""
        self.availability = dict(availability)
        self.plan = self._make()
        return self.plan

    def require_candidate(self) -> None:
        """Raise if the plan has no candidate.

        Raises:
            NoOfferError, CapacityError: It has none; the message says why.
        """
        require_candidate(
            self._session,
            self.plan,
            lambda: plan_for(
                self._session,
                self._spec,
                reservations=self._reservations,
                outages=(),
                availability=self.availability,
                ceiling=self.ceiling,
            ),
        )

    def _make(self) -> Plan:
        # A request that keeps trying waits for outages to pass, so they rule out nothing.
        return plan_for(
            self._session,
            self._spec,
            reservations=self._reservations,
            outages=() if self._spec.keep_trying else None,
            availability=self.availability,
            ceiling=self.ceiling,
        )


def _read_zone_ids(session: Session, spec: ClusterSpec) -> None:
    """Ask about the regions of the zone ids in the spec, unless the answers are known: their names differ by account."""
    patterns = (*(spec.regions or ()), *(spec.exclude or ()))
    missing: dict[str, list[str]] = {}
    for name, region in sorted(regions_of_zone_ids(patterns, session.catalog) - set(known_availability(session))):
        missing.setdefault(name, []).append(region)
    if missing:
        # The answers are kept in the ledger, which the request is about to need.
        _ = session.ledger
    for name, regions in missing.items():
        if reads_availability(session, name):
            _, errors = read_regions(session, name, regions)
            if errors:
                raise errors[0]
