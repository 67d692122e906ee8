"""The security group of a cluster in a region: created once, and opened for the address of every process that launches nodes."""

import hashlib
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.provider import LaunchRequest
from multicompute.provider_kit.ssh import SshSources
from multicompute.provider_kit.vendor_errors import Place, invalid_request, retryable
from multicompute_azure._errors import translate_errors
from multicompute_azure._operations import Operation
from multicompute_azure._session import NETWORK, Clients, path_of

SECURITY_GROUPS: Final = f"{NETWORK}/networkSecurityGroups"
# Azure has no service of its own for it.
_ADDRESS_SERVICE: Final = "https://api.ipify.org"
_CREATE: Final = "networkSecurityGroups.createOrUpdate"
_ADD: Final = "securityRules.createOrUpdate"
# "Azure network security groups overview": 100 to 4096, each once per direction.
_PRIORITIES: Final = range(1000, 4000)
# Another process has taken the priority since the rules were read (Azure/terraform's and other reports of the code).
_TAKEN: Final = "SecurityRuleConflict"


class SecurityGroups:
    """The security groups of clusters."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        settings = clients.settings
        self._sources = SshSources(settings.ssh_from, endpoint=settings.endpoint_url, address_service=_ADDRESS_SERVICE)

    def sources(self, request: LaunchRequest, place: Place) -> tuple[str, ...]:
        """Return the blocks from which port 22 must be open for the launch; none for private nodes or without a key.

        Raises:
            InvalidRequestError: The caller's address can't be found, so nodes would run that nobody can reach.
        """
        if not request.opens_ssh:
            return ()
        blocks = self._sources.blocks(place)
        if not blocks:
            text = "nobody could reach the nodes: SSH is allowed from the caller's address only, which can't be found"
            hint = "set [providers.azure] ssh_from to the CIDR blocks to allow, or pass private=True"
            raise invalid_request(text, code="NoSshSource", place=place, scope="account", hint=hint)
        return blocks

    def begin(self, group: str, name: str, request: LaunchRequest, place: Place) -> tuple[str, Operation | None]:
        """Begin to create the security group, or to add what the launch needs to one that exists; its other rules are kept.

        Azure's default rules allow traffic within the network only; SSH is added if a key is given.

        Returns:
            The name of the call and its operation, None if the group has all that is needed.
        """
        blocks = self.sources(request, place)
        found = self._clients.find("networkSecurityGroups.get", place, path_of(group, SECURITY_GROUPS, name))
        if found is not None:
            return _ADD, self._add(group, name, blocks, found, place)
        properties = {"securityRules": [_ssh_rule(blocks, _PRIORITIES[0])] if blocks else []}
        body: Any = {"location": place.region, "tags": dict(request.tags), "properties": properties}
        operation = self._clients.operation()
        groups: Any = self._clients.network.network_security_groups
        with translate_errors(_CREATE, place):
            groups.begin_create_or_update(group, name, body, polling=operation)
        return _CREATE, operation

    def open(self, group: str, name: str, place: Place) -> tuple[str, Operation | None]:
        """Begin to open port 22 to the caller, as `begin` does for a launch; without a security group there is nothing to open."""
        found = self._clients.find("networkSecurityGroups.get", place, path_of(group, SECURITY_GROUPS, name))
        if found is None:
            return _ADD, None
        return _ADD, self._add(group, name, self._sources.blocks(place), found, place)

    def _add(
        self, group: str, name: str, blocks: tuple[str, ...], found: dict[str, Any], place: Place
    ) -> Operation | None:
        """Begin to add a rule for the blocks that no rule allows yet. A rule is a resource of its own, so no other is written."""
        rules = (found.get("properties") or {}).get("securityRules") or ()
        missing = tuple(block for block in blocks if not any(_allows(rule, block) for rule in rules))
        if not missing:
            return None
        taken = {(rule.get("properties") or {}).get("priority") for rule in rules}
        priority = next(number for number in _PRIORITIES if number not in taken)
        rule: Any = _ssh_rule(missing, priority)
        operation = self._clients.operation()
        all_rules: Any = self._clients.network.security_rules
        try:
            with translate_errors(_ADD, place):
                all_rules.begin_create_or_update(group, name, rule["name"], rule, polling=operation)
        except MulticomputeError as error:
            if error.code == _TAKEN:
                text = f"another process has changed the security group {name}"
                raise retryable(text, code=_TAKEN, place=place) from error
            raise
        return operation


def _allows(rule: dict[str, Any], block: str) -> bool:
    """Return whether a rule is one of ours, or one like it, for this block."""
    properties = rule.get("properties") or {}
    sources = [properties.get("sourceAddressPrefix"), *(properties.get("sourceAddressPrefixes") or ())]
    ports = [properties.get("destinationPortRange"), *(properties.get("destinationPortRanges") or ())]
    is_open = (properties.get("direction"), properties.get("access")) == ("Inbound", "Allow")
    return is_open and block in sources and "22" in ports


def _ssh_rule(blocks: tuple[str, ...], priority: int) -> dict[str, Any]:
    """Return the rule that opens port 22 for these blocks, named after them, so that every process adds its own."""
    digest = hashlib.sha256(",".join(blocks).encode()).hexdigest()[:12]
    return {
        "name": f"ssh-{digest}",
        "properties": {
            "priority": priority,
            "direction": "Inbound",
            "access": "Allow",
            "protocol": "Tcp",
            "sourceAddressPrefixes": list(blocks),
            "sourcePortRange": "*",
            "destinationAddressPrefix": "*",
            "destinationPortRange": "22",
        },
    }
