"""Decides what to buy: turns a spec, the catalog and what is known of the clouds into a ranked plan. Pure.

The rules:

- A gang has `nodes` nodes, or as many as its accelerators need, rounded up. What it costs is nodes x price per node-hour,
  rounded to a millionth of a dollar. A slice is one node, whatever the number of its hosts.
- Order: reservations named in the spec; with order="given" the position of the type; total price; a list price before an
  estimate; fewer nodes; less surplus; provider, region, zone, instance type, purchase. Each zone is a candidate of its own.
- Every offer that is not in a candidate is counted under the first reason that applies, in the order of `REASONS`.
- A part of an accelerator and a retired type are taken only where the instance type itself is named.
- Fabric: a gang of several nodes without an RDMA-class fabric is left out with interconnect="rdma"; with "auto" if its
  accelerators are built to be linked and some gang of such accelerators has a fabric or fits on one node; one that is only
  out of capacity or quota just now counts, too, unless the placement lets the gang spread. What is in a reservation is the
  user's choice, and "auto" asks nothing of it.
- A budget leaves nothing out: it ends the cluster when it is used up, and a note says when that would be.
- Prices that are too old are marked, not left out. So are clouds that can't be used.
- An outage leaves room for so many nodes of an offer. With placement "zone" that must be the whole gang. With
  "region", "cloud" or "any", offers that may stand in for one another (the same instance type and way of buying; with
  "any" the same number of the same accelerator per node) also fill one gang together, cheapest first. Nothing else says
  how much capacity a zone has, so only a limit makes a gang spread; and one that spreads has no fabric.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from multicompute.errors import NoOfferError
from multicompute.plan import Candidate, Outage, Plan
from multicompute.provider import Reservation
from multicompute.resolver._reasons import ORDER as REASONS
from multicompute.resolver._resolve import ResolveContext, decide

if TYPE_CHECKING:
    from multicompute.catalog import Catalog
    from multicompute.spec import ClusterSpec

__all__ = ["REASONS", "require", "resolve"]

_EVERYWHERE: Mapping[str, Collection[str]] = MappingProxyType({})


def resolve(
    spec: "ClusterSpec",
    catalog: "Catalog",
    *,
    now: datetime,
    configured: Mapping[str, str],
    outages: Sequence[Outage] = (),
    reservations: Sequence[Reservation] = (),
    only: Mapping[str, Collection[str]] = _EVERYWHERE,
    max_price_age: timedelta = timedelta(days=30),
    max_spot_price_age: timedelta = timedelta(days=1),
) -> Plan:
    """Rank everything that meets `spec`, and count why the rest does not.

    Args:
        spec: what is wanted.
        catalog: what is sold.
        now: the instant, aware; decides which outages still hold and which prices are stale.
        configured: every installed provider -> "" where it can be used, or why not. Offers of those that can't be used
            stay in the plan, marked.
        outages: remembered lacks of capacity.
        reservations: those that the clouds know; used are those that the spec names.
        only: provider -> the only regions that are to be used, where the configuration names some.
        max_price_age: older prices are marked as stale.
        max_spot_price_age: the same for spot prices.

    Returns:
        A plan; without candidates when nothing meets the spec, and then with the nearest change that would have one.

    Raises:
        SpecError: the spec names what does not exist, or contradicts itself.
    """
    situation = ResolveContext(now, configured, outages, reservations, only, max_price_age, max_spot_price_age)
    plan = decide(spec, catalog, situation)
    if plan.candidates:
        return plan
    # Only when it is needed: it asks the same question again, thirty times.
    from multicompute.resolver._relaxation import nearest

    return replace(plan, nearest=nearest(spec, lambda changed: decide(changed, catalog, situation)))


def require(plan: Plan) -> Candidate:
    """The best candidate of a plan.

    Raises:
        NoOfferError: it has none; the message names the constraint that cost most and the nearest change that would have
            one. Carries the plan.
    """
    if plan.best is not None:
        return plan.best
    from multicompute.resolver._relaxation import explain_failure

    raise NoOfferError(explain_failure(plan), plan=plan, hint=plan.nearest)
