"""The actions on instances in moto's store: moto answers as far as it can, and this module adds the rest."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

from multicompute_aws.local import wire
from multicompute_aws.local.filters import matcher
from multicompute_aws.local.instances import (
    Call,
    Handler,
    filters_at,
    find_instances,
    refuse_protected,
    refuse_undeletable,
    state_changes,
    unprotected,
)
from multicompute_aws.local.launcher import Launcher
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import STATE_CODES, USER_TERMINATED, Instance, Launch, State

_XMLNS = re.compile(rb' xmlns="[^"]*"')
# Filters that moto lacks, or answers by its own states.
_OWN_FILTERS = frozenset(
    {
        "client-token",
        "instance-lifecycle",
        "placement-group-name",
        "capacity-reservation-id",
        "spot-instance-request-id",
        "instance-state-name",
        "instance-state-code",
    }
)


class MotoInstances:
    """Instances in moto's store: slow with many instances, but an independent reference for the own store."""

    def __init__(self, state: State, moto: Moto, launcher: Launcher) -> None:
        """Keep the instances in `moto`, and in `state` what moto has no field for."""
        self._state = state
        self._moto = moto
        self._launcher = launcher

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by action; moto answers the actions on volumes and interfaces."""
        return {
            "RunInstances": self._run,
            "DescribeInstances": self._describe,
            "TerminateInstances": self._terminate,
            "StopInstances": self._checked(self._note_stop),
            "StartInstances": self._checked(self._note_start),
            "DescribeNetworkInterfaces": self._describe_interfaces,
        }

    def _describe_interfaces(self, call: Call) -> bytes:
        """Pass the call on to moto, without the filter that moto lacks: it returns more then, with the device index of each."""
        kept = [each for each in call.params.get("Filters", []) if each.get("Name") != "attachment.device-index"]
        params = {**call.params, "Filters": kept}
        if not kept:
            del params["Filters"]
        return self._call_moto(call.action, call, params)

    def _run(self, call: Call) -> bytes:
        launch = self._launcher.replayed(call.region, call.params)
        if launch is not None:
            return self._described(call, launch)
        launch, count = self._launcher.prepare(call.region, call.params)
        body = self._call_moto("RunInstances", call, _for_moto(launch, count, call.params))
        root = _parsed(body)
        ids = [element.text or "" for element in root.iter("instanceId")]
        self._launcher.adopt(call.region, launch, ids, call.params)
        self._tag_interfaces(call.region.name, launch)
        return self._decorated(call, root, state="pending")

    def _described(self, call: Call, launch: Launch) -> bytes:
        """Return the response of RunInstances again, for a repeated token."""
        ids = [instance.id for instance in launch.instances]
        root = _parsed(self._call_moto("DescribeInstances", call, {"InstanceIds": ids}))
        response = ElementTree.Element("RunInstancesResponse")
        reservation = root.find("reservationSet/item")
        response.extend(list(reservation if reservation is not None else ()))
        return self._decorated(call, response)

    def _describe(self, call: Call) -> bytes:
        now = self._state.now()
        ids = call.params.get("InstanceIds")
        if ids:
            find_instances(call.region, ids, now)
        filters = call.params.get("Filters", [])
        own = [entry for entry in filters if entry.get("Name") in _OWN_FILTERS]
        theirs = [entry for entry in filters if entry.get("Name") not in _OWN_FILTERS]
        matches = matcher(own, filters_at(now, self._moto.account), lambda instance: instance.tags)
        params = {**call.params, "Filters": theirs}
        if not theirs:
            del params["Filters"]
        root = _parsed(self._call_moto("DescribeInstances", call, params))

        def is_shown(instance: Instance) -> bool:
            return now >= instance.listed_from and matches(instance)

        for reservations in root.iter("reservationSet"):
            _keep_shown(reservations, call.region.instances, is_shown)
        return self._decorated(call, root)

    def _terminate(self, call: Call) -> bytes:
        now = self._state.now()
        found = find_instances(call.region, call.params["InstanceIds"], now)
        refuse_undeletable(found, self._moto.account, call.region.name)
        before = [instance.state(now) for instance in found]
        # moto fails on an instance that is terminated already; EC2 does not.
        live = [instance.id for instance in unprotected(found) if instance.ends_at is None]
        if live:
            self._call_moto(call.action, call, {"InstanceIds": live})
        for instance in unprotected(found):
            call.region.terminate(instance, now + self._state.timing.shutdown, USER_TERMINATED, now)
        refuse_protected(found)
        after = ["terminated" if state == "terminated" else "shutting-down" for state in before]
        return state_changes(call.action, "TerminatingInstances", found, before, after)

    def _checked(self, note: Callable[[Call], None]) -> Handler:
        """Return a handler that checks the ids, passes the call on to moto, and then runs `note`."""

        def handle(call: Call) -> bytes:
            find_instances(call.region, call.params.get("InstanceIds", ()), self._state.now())
            body = self._call_moto(call.action, call, call.params)
            note(call)
            return body

        return handle

    def _note_stop(self, call: Call) -> None:
        for instance in find_instances(call.region, call.params["InstanceIds"], self._state.now()):
            instance.is_stopped = True

    def _note_start(self, call: Call) -> None:
        for instance in find_instances(call.region, call.params["InstanceIds"], self._state.now()):
            instance.is_stopped, instance.reason = False, None

    def _call_moto(self, action: str, call: Call, params: Mapping[str, Any]) -> bytes:
        body = urlencode(wire.form_of(action, params)).encode()
        return self._moto.call_or_refuse(replace(call.request, body=body))

    def _tag_interfaces(self, region: str, launch: Launch) -> None:
        tags = launch.tags.get("network-interface")
        if not tags:
            return
        ids = {instance.id for instance in launch.instances}
        for interface in self._moto.ec2(region).enis.values():
            if interface.instance is not None and interface.instance.id in ids:
                interface.add_tags(tags)

    def _decorated(self, call: Call, root: ElementTree.Element, state: str | None = None) -> bytes:
        now = self._state.now()
        for item in root.iter("item"):
            identifier = item.findtext("instanceId")
            instance = call.region.instances.get(identifier or "")
            if instance is not None and item.find("instanceState") is not None:
                _decorate(item, instance, state or instance.state(now))
        root.set("xmlns", wire.NAMESPACE)
        body: bytes = ElementTree.tostring(root, encoding="utf-8")
        return body


def _parsed(body: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(_XMLNS.sub(b"", body, count=1))


def _keep_shown(
    reservations: ElementTree.Element, instances: Mapping[str, Instance], is_shown: Callable[[Instance], bool]
) -> None:
    for reservation in list(reservations):
        members = reservation.find("instancesSet")
        for item in list(members if members is not None else ()):
            instance = instances.get(item.findtext("instanceId") or "")
            if members is not None and (instance is None or not is_shown(instance)):
                members.remove(item)
        if members is None or not len(members):
            reservations.remove(reservation)


def _decorate(item: ElementTree.Element, instance: Instance, state: str) -> None:
    """Add to moto's description of an instance what moto does not know."""
    launch = instance.launch
    _set(item, "clientToken", launch.token)
    _set(item, "instanceState/name", state)
    _set(item, "instanceState/code", str(STATE_CODES[state]))
    _set(item, "placement/groupName", launch.placement_group or "")
    _set(item, "cpuOptions/coreCount", str(launch.cores))
    _set(item, "cpuOptions/threadsPerCore", str(max(launch.vcpus // launch.cores, 1)))
    if instance.spot_request is not None:
        _set(item, "spotInstanceRequestId", instance.spot_request.id)
    if launch.capacity_reservation:
        _set(item, "capacityReservationId", launch.capacity_reservation)
    if launch.capacity_block:
        _set(item, "instanceLifecycle", "capacity-block")
    if instance.reason is not None:
        _set(item, "stateReason/code", instance.reason[0])
        _set(item, "stateReason/message", instance.reason[1])


def _set(item: ElementTree.Element, path: str, value: str) -> None:
    for step in path.split("/"):
        found = item.find(step)
        item = found if found is not None else ElementTree.SubElement(item, step)
    item.text = value


def _for_moto(launch: Launch, count: int, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request for moto: with a fixed count, and with every interface and volume.

    moto knows only one network card, on which device indexes are unique: interfaces on other cards are omitted.
    """
    passed = ("ImageId", "InstanceType", "KeyName", "UserData", "IamInstanceProfile", "MetadataOptions", "Monitoring")
    wanted: dict[str, Any] = {name: params[name] for name in passed if name in params}
    wanted |= {
        "MinCount": count,
        "MaxCount": count,
        "ClientToken": launch.token or "none",
        "InstanceInitiatedShutdownBehavior": launch.shutdown_behavior,
        "NetworkInterfaces": _interfaces(launch),
        "BlockDeviceMappings": [
            {
                "DeviceName": disk.device,
                "Ebs": {
                    "VolumeSize": disk.size,
                    "VolumeType": disk.type,
                    "Encrypted": disk.encrypted,
                    "DeleteOnTermination": disk.delete_on_termination,
                },
            }
            for disk in launch.disks
        ],
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            for kind, tags in launch.tags.items()
            if kind in ("instance", "volume")
        ],
    }
    if launch.spot:
        wanted["InstanceMarketOptions"] = {"MarketType": "spot"}
    return wanted


def _interfaces(launch: Launch) -> list[dict[str, Any]]:
    listed: Sequence[dict[str, Any]] = [
        {
            "DeviceIndex": spec.device,
            "SubnetId": spec.subnet,
            "Groups": [group for group, _ in spec.groups],
            "DeleteOnTermination": spec.delete_on_termination,
            "AssociatePublicIpAddress": launch.public_address and spec.device == 0,
        }
        for spec in launch.interfaces
        if spec.card == 0
    ]
    return list(listed)
