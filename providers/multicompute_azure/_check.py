"""What `doctor` asks Azure: whether the subscription answers, and whether the main rights are there."""

from collections.abc import Callable

from multicompute.errors import MulticomputeError
from multicompute.provider import Check
from multicompute_azure._discover import SCALE_SETS
from multicompute_azure._errors import Place
from multicompute_azure._health import STATUSES
from multicompute_azure._session import COMPUTE, NETWORK, Clients, within


def checks(clients: Clients) -> tuple[Check, ...]:
    """All findings, in the order in which they matter; without an answer to the first the rest is not asked.

    Azure has no dry run: whether something may be made is known when it is made.
    """
    place = Place(clients.settings.home_region)
    subscription = _subscription(clients, place)
    if not subscription.ok:
        return (subscription,)
    usages = f"{COMPUTE}/locations/{place.region}/usages"
    return (
        subscription,
        _finding("list scale sets", lambda: _first(clients, place, within(None, SCALE_SETS))),
        _finding("list networks", lambda: _first(clients, place, within(None, f"{NETWORK}/virtualNetworks"))),
        _finding("read health", lambda: _first(clients, place, within(None, STATUSES))),
        _optional("read quotas", lambda: _first(clients, place, within(None, usages))),
    )


def _subscription(clients: Clients, place: Place) -> Check:
    name, group = "subscription", clients.settings.resource_group
    try:
        if not group:
            _first(clients, place, "resourceGroups", _top="1")
        elif clients.get("look at the resource group", place, f"resourceGroups/{group}") is None:
            hint = "make it, or leave resource_group out of [providers.azure]"
            return Check(name, ok=False, detail=f"there is no resource group {group}", hint=hint)
    except MulticomputeError as error:
        return Check(name, ok=False, detail=error.message, hint=error.hint or "")
    return Check(name, ok=True, detail=f"subscription {clients.subscription}")


def _first(clients: Clients, place: Place, path: str, **query: str) -> None:
    next(clients.pages("ask for one page", place, path, **query), None)


def _finding(operation: str, call: Callable[[], None]) -> Check:
    try:
        call()
    except MulticomputeError as error:
        return Check(operation, ok=False, detail=error.message, hint=error.hint or "")
    return Check(operation, ok=True, detail="allowed")


def _optional(operation: str, call: Callable[[], None]) -> Check:
    """Quotas are not needed: without the right to read them a launch finds out by being refused."""
    found = _finding(operation, call)
    if found.ok:
        return found
    return Check(operation, ok=True, detail=f"not readable, so quotas are not compared: {found.detail}")
