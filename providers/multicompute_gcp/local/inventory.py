"""The inventory of the local Google Cloud, whether or not listings show it."""

from collections.abc import Iterator, Mapping

from multicompute.provider import Resource
from multicompute_gcp.local.group_records import Group
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.records import Instance, described
from multicompute_gcp.local.state import State
from multicompute_gcp.local.tpu_records import QueuedResource, TpuNode, TpuRecords

# Kinds without labels: their tags are in the description.
_WITHOUT_LABELS: Mapping[str, str] = {
    "firewall": "firewall",
    "resourcePolicy": "resource-policy",
    "instanceTemplate": "instance-template",
}


class Inventory:
    """The resources of all zones: lists and finds them."""

    def __init__(self, state: State, tpus: TpuRecords) -> None:
        """List the Compute Engine resources in `state` and the TPU resources in `tpus`."""
        self._state = state
        self._tpus = tpus

    def resources(self) -> Iterator[Resource]:
        """Yield every resource; each host of a slice is one."""
        yield from self._zonal()
        for kind, word in _WITHOUT_LABELS.items():
            for scope, store in self._state.stores.get(kind, {}).items():
                region = scope.removeprefix("regions/")
                for resource in store:
                    yield Resource("gcp", word, resource.name, region, billable=False, tags=dict(resource.tags))

    def _zonal(self) -> Iterator[Resource]:
        for zone, records in self._state.zones.items():
            region = hardware().zones[zone]
            for instance in records.instances:
                yield _of_instance(instance)
            for disk in records.disks:
                yield Resource("gcp", "disk", disk.name, region, billable=True, tags=dict(disk.labels))
            for group in records.groups:
                yield from _of_group(group, region)
        for zone in self._tpus.zones():
            region = hardware().zones[zone]
            for node in self._tpus.zone(zone).nodes:
                yield from _hosts(node, region)
            for queued in self._tpus.zone(zone).queued:
                tags = dict(queued.labels)
                yield Resource("gcp", "queued-resource", queued.name, region, billable=False, tags=tags)

    def running(self) -> Iterator[Resource]:
        """Yield the instances and the hosts of slices that run, in the order of their creation."""
        now = self._state.now()
        instances = [one for one in self._state.instances() if one.status(now) == "RUNNING"]
        for instance in sorted(instances, key=lambda one: one.id):
            yield _of_instance(instance)
        nodes = [node for zone in self._tpus.zones() for node in self._tpus.zone(zone).nodes]
        for node in sorted(nodes, key=lambda one: one.id):
            if node.state(now) == "READY":
                yield from _hosts(node, hardware().zones[node.zone])

    def instance(self, name: str) -> Instance:
        """Return the instance with a name.

        Raises:
            ValueError: No zone has an instance of this name, or several zones have one.
        """
        found = [one for one in self._state.instances() if one.name == name]
        if len(found) != 1:
            raise ValueError(f"{name}: {len(found)} instances have this name")
        return found[0]

    def node(self, name: str) -> TpuNode | None:
        """Return the slice with a name, or the slice of a host ("slice/0"); None if it does not exist."""
        name = name.split("/", 1)[0]
        for zone in self._tpus.zones():
            node = self._tpus.zone(zone).nodes.find(name)
            if node is not None:
                return node
        return None

    def queued(self, name: str) -> QueuedResource:
        """Return the queued resource with a name.

        Raises:
            ValueError: It does not exist.
        """
        for zone in self._tpus.zones():
            queued = self._tpus.zone(zone).queued.find(name)
            if queued is not None:
                return queued
        raise ValueError(f"{name}: no such queued resource")

    def metadata(self, name: str) -> Mapping[str, str]:
        """Return the metadata of an instance or a slice."""
        node = self.node(name)
        if node is not None:
            found: Mapping[str, str] = node.body.get("metadata", {})
            return found
        items = self.instance(name).body["metadata"].get("items", [])
        return {item["key"]: item.get("value", "") for item in items}


def _of_instance(instance: Instance) -> Resource:
    # A stopped instance costs nothing; its disks do.
    billable = instance.stopped_at is None and not instance.is_pending
    return Resource("gcp", "instance", instance.name, instance.host.region, billable, dict(instance.labels))


def _of_group(group: Group, region: str) -> Iterator[Resource]:
    yield Resource("gcp", "instance-group-manager", group.name, region, billable=False, tags=dict(group.tags))
    for request in group.requests:
        tags = dict(described(request.body.get("description", "")))
        yield Resource("gcp", "resize-request", request.name, region, billable=False, tags=tags)


def _hosts(node: TpuNode, region: str) -> Iterator[Resource]:
    for host in range(node.slice.hosts):
        billable = node.preempted_at is None and node.stopped_at is None
        yield Resource("gcp", "tpu-host", f"{node.name}/{host}", region, billable, dict(node.labels))
