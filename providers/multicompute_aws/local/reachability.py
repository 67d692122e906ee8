"""Decides whether an instance can be reached from the internet and can reach it: by its address, its subnet's routes and its groups."""

from typing import Any

from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import Instance

_ANYWHERE = "0.0.0.0/0"
_SSH = 22


def is_reachable(moto: Moto, instance: Instance) -> bool:
    """Return whether SSH from outside the VPC reaches an instance.

    https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html: it needs an internet gateway, a route to it, a
    public address, and a rule that allows the traffic.
    """
    ec2 = moto.ec2(instance.launch.region)
    primary = instance.launch.interfaces[0]
    groups = [moto.security_group(instance.launch.region, group) for group, _ in primary.groups]
    is_allowed = any(_allows_ssh(rule) for group in groups if group is not None for rule in group.ingress_rules)
    return bool(_public_address(ec2, instance)) and _leads(ec2, primary.subnet) == "internet" and is_allowed


def has_way_out(moto: Moto, instance: Instance) -> bool:
    """Return whether an instance can open a connection to the internet: with a public address, or through a NAT gateway."""
    ec2 = moto.ec2(instance.launch.region)
    target = _leads(ec2, instance.launch.interfaces[0].subnet)
    return target == "nat" or (target == "internet" and bool(_public_address(ec2, instance)))


def _public_address(ec2: Any, instance: Instance) -> str:
    if instance.public_address:
        return instance.public_address
    found = next((each for each in ec2.all_instances() if each.id == instance.id), None)
    return str(found.public_ip or "") if found is not None else ""


def _leads(ec2: Any, subnet: str) -> str:
    """Return where the default route of a subnet leads: "internet", "nat", or ""."""
    vpc = next(by_id[subnet].vpc_id for by_id in ec2.subnets.values() if subnet in by_id)
    tables = [table for table in ec2.route_tables.values() if table.vpc_id == vpc]
    own = [table for table in tables if subnet in table._associations.values()]
    main = [table for table in tables if table.main_association_id is not None]
    for route in (own or main)[0].routes:
        if route.destination_cidr_block != _ANYWHERE:
            continue
        if route.gateway is not None and route.gateway.id.startswith("igw-"):
            return "internet"
        if route.nat_gateway is not None and route.nat_gateway.state == "available":
            # A public NAT gateway is in a subnet with an internet gateway; a private one leads to other networks only.
            return "nat" if _leads(ec2, route.nat_gateway.subnet_id) == "internet" else ""
        if route.transit_gateway is not None:
            return "nat"
    return ""


def _allows_ssh(rule: Any) -> bool:
    block = rule.ip_range or {}
    if not (block.get("CidrIp") or block.get("CidrIpv6")):
        return False
    return str(rule.ip_protocol) == "-1" or int(rule.from_port or 0) <= _SSH <= int(rule.to_port or 0)
