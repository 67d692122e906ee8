"""Creates the firewall rule and the placement policies of a cluster, and describes the network interfaces of its nodes."""

from collections import Counter
from typing import Any, Final

from google.api_core import exceptions as sdk

from multicompute.clock import Clock
from multicompute.offer import Part
from multicompute.provider import TAG_ID, LaunchRequest
from multicompute.provider_kit.ssh import SshSources
from multicompute.provider_kit.vendor_errors import Place, retryable, unavailable_here
from multicompute_gcp._errors import translate_errors
from multicompute_gcp._names import request_id, resource_name
from multicompute_gcp._operations import wait
from multicompute_gcp._placement import group_placement
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._settings import GcpSettings
from multicompute_gcp._tags import described_tags, description_of

# Google documents no such service of its own.
_ADDRESS_SERVICE: Final = "https://checkip.amazonaws.com"
# Machine series that accept gVNIC only, or are much faster with it.
_GVNIC: Final = ("a2-", "a3-", "a4", "g2-", "g4-", "c3", "c4", "n4")


class Network:
    """The firewall rules and placement policies of clusters, each created once per process and cluster."""

    def __init__(self, clients: Clients, clock: Clock) -> None:
        self._clients = clients
        self._clock = clock
        # The kinds and names of what is known to exist.
        self._existing: set[tuple[str, str]] = set()
        self._failures: Counter[str] = Counter()
        settings = clients.settings
        self._ssh_sources = SshSources(
            settings.ssh_from, endpoint=settings.endpoint_url, address_service=_ADDRESS_SERVICE
        )

    def forget(self, cluster_id: str) -> None:
        """Forget what was created for a cluster that is torn down."""
        for key in [key for key in self._existing if key[1].startswith(resource_name(cluster_id))]:
            self._existing.discard(key)

    def open_ssh(self, request: LaunchRequest, place: Place) -> None:
        """Open port 22 of the cluster's nodes to the caller, if a key is given.

        A firewall rule has no region, but there is one per region of the cluster, so that a teardown in one region leaves the nodes in
        the others reachable.
        """
        name = f"{resource_name(request.cluster_id)}-{place.region}-ssh"
        if not request.ssh_public_key or request.private or ("firewall", name) in self._existing:
            return
        sources = self._ssh_sources.blocks(place)
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
                # Not waited for: the rule exists long before the nodes run.
                self._clients.firewalls().insert_unary(request=call, **CALL)
            except sdk.Conflict:
                self._require_ours("global", "firewalls", name, request, place)
        self._existing.add(("firewall", name))

    def placement_policy(self, request: LaunchRequest, place: Place) -> str:
        """Return the cluster's compact placement policy for the zone, created if it does not exist yet.

        One per zone, because a policy is bound to the zone of its members. It belongs to the cluster, not to the attempt, so a node that
        replaces another is placed next to the rest.
        """
        name = f"{resource_name(request.cluster_id)}-{place.zone}"[:63].rstrip("-")
        if ("policy", name) in self._existing:
            return name
        policy = {
            "name": name,
            "description": description_of(request.tags),
            "group_placement_policy": group_placement(place.instance_type),
        }
        call = {
            "project": self._clients.project,
            "region": place.region,
            "resource_policy_resource": policy,
            # For the request id of a call that failed, Google would only report that failure again.
            "request_id": request_id("policy", name, request.token, str(self._failures[name])),
        }
        with translate_errors("resourcePolicies.insert", place):
            try:
                operation = self._clients.policies().insert_unary(request=call, **CALL)
            except sdk.Conflict:
                self._require_ours(f"regions/{place.region}", "resourcePolicies", name, request, place)
            else:
                outcome = wait(self._clients, operation, place, clock=self._clock)
                self._failures[name] += outcome.error is not None
                outcome.check("resourcePolicies.insert", place)
        self._existing.add(("policy", name))
        return name

    def _require_ours(self, scope: str, kind: str, name: str, request: LaunchRequest, place: Place) -> None:
        url = self._clients.compute_url(*scope.split("/"), kind, name)
        found = self._clients.get(url, f"{kind}.get", place)
        if found is None:
            raise retryable(f"{kind} {name} exists, but is not found yet", code="alreadyExists", place=place)
        if described_tags(found.get("description")).get(TAG_ID) != request.cluster_id:
            raise unavailable_here(
                f"{kind} {name} exists and is not ours",
                code="alreadyExists",
                place=place,
                scope="region",
                hint="delete it",
            )


def network_tag(cluster_id: str) -> str:
    """Return the network tag of the nodes of a cluster, by which its firewall rules apply to them."""
    return resource_name(cluster_id)


def network_path(settings: GcpSettings, *, project: str) -> str:
    """Return the path of the network of the nodes."""
    name = settings.network or "default"
    return name if "/" in name else f"projects/{project}/global/networks/{name}"


def subnetwork_path(name: str, *, project: str, region: str) -> str:
    """Return the path of a subnetwork that the settings name, by its name or its path."""
    return name if "/" in name else f"projects/{project}/regions/{region}/subnetworks/{name}"


def interfaces(request: LaunchRequest, part: Part, settings: GcpSettings, *, project: str) -> list[dict[str, Any]]:
    """Return the network interfaces of an instance: one, and those of the fabric if the settings name subnetworks for them.

    https://cloud.google.com/compute/docs/gpus/gpudirect: A3 High has four additional gVNIC interfaces, A3 Mega eight; A3
    Ultra and A4 have one additional gVNIC and eight MRDMA interfaces. Each needs a network of its own, which only the owner of the account
    can lay out.
    """
    region, instance = part.offer.region, part.offer.instance
    if settings.subnetwork:
        first: dict[str, Any] = {"subnetwork": subnetwork_path(settings.subnetwork, project=project, region=region)}
    else:
        first = {"network": network_path(settings, project=project)}
    if instance.name.startswith(_GVNIC):
        first["nic_type"] = "GVNIC"
    if not request.private:
        first["access_configs"] = [{"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}]
    others = [
        {
            "subnetwork": subnetwork_path(name, project=project, region=region),
            "nic_type": "MRDMA" if instance.fabric == "roce" and number > 0 else "GVNIC",
        }
        for number, name in enumerate(settings.gpu_subnetworks if request.fabric else ())
    ]
    return [first, *others]
