"""The actions on elastic IP addresses, which moto stores; the instances that they are associated with may be in the own store."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multicompute_aws.local import wire
from multicompute_aws.local.instances import Call, Handler
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import Instance, Region, State
from multicompute_aws.local.tag_rules import read_specifications
from multicompute_aws.local.wire import AwsError

ADDRESS_QUOTA = ("L-0263D0A3", "EC2-VPC Elastic IPs")
"""https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html, "Elastic IP addresses"."""
# RFC 2544: addresses for benchmarks, which no router forwards. Those that instances get at their launch are in the lower half.
_FIRST = int(ipaddress.IPv4Address("198.19.0.1"))


@dataclass(frozen=True)
class _Holder:
    """An instance or interface of the own store, in the form in which moto renders the holder of an address."""

    id: str
    private_ip_address: str
    owner_id: str


class Addresses:
    """Elastic IP addresses.

    EC2's rules and messages are those of public error reports: association with an interface of a pending instance,
    https://github.com/hashicorp/terraform-provider-aws/issues/19699, with a pending instance,
    https://github.com/hashicorp/terraform-provider-aws/pull/3072, and too many addresses,
    https://gist.github.com/rterbush/bc1855e4ad3c704b2d42.
    """

    def __init__(self, state: State, moto: Moto) -> None:
        """Keep the addresses in `moto`, and find their instances in `state`."""
        self._state = state
        self._moto = moto

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by action."""
        return {
            "AllocateAddress": self._allocate,
            "AssociateAddress": self._associate,
            "DescribeAddresses": self._describe,
            "DisassociateAddress": self._disassociate,
            "ReleaseAddress": self._release,
        }

    def _allocate(self, call: Call) -> bytes:
        tags = read_specifications(call.params.get("TagSpecifications", []), ("elastic-ip",)).get("elastic-ip", {})
        ec2 = self._moto.ec2(call.region.name)
        limit = self._state.quotas.get((call.region.name, ADDRESS_QUOTA[0]))
        if limit is not None and len(ec2.addresses) >= limit:
            raise AwsError("AddressLimitExceeded", "The maximum number of addresses has been reached.")
        address = str(ipaddress.IPv4Address(_FIRST + self._state.number()))
        made = ec2.allocate_address(domain="vpc", address=address, tags=tags)
        values = {"PublicIp": made.public_ip, "AllocationId": made.allocation_id, "Domain": "vpc"}
        return wire.response_body(call.action, values)

    def _describe(self, call: Call) -> bytes:
        drop_ended(self._moto, call.region, self._state)
        return self._moto.call_or_refuse(call.request)

    def _associate(self, call: Call) -> bytes:
        drop_ended(self._moto, call.region, self._state)
        address = self._find(call, call.params.get("AllocationId", ""))
        instance, interface = self._target(call)
        current = self._address_of(call.region.name, instance)
        is_same = current is address
        if not call.params.get("AllowReassociation", True) and not is_same and (address.eni or current is not None):
            what = f"resource {call.params.get('AllocationId')}" if address.eni else f"resource {interface}"
            raise AwsError("Resource.AlreadyAssociated", f"{what} is already associated with associate-id eipassoc-1")
        account = self._moto.account
        address.instance = _Holder(instance.id, instance.address, account)
        address.eni = _Holder(interface, instance.address, account)
        address.association_id = f"eipassoc-0{self._state.number():016x}"
        self._show(call.region, instance, address.public_ip)
        return wire.response_body(call.action, {"AssociationId": address.association_id})

    def _target(self, call: Call) -> tuple[Instance, str]:
        """Return the instance that a call names, and its interface."""
        interface, name = call.params.get("NetworkInterfaceId", ""), call.params.get("InstanceId", "")
        if interface:
            instance = self._instance_with(call.region, interface)
            if instance.state(self._state.now()) == "pending":
                raise AwsError(
                    "IncorrectInstanceState",
                    f"The pending-instance-creation instance to which '{interface}' is attached is not in a valid state for this"
                    " operation",
                )
            return instance, interface
        found = call.region.instances.get(name)
        if found is None:
            raise AwsError("InvalidInstanceID.NotFound", f"The instance ID '{name}' does not exist")
        state = found.state(self._state.now())
        if state not in ("running", "stopped"):
            raise AwsError(
                "InvalidInstanceID", f"The {state} instance '{name}' is not in a valid state for this operation."
            )
        if len(found.launch.interfaces) > 1:
            raise AwsError(
                "InvalidInstanceID",
                f"There are multiple interfaces attached to instance '{name}'. Please specify an interface ID for the operation"
                " instead.",
            )
        return found, found.interfaces[0].id if found.interfaces else ""

    def _instance_with(self, region: Region, interface: str) -> Instance:
        own = region.interfaces.get(interface)
        if own is not None and own.instance is not None:
            return own.instance
        theirs = self._moto.ec2(region.name).enis.get(interface)
        found = region.instances.get(theirs.instance.id) if theirs is not None and theirs.instance is not None else None
        if found is None:
            raise AwsError(
                "InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{interface}' does not exist"
            )
        return found

    def _show(self, region: Region, instance: Instance, address: str) -> None:
        instance.public_address = address
        for interface in self._moto.ec2(region.name).enis.values():
            if interface.instance is not None and interface.instance.id == instance.id and interface.device_index == 0:
                interface.public_ip = address or None

    def _address_of(self, region: str, instance: Instance) -> Any:
        found = (each for each in self._moto.ec2(region).addresses if each.instance_id == instance.id)
        return next(found, None)

    def _find(self, call: Call, allocation: str) -> Any:
        for address in self._moto.ec2(call.region.name).addresses:
            if address.allocation_id == allocation:
                return address
        raise AwsError("InvalidAllocationID.NotFound", f"The allocation ID '{allocation}' does not exist")

    def _disassociate(self, call: Call) -> bytes:
        wanted = call.params.get("AssociationId", "")
        for address in self._moto.ec2(call.region.name).addresses:
            if address.association_id == wanted:
                instance = call.region.instances.get(address.instance_id)
                if instance is not None:
                    self._show(call.region, instance, "")
                _detach(address)
                return wire.response_body(call.action, {})
        raise AwsError("InvalidAssociationID.NotFound", f"The association ID '{wanted}' does not exist")

    def _release(self, call: Call) -> bytes:
        drop_ended(self._moto, call.region, self._state)
        address = self._find(call, call.params.get("AllocationId", ""))
        if address.eni:
            raise AwsError("InvalidIPAddress.InUse", f"Address {address.public_ip} is in use.")
        self._moto.ec2(call.region.name).addresses.remove(address)
        return wire.response_body(call.action, {})


def drop_ended(moto: Moto, region: Region, state: State) -> None:
    """Disassociate the addresses of terminated instances.

    https://docs.aws.amazon.com/vpc/latest/userguide/vpc-eips.html: an address stays allocated when its instance is terminated.
    """
    for address in moto.ec2(region.name).addresses:
        if not isinstance(address.eni, _Holder):
            continue
        instance = region.instances.get(address.instance_id)
        if instance is None or not instance.is_live(state.now()):
            _detach(address)


def _detach(address: Any) -> None:
    address.instance, address.eni, address.association_id = None, None, None
