"""Finds the network of the nodes, and creates the firewall rule and the placement policies of a cluster."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.api_core import exceptions as sdk

from multicompute.clock import Clock
from multicompute.errors import AccessDeniedError
from multicompute.provider import TAG_ID, LaunchRequest
from multicompute.provider_kit.ssh import SshSources
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer, retryable, unavailable_here
from multicompute_gcp._errors import log, refusal, translate_errors
from multicompute_gcp._interfaces import network_path, path_of, project_of, subnetwork_path
from multicompute_gcp._names import request_id, resource_name
from multicompute_gcp._operations import wait
from multicompute_gcp._placement import group_placement
from multicompute_gcp._reachability import WaysOut
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._tags import described_tags, description_of

# Google documents no such service of its own.
_ADDRESS_SERVICE: Final = "https://checkip.amazonaws.com"


class Network:
    """The firewall rules and placement policies of clusters, each created once per process and cluster."""

    def __init__(self, clients: Clients, clock: Clock) -> None:
        self._clients = clients
        self._clock = clock
        # The kinds and names of what is known to exist.
        self._existing: set[tuple[str, str]] = set()
        self._networks: dict[str, str | None] = {}
        self._ways_out = WaysOut(clients)
        self._failures: Counter[str] = Counter()
        settings = clients.settings
        self._ssh_sources = SshSources(
            settings.ssh_from, endpoint=settings.endpoint_url, address_service=_ADDRESS_SERVICE
        )

    def forget(self, cluster_id: str) -> None:
        """Forget what was created for a cluster that is torn down."""
        for key in [key for key in self._existing if key[1].startswith(resource_name(cluster_id))]:
            self._existing.discard(key)

    def path(self, place: Place) -> str | None:
        """Return the path of the network of the nodes in a region, None if it can't be read.

        Without the setting `network` it is the network of the subnetwork, which may belong to another project (Shared VPC).

        Raises:
            ProviderError: The subnetwork does not exist.
        """
        settings, project = self._clients.settings, self._clients.project
        if settings.network or not settings.subnetwork:
            return network_path(settings, project=project)
        path = subnetwork_path(settings.subnetwork, project=project, region=place.region)
        if path not in self._networks:
            self._networks[path] = self._network_of(path, place)
        return self._networks[path]

    def _network_of(self, subnetwork: str, place: Place) -> str | None:
        try:
            found = self._clients.get(self._clients.url_of(subnetwork), "subnetworks.get", place, fields="network")
        except AccessDeniedError as error:
            text = "%s: the network of %s can't be read, so no port is opened for SSH: set [providers.gcp] network as well: %s"
            log.warning(text, place, subnetwork, error.message)
            return None
        if found is None:
            answer = VendorAnswer("notFound", f"The subnetwork '{subnetwork}' was not found")
            raise refusal(answer, "subnetworks.get", place)
        return path_of(str(found.get("network", "")), "global/networks", project=self._clients.project)

    def prepare(self, request: LaunchRequest, place: Place) -> None:
        """Check that the nodes will have a way out, and open the port for SSH if a key is given; see `WaysOut.check` and `open_ssh`."""
        self._ways_out.check(request, self.path(place), place)
        if request.opens_ssh:
            self.open_ssh(place, request.tags, warn=request.warn, token=request.token)

    def open_ssh(
        self, place: Place, tags: Mapping[str, str], *, warn: Callable[[str], None] = log.warning, token: str = ""
    ) -> None:
        """Open port 22 of a cluster's nodes to the caller.

        A firewall rule has no region, but there is one per region of the cluster, so that a teardown in one region leaves the nodes in
        the others reachable. A network of another project gets no rule: firewall rules are in the project of their network
        (https://cloud.google.com/vpc/docs/shared-vpc), which is not ours to change.
        """
        cluster_id = tags[TAG_ID]
        name = f"{resource_name(cluster_id)}-{place.region}-ssh"
        if ("firewall", name) in self._existing:
            return
        network = self.path(place)
        if network is None:
            return
        if project_of(network) != self._clients.project:
            remedy = f"allow tcp:22 there for the network tag {network_tag(cluster_id)}"
            what = f"{network} is a network of another project, so no port is opened for SSH"
            warn(f"{place}: {what}: {remedy}")
            self._existing.add(("firewall", name))
            return
        sources = self._ssh_sources.blocks(place)
        if not sources:
            return
        rule = {
            "name": name,
            "description": description_of(tags),
            "network": network,
            "direction": "INGRESS",
            "target_tags": [network_tag(cluster_id)],
            "source_ranges": list(sources),
            "allowed": [{"I_p_protocol": "tcp", "ports": ["22"]}],
        }
        call = {
            "project": self._clients.project,
            "firewall_resource": rule,
            "request_id": request_id("firewall", name, token),
        }
        with translate_errors("firewalls.insert", place):
            try:
                # Not waited for: the rule exists long before the nodes run.
                self._clients.firewalls().insert_unary(request=call, **CALL)
            except sdk.Conflict:
                self._require_ours("global", "firewalls", name, cluster_id, place)
        self._existing.add(("firewall", name))

    def placement_policy(self, request: LaunchRequest, place: Place) -> str:
        """Return the cluster's compact placement policy for the zone, created if it does not exist yet.

        One per zone, because a policy is bound to the zone of its members. It belongs to the cluster, not to the attempt, so a node that
        replaces another is placed next to the rest.
        """
        return self._policy(request, place, "", {"group_placement_policy": group_placement(place.instance_type)})

    def workload_policy(self, request: LaunchRequest, place: Place) -> str:
        """Return the cluster's workload policy, which places the members of a managed instance group close to each other.

        https://cloud.google.com/compute/docs/instance-groups/about-workload-policies
        """
        return self._policy(request, place, "-mig", {"workload_policy": {"type_": "HIGH_THROUGHPUT"}})

    def _policy(self, request: LaunchRequest, place: Place, suffix: str, what: dict[str, Any]) -> str:
        name = f"{resource_name(request.cluster_id)}-{place.zone}"[: 63 - len(suffix)].rstrip("-") + suffix
        if ("policy", name) in self._existing:
            return name
        policy = {
            "name": name,
            "description": description_of(request.tags),
            **what,
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
                self._require_ours(f"regions/{place.region}", "resourcePolicies", name, request.cluster_id, place)
            else:
                outcome = wait(self._clients, operation, place, clock=self._clock)
                self._failures[name] += outcome.error is not None
                outcome.check("resourcePolicies.insert", place)
        self._existing.add(("policy", name))
        return name

    def _require_ours(self, scope: str, kind: str, name: str, cluster_id: str, place: Place) -> None:
        url = self._clients.compute_url(*scope.split("/"), kind, name)
        found = self._clients.get(url, f"{kind}.get", place)
        if found is None:
            raise retryable(f"{kind} {name} exists, but is not found yet", code="alreadyExists", place=place)
        if described_tags(found.get("description")).get(TAG_ID) != cluster_id:
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
