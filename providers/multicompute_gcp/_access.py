"""The way to log in to instances and hosts of slices, and the host keys that the guest agents of instances publish."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.node import Node
from multicompute.provider import Access
from multicompute.provider_kit.access import Tunnel, access_to, local_access, preferred_host_key
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._boot import SSH_USER
from multicompute_gcp._errors import log
from multicompute_gcp._session import Clients
from multicompute_gcp._settings import GcpSettings

# https://cloud.google.com/iap/docs/using-tcp-forwarding#starting_iap_tunneling; with --listen-on-stdin it is a proxy command, as gcloud's own
# `gcloud compute ssh --tunnel-through-iap` uses it.
_TUNNEL: Final = "gcloud compute start-iap-tunnel {instance_id} %p --listen-on-stdin --zone {zone} --verbosity error"
_PAGE: Final = "https://cloud.google.com/sdk/docs/install"
_AT_ONCE: Final = 16
# The guest agent writes each public host key to the guest attributes, the kind as the key and the rest as the value, if the metadata has
# enable-guest-attributes: https://cloud.google.com/compute/docs/connect/linux-ssh#host-keys, and the agent's `writeGuestAttributes`.
_NAMESPACE: Final = "hostkeys"


def access(settings: GcpSettings, node: Node) -> Access:
    """Return how to log in to an instance, or to a host of a slice."""
    if settings.is_local:
        return local_access(settings.endpoint_url or "", node.id)
    project = f" --project {settings.named_project}" if settings.named_project else ""
    tunnel = Tunnel("Google IAP", ("gcloud",), _TUNNEL + project, _PAGE)
    found = access_to(node, settings, user=SSH_USER, tunnel=tunnel, environment=settings.environment)
    if "/" in node.id and found.proxy_command == tunnel.command:
        # The tunnel takes names of instances, which hosts of slices are not.
        text = "set ssh_proxy_jump, or run this inside of its network: IAP's tunnel does not lead to TPU slices"
        return Access(found.address, found.port, found.user, remedy=text)
    return found


def host_keys(clients: Clients, nodes: Sequence[Node]) -> Mapping[str, str]:
    """Return the host keys that the guest agents of instances have published; slices have none."""

    def read(node: Node) -> tuple[str, str | None]:
        place = Place("gcp", node.region, node.zone, node.instance_type)
        url = clients.compute_url("zones", node.zone, "instances", node.id, "getGuestAttributes")
        try:
            # Not found: nothing is published yet.
            found = clients.get(url, "instances.getGuestAttributes", place, queryPath=f"{_NAMESPACE}/") or {}
        except MulticomputeError as error:
            log.info("the guest attributes of %s can't be read: %s", node.id, error)
            return node.id, None
        items: Sequence[Mapping[str, Any]] = (found.get("queryValue") or {}).get("items") or ()
        return node.id, preferred_host_key(f"{item.get('key')} {item.get('value')}" for item in items)

    found = in_parallel(read, [node for node in nodes if "/" not in node.id], at_once=_AT_ONCE)
    return {node_id: key for node_id, key in found if key}
