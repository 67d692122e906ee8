"""A scale set of ours, as Compute describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from multicompute.provider import TAG_ATTEMPT, TAG_ID
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._names import parse_id, plain_region, zone_name
from multicompute_azure._session import COMPUTE, Clients, path_of
from multicompute_azure._tags import has_tag

SCALE_SETS: Final = f"{COMPUTE}/virtualMachineScaleSets"
MACHINES: Final = f"{COMPUTE}/virtualMachines"
INSTANCES: Final = f"{SCALE_SETS}/virtualMachines"
"""The type of the machines of a Uniform scale set, which are parts of it."""

TAG_JOINED: Final = "multicompute-joined"
"""The tag of a scale set that later launches have enlarged, with the token of the last one."""


@dataclass(frozen=True, slots=True)
class ScaleSet:
    """A scale set of ours, as Compute lists it.

    Attributes:
        tags: Its tags, which may have been removed or replaced.
        token: The token that it is named from, "" if the selector does not have it.
        interface: The name of the interfaces of its instances.
        zone: Our name of its zone, "" for none.
        is_uniform: Whether its machines are parts of it, and not resources of their own.
        is_public: Whether its machines get public addresses.
        etag: Its version, "" if Azure does not report one.
    """

    id: str
    group: str
    name: str
    region: str
    state: str
    capacity: int
    instance_type: str
    is_spot: bool
    tags: Mapping[str, str] = field(default_factory=dict)
    token: str = ""
    interface: str = ""
    zone: str = ""
    is_uniform: bool = False
    is_public: bool = False
    etag: str = ""

    @property
    def place(self) -> Place:
        """Return the place to name in messages about it."""
        return Place("azure", self.region, instance_type=self.instance_type)

    @property
    def is_being_deleted(self) -> bool:
        """Return whether its deletion has begun."""
        return self.state.lower() == "deleting"

    @property
    def joined(self) -> str:
        """Return the token of the last launch that enlarged it, "" for none."""
        return self.tags.get(TAG_JOINED, "")

    @property
    def is_shared(self) -> bool:
        """Return whether instances of several launches may be in it; without its tags that is not known."""
        return self.is_uniform and (bool(self.joined) or not has_tag(self.tags, TAG_ID))

    @property
    def own_token(self) -> str:
        """Return the token of the launch that created it, "" if it is not known."""
        return self.tags.get(TAG_ATTEMPT) or self.token


def find_scale_set(clients: Clients, group: str, name: str, place: Place) -> ScaleSet | None:
    """Return a scale set by its name, or None if it does not exist."""
    item = clients.find("virtualMachineScaleSets.get", place, path_of(group, SCALE_SETS, name))
    return None if item is None else scale_set_of(clients, item)


def scale_set_of(clients: Clients, item: Mapping[str, Any], *, token: str = "") -> ScaleSet:
    """Return the scale set that a document describes."""
    properties, sku = item.get("properties") or {}, item.get("sku") or {}
    profile = properties.get("virtualMachineProfile") or {}
    own_id = clients.canonical(item["id"])
    named, region, interface = parse_id(own_id), plain_region(item.get("location")), _interface(profile)
    zones = item.get("zones") or ("",)
    return ScaleSet(
        id=own_id,
        group=named.group,
        name=named.name,
        region=region,
        state=str(properties.get("provisioningState") or ""),
        capacity=int(sku.get("capacity") or 0),
        instance_type=str(sku.get("name") or ""),
        is_spot=str(profile.get("priority") or "") == "Spot",
        tags=dict(item.get("tags") or {}),
        token=token,
        interface=str(interface.get("name") or ""),
        zone=zone_name(region, str(zones[0])),
        is_uniform=str(properties.get("orchestrationMode") or "").lower() == "uniform",
        is_public=_is_public(interface),
        etag=str(item.get("etag") or ""),
    )


def _interface(profile: Mapping[str, Any]) -> Mapping[str, Any]:
    network = profile.get("networkProfile") or {}
    configurations = network.get("networkInterfaceConfigurations") or [{}]
    found: Mapping[str, Any] = configurations[0]
    return found


def _is_public(interface: Mapping[str, Any]) -> bool:
    configurations = (interface.get("properties") or {}).get("ipConfigurations") or ()
    return any((each.get("properties") or {}).get("publicIPAddressConfiguration") for each in configurations)
