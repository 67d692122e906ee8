"""The actions on instances in the local cloud's own store; with moto's store ten thousand instances take minutes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from multicompute.testing.local.server import Request
from multicompute_aws.local import rendering, wire
from multicompute_aws.local.filters import Getter, select
from multicompute_aws.local.launcher import Launcher
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import STATE_CODES, USER_TERMINATED, Instance, Region, State
from multicompute_aws.local.wire import AwsError


@dataclass(frozen=True, slots=True)
class Call:
    """A call of EC2: the action, the region, the parameters, and the original request."""

    action: str
    region: Region
    params: Mapping[str, Any]
    request: Request


Handler = Callable[[Call], bytes]


class Instances:
    """RunInstances and the actions on the instances that it launches."""

    def __init__(self, state: State, moto: Moto, launcher: Launcher) -> None:
        """Keep the instances that `launcher` creates in `state`."""
        self._state = state
        self._moto = moto
        self._launcher = launcher

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by action."""
        return {
            "RunInstances": self._run,
            "DescribeInstances": self._describe,
            "TerminateInstances": self._terminate,
            "StopInstances": self._stop,
            "StartInstances": self._start,
            "RebootInstances": self._reboot,
            "DescribeInstanceAttribute": self._attribute,
            "ModifyInstanceAttribute": self._modify,
        }

    def _run(self, call: Call) -> bytes:
        now = self._state.now()
        launch = self._launcher.replayed(call.region, call.params)
        states = [instance.state(now) for instance in launch.instances] if launch else []
        if launch is None:
            launch, count = self._launcher.prepare(call.region, call.params)
            self._launcher.create(call.region, launch, count, call.params)
            # EC2 responds with "pending", however soon the instance runs.
            states = ["pending"] * count
        members = rendering.reservation_members(
            launch, launch.instances, self._moto.account, lambda instance: states[instance.index]
        )
        return wire.envelope("RunInstances", members)

    def _describe(self, call: Call) -> bytes:
        now = self._state.now()
        filters = filters_at(now, self._moto.account)
        page, more = select(call.params, "InstanceIds", candidates(call, now), filters)
        items = rendering.reservation_items(page, self._moto.account, now)
        token = f"<nextToken>{more}</nextToken>" if more else ""
        return wire.envelope("DescribeInstances", f"<reservationSet>{items}</reservationSet>{token}")

    def _terminate(self, call: Call) -> bytes:
        found = find_instances(call.region, call.params["InstanceIds"], self._state.now())
        refuse_undeletable(found, self._moto.account, call.region.name)
        now = self._state.now()
        before = [instance.state(now) for instance in found]
        for instance in unprotected(found):
            call.region.terminate(instance, now + self._state.timing.shutdown, USER_TERMINATED, now)
        refuse_protected(found)
        # EC2 responds with "shutting-down", however soon the instance is terminated.
        after = ["terminated" if state == "terminated" else "shutting-down" for state in before]
        return state_changes(call.action, "TerminatingInstances", found, before, after)

    def _stop(self, call: Call) -> bytes:
        found = find_instances(call.region, call.params["InstanceIds"], self._state.now())
        now = self._state.now()
        before = [instance.state(now) for instance in found]
        for instance, state in zip(found, before, strict=True):
            _refuse_ended(instance, state)
            if instance.spot_request is not None and instance.spot_request.kind == "one-time":
                raise AwsError(
                    "UnsupportedOperation",
                    f"You can't stop the Spot Instance '{instance.id}' because it is associated with a one-time Spot"
                    " Instance request.",
                )
        for instance in found:
            instance.is_stopped, instance.reason, instance.reason_at = True, USER_TERMINATED, now
        return state_changes(call.action, "StoppingInstances", found, before, ["stopping"] * len(found))

    def _start(self, call: Call) -> bytes:
        found = find_instances(call.region, call.params["InstanceIds"], self._state.now())
        now = self._state.now()
        before = [instance.state(now) for instance in found]
        for instance, state in zip(found, before, strict=True):
            _refuse_ended(instance, state)
        self._require_capacity(call.region, [instance for instance in found if instance.is_stopped])
        for instance in found:
            instance.is_stopped, instance.reason, instance.runs_from = False, None, now + self._state.timing.boot
        return state_changes(call.action, "StartingInstances", found, before, ["pending"] * len(found))

    def _require_capacity(self, region: Region, instances: Sequence[Instance]) -> None:
        """Refuse to start instances if a zone has no room for all of them: a stopped instance keeps no capacity."""
        wanted = Counter((instance.launch.zone, instance.launch.instance_type) for instance in instances)
        for (zone, instance_type), count in wanted.items():
            room = self._state.available(region, zone, instance_type)
            if room is not None and room < count:
                message = f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested ({zone})."
                raise AwsError("InsufficientInstanceCapacity", message, 500)

    def _reboot(self, call: Call) -> bytes:
        find_instances(call.region, call.params["InstanceIds"], self._state.now())
        return wire.response_body(call.action, {})

    def _attribute(self, call: Call) -> bytes:
        instance = find_instances(call.region, [call.params["InstanceId"]], self._state.now())[0]
        values: dict[str, dict[str, Any]] = {
            "userData": {"UserData": {"Value": instance.launch.user_data}},
            "instanceType": {"InstanceType": {"Value": instance.launch.instance_type}},
            "disableApiTermination": {"DisableApiTermination": {"Value": instance.is_protected}},
            "instanceInitiatedShutdownBehavior": {
                "InstanceInitiatedShutdownBehavior": {"Value": instance.shutdown_behavior}
            },
        }
        attribute = call.params["Attribute"]
        if attribute not in values:
            raise AwsError("InvalidParameterValue", f"The local EC2 does not know the attribute '{attribute}'")
        return wire.response_body(call.action, {"InstanceId": instance.id, **values[attribute]})

    def _modify(self, call: Call) -> bytes:
        instance = find_instances(call.region, [call.params["InstanceId"]], self._state.now())[0]
        if "DisableApiTermination" in call.params:
            instance.is_protected = call.params["DisableApiTermination"].get("Value", False)
        if "InstanceInitiatedShutdownBehavior" in call.params:
            instance.shutdown_behavior = call.params["InstanceInitiatedShutdownBehavior"].get("Value", "stop")
        return wire.response_body(call.action, {})


def candidates(call: Call, now: datetime) -> Iterator[Instance]:
    """Yield the instances that a call names, or all that listings show.

    Raises:
        AwsError: An id is unknown.
    """
    ids = call.params.get("InstanceIds")
    yield from find_instances(call.region, ids, now) if ids else call.region.visible(now)


def find_instances(region: Region, ids: Sequence[str], now: datetime) -> list[Instance]:
    """Return the instances with these ids. An instance that the API does not find yet is unknown.

    Raises:
        AwsError: An id is unknown; EC2 then refuses the complete call.
    """
    unknown = [
        identifier
        for identifier in ids
        if (instance := region.instances.get(identifier)) is None or now < instance.listed_from
    ]
    for identifier in unknown:
        if not identifier.startswith("i-"):
            raise AwsError("InvalidInstanceID.Malformed", f'Invalid id: "{identifier}"')
    if len(unknown) == 1:
        raise AwsError("InvalidInstanceID.NotFound", f"The instance ID '{unknown[0]}' does not exist")
    if unknown:
        raise AwsError("InvalidInstanceID.NotFound", f"The instance IDs '{', '.join(unknown)}' do not exist")
    return [region.instances[identifier] for identifier in dict.fromkeys(ids)]


def filters_at(now: datetime, account: str) -> Mapping[str, Getter[Instance]]:
    """Return the filters of DescribeInstances at a time."""
    return _FILTERS | {
        "instance-state-name": lambda instance: (instance.state(now),),
        "instance-state-code": lambda instance: (str(STATE_CODES[instance.state(now)]),),
        "owner-id": lambda instance: (account,),
    }


def unprotected(instances: Sequence[Instance]) -> list[Instance]:
    """Return the instances that a call terminates: those in zones where it names no protected one.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingDisableAPITermination.html, "Terminate multiple instances
    with termination protection".
    """
    zones = {instance.launch.zone for instance in instances if instance.is_protected}
    return [instance for instance in instances if instance.launch.zone not in zones]


def refuse_undeletable(instances: Iterable[Instance], account: str, region: str) -> None:
    """Refuse to terminate instances if a policy denies it for one of them."""
    for instance in instances:
        if instance.is_undeletable:
            resource = f"arn:aws:ec2:{region}:{account}:instance/{instance.id}"
            raise AwsError("UnauthorizedOperation", denied(account, "TerminateInstances", on=resource), 403)


def denied(account: str, action: str, *, on: str = "", policy: str = "identity-based policy") -> str:
    """Return the message of a denial: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html."""
    where = f" on resource: {on}" if on else ""
    return (
        f"You are not authorized to perform this operation. User: arn:aws:iam::{account}:user/local is not authorized to perform:"
        f" ec2:{action}{where} with an explicit deny in {'an' if policy[0] in 'aeiou' else 'a'} {policy}."
        " Encoded authorization failure message: 3q2-7w"
    )


def refuse_protected(instances: Iterable[Instance]) -> None:
    """Refuse to terminate instances if one of them has termination protection."""
    for instance in instances:
        if instance.is_protected:
            raise AwsError(
                "OperationNotPermitted",
                f"The instance '{instance.id}' may not be terminated. Modify its 'disableApiTermination' instance"
                " attribute and try again.",
            )


def state_changes(
    action: str, member: str, instances: Iterable[Instance], before: Iterable[str], after: Iterable[str]
) -> bytes:
    """Return the response of an action that changes states."""
    changes = [
        {
            "InstanceId": instance.id,
            "CurrentState": {"Code": STATE_CODES[new], "Name": new},
            "PreviousState": {"Code": STATE_CODES[old], "Name": old},
        }
        for instance, old, new in zip(instances, before, after, strict=True)
    ]
    return wire.response_body(action, {member: changes})


def _refuse_ended(instance: Instance, state: str) -> None:
    if state in ("terminated", "shutting-down"):
        raise AwsError(
            "IncorrectInstanceState", f"The instance '{instance.id}' is not in a state from which it can do that."
        )


def _lifecycle(instance: Instance) -> tuple[str, ...]:
    if instance.launch.capacity_block:
        return ("capacity-block",)
    return ("spot",) if instance.launch.spot else ()


def _some(value: str | None) -> tuple[str, ...]:
    return (value,) if value else ()


_FILTERS: dict[str, Getter[Instance]] = {
    "instance-id": lambda instance: (instance.id,),
    "instance-type": lambda instance: (instance.launch.instance_type,),
    "availability-zone": lambda instance: (instance.launch.zone,),
    "client-token": lambda instance: (instance.launch.token,),
    "instance-lifecycle": _lifecycle,
    "placement-group-name": lambda instance: _some(instance.launch.placement_group),
    "reservation-id": lambda instance: (instance.launch.id,),
    "capacity-reservation-id": lambda instance: _some(instance.launch.capacity_reservation),
    "spot-instance-request-id": lambda instance: _some(instance.spot_request.id if instance.spot_request else None),
    "image-id": lambda instance: (instance.launch.image,),
    "key-name": lambda instance: _some(instance.launch.key),
    "vpc-id": lambda instance: (instance.launch.vpc,),
    "network-interface.vpc-id": lambda instance: (instance.launch.vpc,),
    "subnet-id": lambda instance: (instance.launch.interfaces[0].subnet,),
    "instance.group-id": lambda instance: instance.launch.group_ids,
    "network-interface.group-id": lambda instance: instance.launch.group_ids,
    "architecture": lambda instance: (instance.launch.arch,),
    "private-ip-address": lambda instance: (instance.address,),
    "ip-address": lambda instance: _some(instance.public_address),
    "root-device-name": lambda instance: (instance.launch.root_device,),
    "root-device-type": lambda instance: ("ebs",),
    "tenancy": lambda instance: ("default",),
    "state-reason-code": lambda instance: (instance.reason[0],) if instance.reason else (),
    "instance-group-id": lambda instance: instance.launch.group_ids,
    "launch-time": lambda instance: (wire.text(instance.launch.launched_at),),
}
