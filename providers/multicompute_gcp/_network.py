"""Makes what lies beside the machines of a cluster: a firewall rule for SSH, and placement policies; finds and names them."""

import ipaddress
import threading
import urllib.request
from collections import Counter
from datetime import timedelta
from typing import Any, Final

from google.api_core import exceptions as sdk

from multicompute.clock import Clock
from multicompute.provider import TAG_ID, LaunchRequest, Resource, Selector
from multicompute_gcp._errors import Place, log, refused, retryable, translate_errors, unavailable_here
from multicompute_gcp._labels import described_tags, description_of, name_of, request_id
from multicompute_gcp._machine import network_path, network_tag
from multicompute_gcp._operation import wait
from multicompute_gcp._session import CALL, PAGE, Clients

# Google documents no such service of its own. Asked only when a key may log in, nothing says from where, and Google itself is talked to.
_WHO_AM_I: Final = "https://checkip.amazonaws.com"
_WHO_AM_I_SECONDS: Final = 3.0
_MADE_WITHIN: Final = timedelta(seconds=45)


class Network:
    """Makes firewall rules and placement policies, each once per process and cluster."""

    def __init__(self, clients: Clients, clock: Clock) -> None:
        self._clients = clients
        self._clock = clock
        self._known: set[tuple[str, str]] = set()
        self._failures: Counter[str] = Counter()
        self._own_address: str | None = None
        self._lock = threading.Lock()

    def forget(self, cluster_id: str) -> None:
        """Forget what was made for a cluster: it is not there any more."""
        for key in [key for key in self._known if key[1].startswith(name_of(cluster_id))]:
            self._known.discard(key)

    def open_ssh(self, request: LaunchRequest, place: Place) -> None:
        """Open port 22 of the cluster's nodes to the caller, where a key may log in.

        Rules are of no region, but each of ours is made for one, so that a teardown in one region leaves the others reachable.
        """
        name = f"{name_of(request.cluster_id)}-{place.region}-ssh"
        if not request.ssh_public_key or request.private or ("firewall", name) in self._known:
            return
        sources = self._callers(place)
        if not sources:
            return
        rule = {
            "name": name,
            "description": description_of(request.tags),
            "network": network_path(self._clients.settings, project=self._clients.project),
            "direction": "INGRESS",
            "target_tags": [network_tag(request.cluster_id)],
            "source_ranges": list(sources),
            "allowed": [{"I_p_protocol": "tcp", "ports": ["22"]}],
        }
        call = {
            "project": self._clients.project,
            "firewall_resource": rule,
            "request_id": request_id("firewall", name, request.token),
        }
        with translate_errors("firewalls.insert", place):
            try:
                # Not waited for: it is there long before the machines are.
                self._clients.firewalls().insert_unary(request=call, **CALL)
            except sdk.Conflict:
                self._must_be_ours("global", "firewalls", name, request, place)
        self._known.add(("firewall", name))

    def placement(self, request: LaunchRequest, place: Place) -> str:
        """The cluster's compact placement policy for the zone, made where it does not exist yet.

        One per zone, because a policy keeps to the zone of its members; and of the cluster, not of the attempt, so that a node that
        replaces another comes to lie beside the rest.
        """
        name = f"{name_of(request.cluster_id)}-{place.zone}"[:63].rstrip("-")
        if ("policy", name) in self._known:
            return name
        policy = {
            "name": name,
            "description": description_of(request.tags),
            "group_placement_policy": {"collocation": "COLLOCATED"},
        }
        call = {
            "project": self._clients.project,
            "region": place.region,
            "resource_policy_resource": policy,
            # Under the id of one that failed Google would only tell of that failure again.
            "request_id": request_id("policy", name, request.token, str(self._failures[name])),
        }
        with translate_errors("resourcePolicies.insert", place):
            try:
                operation = self._clients.policies().insert_unary(request=call, **CALL)
            except sdk.Conflict:
                self._must_be_ours(f"regions/{place.region}", "resourcePolicies", name, request, place)
            else:
                done, said = wait(self._clients, operation, place, clock=self._clock, at_most=_MADE_WITHIN)
                if said is not None:
                    self._failures[name] += 1
                    raise refused(said, operation="resourcePolicies.insert", place=place)
                if not done:
                    raise retryable(f"the placement policy {name} is not ready yet", code="NotReady", place=place)
        self._known.add(("policy", name))
        return name

    def _must_be_ours(self, scope: str, kind: str, name: str, request: LaunchRequest, place: Place) -> None:
        url = self._clients.compute_url(*scope.split("/"), kind, name)
        found = self._clients.get(url, f"{kind}.get", place)
        if found is None:
            raise retryable(f"{kind} {name} exists, but is not shown yet", code="alreadyExists", place=place)
        if described_tags(found.get("description")).get(TAG_ID) != request.cluster_id:
            raise unavailable_here(
                f"{kind} {name} exists and is not ours",
                code="alreadyExists",
                place=place,
                scope="region",
                hint="delete it",
            )

    def _callers(self, place: Place) -> tuple[str, ...]:
        """From where port 22 is opened: as configured, else the caller's own address; nothing where that is not known."""
        settings = self._clients.settings
        if settings.ssh_from:
            return settings.ssh_from
        if settings.is_local:
            return ("127.0.0.1/32",)
        with self._lock:
            if self._own_address is None and settings.endpoint_url is None:
                self._own_address = _ask_own_address()
        if not self._own_address:
            log.warning("%s: port 22 stays closed: the caller's address is not known; set ssh_from", place)
            return ()
        return (f"{self._own_address}/32",)


def beside(clients: Clients, selector: Selector, place: Place) -> list[Resource]:
    """The firewall rules and placement policies of the selected clusters; they belong to the cluster, not to an attempt.

    Neither takes labels, so that they are known by the tags in their descriptions.
    """
    if selector.token is not None:
        return []
    found: list[Resource] = []
    for page in clients.pages(clients.compute_url("global", "firewalls"), "firewalls.list", place, maxResults=PAGE):
        found += [_resource("firewall", item, _region_of_rule(item)) for item in page.get("items", ())]
    for item in clients.aggregated("resourcePolicies", place):
        found.append(_resource("resource-policy", item, str(item.get("region", "")).rpartition("/")[2]))
    return [item for item in found if _is_selected(item, selector)]


def _is_selected(item: Resource, selector: Selector) -> bool:
    if TAG_ID not in item.tags or (selector.cluster_id is not None and item.tags[TAG_ID] != selector.cluster_id):
        return False
    if not item.id.startswith(name_of(item.tags[TAG_ID])):
        # Somebody has copied our description.
        return False
    if selector.owner is not None and item.tags.get("multicompute-owner") != selector.owner:
        return False
    return selector.region is None or selector.region == item.region


def _region_of_rule(item: dict[str, Any]) -> str:
    cluster_id = described_tags(item.get("description")).get(TAG_ID, "")
    return str(item["name"]).removeprefix(f"{name_of(cluster_id)}-").removesuffix("-ssh")


def _resource(kind: str, item: dict[str, Any], region: str) -> Resource:
    return Resource(
        "gcp", kind, str(item["name"]), region, billable=False, tags=described_tags(item.get("description"))
    )


def _ask_own_address() -> str:
    """The address under which this machine is seen from outside, or "" where nobody tells."""
    try:
        with urllib.request.urlopen(_WHO_AM_I, timeout=_WHO_AM_I_SECONDS) as answer:
            return str(ipaddress.IPv4Address(answer.read(64).decode("ascii").strip()))
    except (OSError, ValueError):
        return ""
