"""What `doctor` asks Azure: whether the subscription answers, and whether the main rights are there."""

from collections.abc import Callable
from typing import Any

from multicompute.errors import MulticomputeError
from multicompute.provider import Check
from multicompute_azure._errors import Place, asking
from multicompute_azure._session import Clients


def checks(clients: Clients) -> tuple[Check, ...]:
    """All findings, in the order in which they matter; without an answer to the first the rest is not asked.

    Azure has no dry run: whether something may be made is known when it is made.
    """
    place = Place(clients.settings.home_region)
    subscription = _subscription(clients, place)
    if not subscription.ok:
        return (subscription,)
    compute, network = clients.compute, clients.network
    return (
        subscription,
        _finding("list scale sets", place, lambda: _first(compute.virtual_machine_scale_sets.list_all())),
        _finding("list networks", place, lambda: _first(network.virtual_networks.list_all())),
        _optional("read quotas", place, lambda: _first(compute.usage.list(place.region))),
    )


def _subscription(clients: Clients, place: Place) -> Check:
    name = "subscription"
    settings = clients.settings
    try:
        with asking("list the resource groups", place):
            if settings.resource_group:
                clients.resources.resource_groups.get(settings.resource_group)
            else:
                _first(clients.resources.resource_groups.list(top=1))
    except MulticomputeError as error:
        return Check(name, ok=False, detail=error.message, hint=error.hint or "")
    return Check(name, ok=True, detail=f"subscription {clients.subscription}")


def _first(pages: Any) -> Any:
    return next(iter(pages), None)


def _finding(operation: str, place: Place, call: Callable[[], Any]) -> Check:
    try:
        with asking(operation, place):
            call()
    except MulticomputeError as error:
        return Check(operation, ok=False, detail=error.message, hint=error.hint or "")
    return Check(operation, ok=True, detail="allowed")


def _optional(operation: str, place: Place, call: Callable[[], Any]) -> Check:
    """Quotas are not needed: without the right to read them a launch finds out by being refused."""
    found = _finding(operation, place, call)
    if found.ok:
        return found
    return Check(operation, ok=True, detail=f"not readable, so quotas are not compared: {found.detail}")
