"""CreateTags, DeleteTags and DescribeTags for the resources in the own store and in moto."""

from collections.abc import Iterator, Mapping
from typing import Any

from multicompute_aws.local import wire
from multicompute_aws.local.attachments import with_moto_items, without_ids
from multicompute_aws.local.filters import Getter, matcher
from multicompute_aws.local.instances import Call, Handler, find_instances
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import Region, State, Tags
from multicompute_aws.local.tag_rules import check_count, check_metadata_keys, read_tags
from multicompute_aws.local.wire import AwsError

TagRow = tuple[str, str, str, str]
"""Resource id, resource type, key and value."""
_NOT_FOUND = {
    "i": ("InvalidInstanceID.NotFound", "The instance ID '{}' does not exist"),
    "pg": ("InvalidPlacementGroup.Unknown", "The Placement Group '{}' is unknown."),
    "cr": ("InvalidCapacityReservationId.NotFound", "The capacity reservation '{}' does not exist"),
    "sir": ("InvalidSpotInstanceRequestID.NotFound", "The spot instance request ID '{}' does not exist"),
    "vol": ("InvalidVolume.NotFound", "The volume '{}' does not exist."),
}


class Tagging:
    """The tags of all resources."""

    def __init__(self, state: State, moto: Moto, *, instances_in_moto: bool) -> None:
        """Find tags in `state`, and in `moto` for the resources that are there; `instances_in_moto` adds instances to these."""
        self._state = state
        self._moto = moto
        self._kinds_in_moto = frozenset({"i", "vol", "eni"}) if instances_in_moto else frozenset()

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by action."""
        return {"CreateTags": self._create, "DeleteTags": self._delete, "DescribeTags": self._describe}

    def _create(self, call: Call) -> bytes:
        new = read_tags(call.params.get("Tags", []))
        own = self._own_tags(call)
        for tags in own:
            check_count((*tags, *new))
        for identifier in call.params["Resources"]:
            instance = call.region.instances.get(identifier)
            if instance is not None and instance.launch.metadata.get("InstanceMetadataTags") == "enabled":
                check_metadata_keys(new)
        self._forward(call)
        for tags in own:
            tags.update(new)
        return wire.response_body(call.action, {})

    def _delete(self, call: Call) -> bytes:
        own = self._own_tags(call)
        self._forward(call)
        for tags in own:
            _remove(tags, call.params.get("Tags"))
        return wire.response_body(call.action, {})

    def _describe(self, call: Call) -> bytes:
        matches = matcher(call.params.get("Filters", ()), _FILTERS, lambda row: {row[2]: row[3]})
        rows = [row for row in self._rows(call.region) if matches(row)]
        listed = [
            {"ResourceId": identifier, "ResourceType": kind, "Key": key, "Value": value}
            for identifier, kind, key, value in rows
        ]
        values: dict[str, Any] = {"Tags": listed}
        return with_moto_items(
            wire.response_body(call.action, values), self._moto, call, "ResourceId", lambda identifier: False
        )

    def _own_tags(self, call: Call) -> list[Tags]:
        """Return the tags of the resources in the own store; an unknown resource fails the complete call."""
        resources = call.params["Resources"]
        if "i" in self._kinds_in_moto:
            # moto does not check this.
            find_instances(call.region, [item for item in resources if item.startswith("i-")], self._state.now())
        found = []
        for identifier in resources:
            tags = self._tags_of(call.region, identifier)
            if tags is not None:
                found.append(tags)
            elif self._is_own(identifier):
                code, message = _NOT_FOUND[identifier.split("-", 1)[0]]
                raise AwsError(code, message.format(identifier))
        return found

    def _is_own(self, identifier: str) -> bool:
        kind = identifier.split("-", 1)[0]
        return kind in _NOT_FOUND and kind not in self._kinds_in_moto

    def _forward(self, call: Call) -> None:
        """Pass the resources in moto on to moto; this comes first, so that a refusal leaves everything unchanged."""
        ids = call.params["Resources"]
        theirs = [identifier for identifier in ids if self._tags_of(call.region, identifier) is None]
        if not theirs:
            return
        self._moto.call_or_refuse(without_ids(call, "ResourceId", lambda identifier: identifier not in theirs))

    def _tags_of(self, region: Region, identifier: str) -> Tags | None:
        kind = identifier.split("-", 1)[0]
        if kind in self._kinds_in_moto:
            return None
        if kind == "i":
            instance = region.instances.get(identifier)
            return instance.tags if instance and self._state.now() >= instance.listed_from else None
        if kind == "pg":
            return next((group.tags for group in region.placement_groups.values() if group.id == identifier), None)
        by_kind: Mapping[str, Mapping[str, Any]] = {
            "vol": region.volumes,
            "eni": region.interfaces,
            "cr": region.reservations,
            "sir": region.spot_requests,
        }
        record = by_kind.get(kind, {}).get(identifier)
        return record.tags if record is not None else None

    def _rows(self, region: Region) -> Iterator[TagRow]:
        kinds: list[tuple[str, Mapping[str, Any]]] = [
            ("placement-group", region.placement_groups),
            ("capacity-reservation", region.reservations),
            ("spot-instances-request", region.spot_requests),
        ]
        if not self._kinds_in_moto:
            kinds += [("instance", region.instances), ("volume", region.volumes)]
            kinds += [("network-interface", region.interfaces)]
        for kind, records in kinds:
            for record in records.values():
                for key, value in record.tags.items():
                    yield record.id, kind, key, value


def _remove(tags: Tags, pairs: list[Mapping[str, str]] | None) -> None:
    if pairs is None:
        tags.clear()
        return
    for pair in pairs:
        key = pair.get("Key", "")
        if "Value" not in pair or tags.get(key) == pair["Value"]:
            tags.pop(key, None)


_FILTERS: dict[str, Getter[TagRow]] = {
    "resource-id": lambda row: (row[0],),
    "resource-type": lambda row: (row[1],),
    "key": lambda row: (row[2],),
    "value": lambda row: (row[3],),
}
