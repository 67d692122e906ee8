"""Checks, as far as Compute Engine can be asked, that the nodes of a launch can be reached and have a way to the internet."""

from typing import Any, Final

from multicompute.errors import AccessDeniedError, ProviderError
from multicompute.provider import LaunchRequest
from multicompute.provider_kit.vendor_errors import Meaning, Place, VendorAnswer, error_of
from multicompute_gcp._errors import log
from multicompute_gcp._interfaces import project_of
from multicompute_gcp._session import PAGE, Clients

_INTERNET: Final = "default-internet-gateway"
# Destinations of everything: one route, or one for each half of all addresses.
_DEFAULT: Final = ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1")
_ROUTE_FIELDS: Final = "items(network,destRange,nextHopGateway,tags),nextPageToken"
_ROUTER_FIELDS: Final = "items(network,nats(type,sourceSubnetworkIpRangesToNat,subnetworks(name))),nextPageToken"


class WaysOut:
    """The ways out of networks, each read once per process."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._checked: set[tuple[str, str, bool]] = set()

    def check(self, request: LaunchRequest, network: str | None, place: Place) -> None:
        """Check that nodes in a network have a way to the internet and, unless they are private, can be reached.

        https://cloud.google.com/vpc/docs/vpc#internet_access_reqs: a default route to the internet gateway, and an external address or
        Cloud NAT. Routes that a router or a peering learns are in no listing, so only what can't work in any case is refused.

        Args:
            request: The launch.
            network: The path of the network of the nodes, None where it is not known.
            place: The place of the launch.

        Raises:
            ProviderError: Nodes with external addresses would have no route to the internet, so they could not be reached either.
        """
        key = (network or "", place.region, request.private)
        # Only the owner of a shared network may list its routes.
        if network is None or project_of(network) != self._clients.project or key in self._checked:
            return
        try:
            has_route, has_other = self._routes(network, place)
            if not has_route and not request.private:
                raise _no_route(network, place)
            has_way = not request.private or has_other or (has_route and self._has_nat(network, place))
        except AccessDeniedError as error:
            log.info("%s: the routes of %s are not checked: %s", place, network, error.message)
            has_way = True
        if not has_way:
            what = f"private nodes in {network} have no way to the internet that Compute Engine lists"
            request.warn(f"{place}: {what}: add Cloud NAT in {place.region} if they need one")
        self._checked.add(key)

    def _routes(self, network: str, place: Place) -> tuple[bool, bool]:
        """Return whether the network has a default route to the internet gateway, and whether it has one to elsewhere."""
        pages = self._clients.pages(
            self._clients.compute_url("global", "routes"), "routes.list", place, fields=_ROUTE_FIELDS, maxResults=PAGE
        )
        # A route with tags is for instances with these tags; ours have none but their own.
        routes = [
            item
            for page in pages
            for item in page.get("items", ())
            if _is_in(item, network) and item.get("destRange") in _DEFAULT and not item.get("tags")
        ]
        to_internet = [str(item.get("nextHopGateway", "")).endswith(_INTERNET) for item in routes]
        return any(to_internet), not all(to_internet)

    def _has_nat(self, network: str, place: Place) -> bool:
        pages = self._clients.pages(
            self._clients.compute_url("regions", place.region, "routers"),
            "routers.list",
            place,
            fields=_ROUTER_FIELDS,
            maxResults=PAGE,
        )
        return any(
            nat.get("type", "PUBLIC") == "PUBLIC"
            for page in pages
            for item in page.get("items", ())
            if _is_in(item, network)
            for nat in item.get("nats") or ()
        )


def _is_in(item: dict[str, Any], network: str) -> bool:
    return str(item.get("network", "")).endswith(f"/{network}")


def _no_route(network: str, place: Place) -> Exception:
    answer = VendorAnswer("NoInternetRoute", f"{network} has no default route to the internet")
    hint = "add a route for 0.0.0.0/0 to default-internet-gateway, set [providers.gcp] network to another, or use private=True"
    return error_of(Meaning(ProviderError, "region"), answer, operation="launch", place=place, hint=hint)
