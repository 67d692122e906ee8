"""Security groups, virtual networks with subnets, public addresses and network interfaces."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, ip_network

from multicompute_azure.local.arm import ArmError, ArmResponse, Json, check_tags, dig, group_id, not_found
from multicompute_azure.local.documents import check_location, crud_handlers, find, find_or_none, find_reference, render
from multicompute_azure.local.listing import Listing
from multicompute_azure.local.operations import Operations
from multicompute_azure.local.relations import detach, refuse_if_used, release_addresses, subnets
from multicompute_azure.local.routes import Call, Handler
from multicompute_azure.local.state import (
    NETWORK,
    NIC,
    PUBLIC_IP,
    SECURITY_GROUP,
    SUBNET,
    AddressPool,
    ArmResource,
    Group,
    State,
    properties,
)

_PRIORITIES = range(100, 4097)
_TYPES = {
    "networkSecurityGroups": SECURITY_GROUP,
    "virtualNetworks": NETWORK,
    "publicIPAddresses": PUBLIC_IP,
    "networkInterfaces": NIC,
}


class Networks:
    """The operations of Microsoft.Network."""

    def __init__(self, state: State, listing: Listing, operations: Operations) -> None:
        """Answer from `state`, with pages by `listing`; changes run as `operations`."""
        self._state = state
        self._listing = listing
        self._operations = operations

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        found: dict[str, Handler] = {
            "securityRules.createOrUpdate": self._put_rule,
            "securityRules.get": self._get_rule,
            "securityRules.delete": self._delete_rule,
            "subnets.createOrUpdate": self._put_subnet,
            "subnets.get": lambda call: ArmResponse(200, self._subnet(find(self._state, call, SUBNET))),
            "subnets.delete": self._delete_subnet,
            "subnets.list": self._list_subnets,
        }
        for plural, type_ in _TYPES.items():
            found |= crud_handlers(
                plural, type_, self._state, self._listing, self.document, self._put, self._patch, self._delete
            )
        return found

    def document(self, item: ArmResource) -> Json:
        """Return the document of a network resource."""
        document = render(item)
        if item.type == NETWORK:
            document["properties"]["subnets"] = [self._subnet(subnet) for subnet in subnets(self._state, item)]
        elif item.type == NIC and item.attached_to:
            document["properties"]["virtualMachine"] = {"id": item.attached_to}
        return document

    def _subnet(self, item: ArmResource) -> Json:
        return {
            "id": item.id,
            "name": item.name,
            "type": SUBNET,
            "properties": {**item.body["properties"], "provisioningState": item.state},
        }

    def _put(self, call: Call, type_: str) -> ArmResponse:
        group = self._state.open_group(call.group)
        existing = find_or_none(self._state, call, type_)
        location = check_location(call, type_, existing)
        tags = check_tags(call.document.get("tags"))
        id_ = f"{group_id(group.name)}/providers/{type_}/{call.name}"
        body = {
            name: value
            for name, value in call.document.items()
            if name in ("sku", "zones", "properties", "extendedLocation")
        }
        body["properties"] = dict(body.get("properties") or {})
        # Every check comes before the first change.
        apply = self._checked(type_)(call, group, id_, location, body)
        failure = call.failure()
        item = existing or self._state.put(group, id_, type_, call.name, location, tags)
        item.tags, item.body, item.state = tags, body, "Updating"
        apply(item)

        def finish() -> None:
            item.state = "Failed" if failure is not None else "Succeeded"

        operation = self._operations.start(call, location, self._state.timing.operation, finish, failure=failure)
        return ArmResponse(200 if existing else 201, self.document(item), self._operations.headers(call, operation))

    def _checked(self, type_: str) -> Callable[[Call, Group, str, str, Json], Callable[[ArmResource], None]]:
        return {
            SECURITY_GROUP: self._security_group,
            NETWORK: self._network,
            PUBLIC_IP: self._public_ip,
            NIC: self._interface,
        }[type_]

    def _security_group(
        self, call: Call, group: Group, id_: str, location: str, body: Json
    ) -> Callable[[ArmResource], None]:
        rules = [dict(rule) for rule in body["properties"].get("securityRules") or ()]
        check_rules(rules)
        body["properties"]["securityRules"] = [_kept_rule(id_, rule) for rule in rules]
        return lambda item: None

    # --- rules, which are resources of their own as well ----------------------------------------------------------------

    def _rules(self, call: Call) -> tuple[ArmResource, list[Json]]:
        """Return the security group in the path, and its rules."""
        group = self._state.group(call.group)
        id_ = f"{group_id(group.name)}/providers/{SECURITY_GROUP}/{call.params['parent']}"
        owner = group.items.get(id_.lower())
        if owner is None:
            raise ArmError("ParentResourceNotFound", f"The parent resource '{id_}' could not be found.", 404)
        return owner, list(properties(owner).get("securityRules") or ())

    def _rule(self, call: Call) -> tuple[ArmResource, list[Json], Json | None]:
        owner, rules = self._rules(call)
        found = next((rule for rule in rules if str(rule["name"]).lower() == call.name.lower()), None)
        return owner, [rule for rule in rules if rule is not found], found

    def _put_rule(self, call: Call) -> ArmResponse:
        """Add or change one rule; the others stay as they are."""
        self._state.open_group(call.group)
        owner, others, old = self._rule(call)
        rule = _kept_rule(owner.id, {**call.document, "name": call.name})
        check_rules([*others, rule])
        failure = call.failure()

        def finish() -> None:
            if failure is None:
                properties(owner)["securityRules"] = [*self._rule(call)[1], rule]

        operation = self._operations.start(call, owner.location, self._state.timing.operation, finish, failure=failure)
        return ArmResponse(201 if old is None else 200, rule, self._operations.headers(call, operation))

    def _get_rule(self, call: Call) -> ArmResponse:
        _, _, found = self._rule(call)
        if found is None:
            raise not_found(f"{SECURITY_GROUP}/securityRules", call.name, call.group)
        return ArmResponse(200, found)

    def _delete_rule(self, call: Call) -> ArmResponse:
        owner, others, found = self._rule(call)
        if found is None:
            return ArmResponse(204)
        properties(owner)["securityRules"] = others
        return ArmResponse(200)

    # --- networks -------------------------------------------------------------------------------------------------------

    def _network(self, call: Call, group: Group, id_: str, location: str, body: Json) -> Callable[[ArmResource], None]:
        given = body["properties"].pop("subnets", None) or []
        ranges = [_range(text, call.name) for text in dig(body, "properties", "addressSpace", "addressPrefixes") or ()]
        if not ranges:
            raise ArmError("InvalidRequestFormat", f"Virtual network {call.name} has no address space.")
        networks = [(str(subnet.get("name")), self._check_subnet(subnet, id_, location, ranges)) for subnet in given]
        _refuse_overlaps(networks)
        kept = {f"{id_}/subnets/{name}".lower() for name, _ in networks}
        old = [item for item in group.items.values() if item.type == SUBNET and item.key.startswith(id_.lower() + "/")]
        gone = [item for item in old if item.key not in kept]
        # A PUT deletes every subnet that it does not name.
        for item in gone:
            refuse_if_used(self._state, item)

        def apply(network: ArmResource) -> None:
            for item in gone:
                self._state.remove(item)
            for subnet in given:
                self._keep_subnet(group, network, subnet)

        return apply

    def _check_subnet(self, subnet: Json, network_id: str, location: str, ranges: list[IPv4Network]) -> IPv4Network:
        name = str(subnet.get("name"))
        prefixes = dig(subnet, "properties", "addressPrefixes") or [dig(subnet, "properties", "addressPrefix")]
        if not prefixes[0]:
            raise ArmError("InvalidRequestFormat", f"Subnet {name} has no address prefix.")
        found = _range(prefixes[0], name)
        if not any(found.subnet_of(outer) for outer in ranges):
            raise ArmError(
                "NetcfgSubnetRangeOutsideVnet",
                f"Subnet '{name}' is not valid because its IP address range is outside the IP address range of virtual network "
                f"'{network_id.rsplit('/', 1)[-1]}'.",
            )
        security_group = dig(subnet, "properties", "networkSecurityGroup", "id")
        if security_group:
            find_reference(self._state, security_group, by=f"{network_id}/subnets/{name}", location=location)
        return found

    def _keep_subnet(self, group: Group, network: ArmResource, subnet: Json) -> ArmResource:
        name = str(subnet["name"])
        id_ = f"{network.id}/subnets/{name}"
        item = group.items.get(id_.lower()) or self._state.put(group, id_, SUBNET, name, network.location, {})
        item.body = {"properties": dict(subnet.get("properties") or {})}
        prefix = item.body["properties"].get("addressPrefix") or item.body["properties"]["addressPrefixes"][0]
        pool = self._state.addresses.get(item.key)
        if pool is None or str(pool.network) != prefix:
            self._state.addresses[item.key] = AddressPool(prefix)
        return item

    def _public_ip(
        self, call: Call, group: Group, id_: str, location: str, body: Json
    ) -> Callable[[ArmResource], None]:
        body.setdefault("sku", {"name": "Standard", "tier": "Regional"})
        method = body["properties"].setdefault("publicIPAllocationMethod", "Static")
        if body["sku"].get("name", "Standard") == "Standard" and method != "Static":
            raise ArmError(
                "StandardSkuPublicIPAddressesMustBeStatic",
                f"Standard sku publicIp {id_} must have AllocationMethod set to Static.",
            )
        return lambda item: properties(item).setdefault("ipAddress", public_address(item.number))

    def _interface(
        self, call: Call, group: Group, id_: str, location: str, body: Json
    ) -> Callable[[ArmResource], None]:
        configs = [dict(config) for config in body["properties"].get("ipConfigurations") or ()]
        if not configs:
            raise ArmError(
                "NetworkInterfaceMustHaveAtLeastOneIpConfiguration",
                f"Network interface {id_} must have one or more IP configurations.",
            )
        pools = []
        for config in configs:
            subnet = dig(config, "properties", "subnet", "id")
            if not subnet:
                raise ArmError("SubnetRequired", f"IP configuration {config.get('name')} of {id_} has no subnet.")
            find_reference(self._state, subnet, by=id_, location=location)
            pools.append(self.pool(subnet, 1))
            public = dig(config, "properties", "publicIPAddress", "id")
            if public:
                find_reference(self._state, public, by=id_, location=location)
        security_group = dig(body, "properties", "networkSecurityGroup", "id")
        if security_group:
            find_reference(self._state, security_group, by=id_, location=location)
        old = group.items.get(id_.lower())
        before = old.body if old is not None else {}

        def apply(item: ArmResource) -> None:
            release_addresses(self._state, before)
            for config, pool in zip(configs, pools, strict=True):
                self._configure(item, config, pool)
            properties(item)["ipConfigurations"] = configs

        return apply

    def _configure(self, item: ArmResource, config: Json, pool: AddressPool) -> None:
        config["id"] = f"{item.id}/ipConfigurations/{config.get('name')}"
        given = config.get("properties") or {}
        config["properties"] = {"privateIPAllocationMethod": "Dynamic", **given, "privateIPAddress": pool.allocate()}
        address = self._state.find(dig(given, "publicIPAddress", "id") or "")
        if address is not None:
            address.attached_to = item.id
            properties(address)["ipConfiguration"] = {"id": config["id"]}

    def pool(self, subnet_id: str, addresses: int) -> AddressPool:
        """Return the free addresses of a subnet; refuse if there are fewer than `addresses`."""
        pool = self._state.addresses[subnet_id.lower()]
        if pool.left < addresses:
            raise ArmError(
                "SubnetIsFull",
                f"Subnet {subnet_id.rsplit('/', 1)[-1]} with address prefix {pool.network} does not have enough capacity for "
                f"{addresses} IP addresses.",
            )
        return pool

    def _patch(self, call: Call, type_: str) -> ArmResponse:
        item = find(self._state, call, type_)
        self._state.open_group(call.group)
        if call.document.get("tags") is not None:
            item.tags = check_tags(call.document["tags"])
        return ArmResponse(200, self.document(item))

    def _delete(self, call: Call, type_: str) -> ArmResponse:
        self._state.group(call.group)
        item = find_or_none(self._state, call, type_)
        if item is None:
            return ArmResponse(204)
        refuse_if_used(self._state, item)
        failure = call.failure()
        item.state = "Deleting"

        def finish() -> None:
            if failure is not None:
                item.state = "Failed"
                return
            for subnet in subnets(self._state, item) if type_ == NETWORK else ():
                self._state.remove(subnet)
            detach(self._state, item)

        operation = self._operations.start(call, item.location, self._state.timing.shutdown, finish, failure=failure)
        return ArmResponse(202, None, self._operations.headers(call, operation))

    def _put_subnet(self, call: Call) -> ArmResponse:
        group = self._state.open_group(call.group)
        network_id = f"{group_id(group.name)}/providers/{NETWORK}/{call.params['parent']}"
        network = group.items.get(network_id.lower())
        if network is None:
            raise ArmError(
                "ParentResourceNotFound",
                f"Failed to perform 'write' on resource(s) of type 'virtualNetworks/subnets', because the parent resource "
                f"'{network_id}' could not be found.",
                404,
            )
        ranges = [
            _range(text, network.name) for text in dig(network.body, "properties", "addressSpace", "addressPrefixes")
        ]
        subnet = {**call.document, "name": call.name}
        mine = self._check_subnet(subnet, network.id, network.location, ranges)
        others = [item for item in subnets(self._state, network) if item.name.lower() != call.name.lower()]
        _refuse_overlaps(
            [(item.name, IPv4Network(self._state.addresses[item.key].network)) for item in others] + [(call.name, mine)]
        )
        is_new = len(others) == len(subnets(self._state, network))
        item = self._keep_subnet(group, network, subnet)
        operation = self._operations.start(call, network.location, self._state.timing.operation, lambda: None)
        return ArmResponse(201 if is_new else 200, self._subnet(item), self._operations.headers(call, operation))

    def _list_subnets(self, call: Call) -> ArmResponse:
        group = self._state.group(call.group)
        network = group.items.get(f"{group_id(group.name)}/providers/{NETWORK}/{call.params['parent']}".lower())
        found = subnets(self._state, network) if network is not None else []
        return self._listing.page_of(call, found, self._subnet)

    def _delete_subnet(self, call: Call) -> ArmResponse:
        item = find_or_none(self._state, call, SUBNET)
        if item is None:
            return ArmResponse(204)
        refuse_if_used(self._state, item)
        operation = self._operations.start(
            call, item.location, self._state.timing.shutdown, lambda: self._state.remove(item)
        )
        return ArmResponse(202, None, self._operations.headers(call, operation))


def public_address(number: int) -> str:
    """Return the public address of a number."""
    return f"20.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def _kept_rule(group_id_: str, rule: Json) -> Json:
    return {
        **rule,
        "id": f"{group_id_}/securityRules/{rule.get('name')}",
        "type": f"{SECURITY_GROUP}/securityRules",
        "properties": {**(rule.get("properties") or {}), "provisioningState": "Succeeded"},
    }


def check_rules(rules: list[Json]) -> None:
    """Refuse security rules with invalid or equal priorities."""
    taken: dict[tuple[str, int], str] = {}
    for rule in rules:
        name, priority = str(rule.get("name")), dig(rule, "properties", "priority")
        if priority not in _PRIORITIES:
            raise ArmError(
                "SecurityRuleInvalidPriority",
                f"Security rule has invalid Priority. Value provided: {priority}. Allowed range 100-4096.",
            )
        key = (str(dig(rule, "properties", "direction")).lower(), priority)
        if key in taken:
            raise ArmError(
                "SecurityRuleConflict",
                f"Security rule {name} conflicts with rule {taken[key]}. Rules cannot have the same Priority and Direction.",
            )
        taken[key] = name


def _range(text: str, owner: str) -> IPv4Network:
    try:
        found = ip_network(text)
    except ValueError as error:
        raise ArmError(
            "InvalidAddressPrefixFormat",
            f"Address prefix {text} of resource {owner} is not formatted correctly. It should follow CIDR notation, for example 10.0.0.0/24.",
        ) from error
    if not isinstance(found, IPv4Network):
        raise ArmError("InvalidAddressPrefixFormat", f"The local Azure has no IPv6: {text} of resource {owner}.")
    return found


def _refuse_overlaps(networks: list[tuple[str, IPv4Network]]) -> None:
    for number, (name, one) in enumerate(networks):
        for other, two in networks[:number]:
            if one.overlaps(two):
                raise ArmError(
                    "NetcfgSubnetRangesOverlap",
                    f"Subnet '{name}' is not valid because its IP address range overlaps with that of an existing subnet: '{other}'.",
                )
