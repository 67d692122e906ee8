"""The inventory of the local AWS, whether or not listings show it."""

from collections.abc import Iterator

from multicompute.provider import Resource
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import Region, State


def list_resources(state: State, moto: Moto, *, instances_in_moto: bool) -> Iterator[Resource]:
    """Yield every resource in every region, except default VPCs and reservations; the caller holds the lock."""
    for name in list(state.regions):
        region = state.region(name)
        if not instances_in_moto:
            yield from _instances(region, state)
        for group in region.placement_groups.values():
            yield Resource("aws", "placement-group", group.name, name, billable=False, tags=dict(group.tags))
        for request in region.spot_requests.values():
            if request.state in ("open", "active"):
                tags = dict(request.tags)
                yield Resource("aws", "spot-instances-request", request.id, name, billable=False, tags=tags)
    yield from moto.resources()


def _instances(region: Region, state: State) -> Iterator[Resource]:
    for instance in region.live(state.now()):
        yield Resource("aws", "instance", instance.id, region.name, billable=True, tags=dict(instance.tags))
    for volume in region.volumes.values():
        yield Resource("aws", "volume", volume.id, region.name, billable=True, tags=dict(volume.tags))
    for interface in region.interfaces.values():
        tags = dict(interface.tags)
        yield Resource("aws", "network-interface", interface.id, region.name, billable=False, tags=tags)
