"""Decides what to buy: turns a spec, the catalog and what is known of the clouds into a ranked plan. Pure functions.

The rules:

- A gang has `nodes` nodes or, without that, as many as its accelerators need, rounded up. It costs nodes x price per
  node-hour, rounded to a millionth of a dollar. A slice counts as one node, however many hosts it has.
- Candidates are ordered by: reservations named in the spec; with order="given", the position of the type; those that can
  live for the ttl before those that their cloud terminates earlier; total price; list price before estimate; fewer nodes;
  less surplus; provider, region, zone, instance type, purchase. Each zone is a candidate of its own.
- With strict_ttl=True, a gang that its cloud terminates before the ttl is rejected. A ttl of None is longer than any limit.
- Where it is known what an account can use, the zones are those that sell the instance type to it. A region that it can't
  use and an instance type that no zone sells to it are rejected.
- Every offer that is in no candidate counts under the first reason that applies, in the order of `REASONS`.
- A name in `regions` or `exclude` means a residency, otherwise regions, otherwise (in `exclude`) instance types, otherwise
  zones. Where only some zones of a region are allowed, an offer that names no zone is an offer in each of these.
- A gang may have up to a quarter more accelerators than `gpus`; one with more is rejected unless the spec has allow_surplus=True.
- A fraction of an accelerator or a retired type is used only if its instance type is named.
- Fabric: with interconnect="rdma", a gang of several nodes without an RDMA fabric is rejected. With "auto", it is rejected
  only if its accelerators are built to be linked and another gang of such accelerators has a fabric or needs a single node.
  That other gang counts even if it is out of capacity now, unless the placement lets the gang spread. "auto" does
  not apply to reservations, which the user has chosen.
- A budget rejects no offer. It ends the cluster when it is spent, and a note says when that would be.
- Stale prices and clouds that can't be used are marked and not rejected.
- An outage limits how many nodes of an offer are available. With placement "zone", the complete gang must fit.
  With "region", "cloud" or "any", interchangeable offers (the same instance type and purchase type; with "any", the same
  number of the same accelerator per node) also fill one gang together: first those that live for the ttl, cheapest first. Nothing else tells how much capacity
  a zone has, so only a limit makes a gang spread. A gang that spreads has no fabric.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from multicompute.errors import NoOfferError
from multicompute.plan import Candidate, Outage, Plan
from multicompute.provider import Availability, LifetimeLimit, Reservation
from multicompute.resolver._constraints import find_by_name
from multicompute.resolver._context import ResolveContext
from multicompute.resolver._reasons import ORDER as REASONS
from multicompute.resolver._reasons import OUTAGE
from multicompute.resolver._regions import regions_of_zone_ids, unknown_entry
from multicompute.resolver._resolve import decide

if TYPE_CHECKING:
    from multicompute.catalog import Catalog
    from multicompute.spec import ClusterSpec

__all__ = ["OUTAGE", "REASONS", "find_by_name", "regions_of_zone_ids", "require", "resolve", "unknown_entry"]

_NO_PROBLEMS: Mapping[str, str] = MappingProxyType({})
_ALL_REGIONS: Mapping[str, Collection[str]] = MappingProxyType({})
_UNKNOWN: Mapping[tuple[str, str], Availability] = MappingProxyType({})
_NO_FABRIC_LIMITS: Mapping[str, Mapping[str, int]] = MappingProxyType({})
_NONE_REQUIRED: Mapping[str, Sequence[str]] = MappingProxyType({})
_NO_LIMITS: Mapping[str, Sequence[LifetimeLimit]] = MappingProxyType({})


def resolve(
    spec: "ClusterSpec",
    catalog: "Catalog",
    *,
    now: datetime,
    configured: Mapping[str, str],
    outages: Sequence[Outage] = (),
    reservations: Sequence[Reservation] = (),
    only: Mapping[str, Collection[str]] = _ALL_REGIONS,
    lifetime_limits: Mapping[str, Sequence[LifetimeLimit]] = _NO_LIMITS,
    default_ttl: timedelta | None = None,
    tag_problems: Mapping[str, str] = _NO_PROBLEMS,
    availability: Mapping[tuple[str, str], Availability] = _UNKNOWN,
    fabric_limits: Mapping[str, Mapping[str, int]] = _NO_FABRIC_LIMITS,
    image_required: Mapping[str, Sequence[str]] = _NONE_REQUIRED,
    ceiling: float | None = None,
    proposes: bool = True,
) -> Plan:
    """Return the candidates that meet `spec`, ranked, and why other offers are rejected; without any, the nearest change.

    Args:
        spec: The request.
        catalog: The offers.
        now: The current instant; decides which outages are active and which prices are stale.
        configured: Every installed provider -> "" if it can be used, otherwise why not; its offers are marked.
        outages: The remembered outages.
        reservations: The reservations that the clouds reported; only those that the spec names are used.
        only: Provider -> the only regions and zones to use, where the configuration names some.
        lifetime_limits: Provider -> its limits on how long machines live.
        default_ttl: The ttl of a spec that has none; None for no expiry.
        tag_problems: Provider -> what it does not accept about the tags of the spec; its offers are rejected.
        availability: (provider, region) -> what the account can use there. Its zones replace those of the tables.
        fabric_limits: Provider -> fabric -> the most nodes that can share one; a larger gang has no fabric.
        image_required: Provider -> globs on the names of instance types that are rejected unless the spec names an image.
        ceiling: The maximum price in USD per hour that the configuration allows for any gang; None for none.
        proposes: Whether to look for the nearest change if no offer meets the spec.

    Raises:
        SpecError: The spec names something unknown or contradicts itself.
    """
    context = ResolveContext(
        now,
        configured,
        outages,
        reservations,
        only,
        lifetime_limits,
        default_ttl,
        tag_problems,
        availability,
        fabric_limits,
        image_required,
        ceiling,
    )
    plan = decide(spec, catalog, context)
    return plan if plan.candidates or not proposes else _with_nearest(plan, catalog, context)


def _with_nearest(plan: Plan, catalog: "Catalog", context: ResolveContext) -> Plan:
    """Return a plan without candidates, with the nearest change that has one."""
    # Imported here: it is rarely needed. It resolves about thirty variations of the spec.
    from multicompute.resolver._relaxation import nearest

    found = nearest(plan, lambda changed: decide(changed, catalog, context))
    return plan if found is None else replace(plan, nearest=found.text, binding=found.binding)


def require(plan: Plan) -> Candidate:
    """Return the best candidate of a plan.

    Raises:
        NoOfferError: There is no candidate. The message names the constraint that rules out the offers and the nearest change of
            the spec that has a candidate; `plan` is the plan.
    """
    if plan.candidates:
        return plan.best
    from multicompute.resolver._relaxation import explain_failure

    raise NoOfferError(explain_failure(plan), plan=plan, hint=plan.nearest)
