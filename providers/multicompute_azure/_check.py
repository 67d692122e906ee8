"""The checks of `doctor`: the subscription and the main permissions."""

from multicompute.errors import ProviderError
from multicompute.provider import Check
from multicompute.provider_kit.seam import finding, optional_finding
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._health import STATUSES
from multicompute_azure._quotas import usages_path
from multicompute_azure._resources import find_group
from multicompute_azure._session import NETWORK, Clients, path_of
from multicompute_azure._sets import SCALE_SETS


def check(clients: Clients) -> tuple[Check, ...]:
    """Return all findings, the most important first; without an answer to the first the rest is not checked.

    Azure has no dry run, so the permissions to create resources can't be checked.
    """
    place = Place("azure", clients.settings.home_region)
    subscription = finding("subscription", lambda: _subscription(clients, place))
    if not subscription.ok:
        return (subscription,)

    def first(operation: str, path: str) -> str:
        next(clients.list_all(operation, place, path), None)
        return "allowed"

    return (
        subscription,
        finding("list scale sets", lambda: first("virtualMachineScaleSets.listAll", path_of(None, SCALE_SETS))),
        finding("list networks", lambda: first("virtualNetworks.listAll", path_of(None, f"{NETWORK}/virtualNetworks"))),
        finding("read health", lambda: first("availabilityStatuses.list", path_of(None, STATUSES))),
        # Quotas are not needed: without the permission to read them, a launch beyond one is refused by Azure.
        optional_finding(
            "read quotas",
            lambda: first("usages.list", usages_path(place.region)),
            otherwise="not readable, so quotas are not compared",
        ),
    )


def _subscription(clients: Clients, place: Place) -> str:
    group = clients.settings.resource_group
    if not group:
        next(clients.list_all("resourceGroups.list", place, "resourceGroups", _top="1"), None)
    elif find_group(clients, group, place) is None:
        hint = "create it, or leave resource_group out of [providers.azure]"
        raise ProviderError(f"the resource group {group} does not exist", hint=hint)
    return f"subscription {clients.subscription}"
